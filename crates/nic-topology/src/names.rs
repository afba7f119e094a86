use std::collections::BTreeMap;

use nic_netlink::IfIndex;

use crate::NetworkState;

/// The names of the saved links, to be looked up many times.
pub(crate) struct Names<'saved>(BTreeMap<IfIndex, &'saved str>);

impl<'saved> Names<'saved> {
    pub(crate) fn of(saved: &'saved NetworkState) -> Self {
        Self(saved.links.iter().map(|link| (link.index, link.name.as_str())).collect())
    }

    /// The saved link's name; its index where it is none of these.
    pub(crate) fn name(&self, index: IfIndex) -> String {
        self.0.get(&index).map_or_else(|| format!("ifindex {index}"), |name| (*name).to_owned())
    }
}
