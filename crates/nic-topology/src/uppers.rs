//! What the kernel shows above links, whatever kind that is.

use std::collections::{BTreeMap, BTreeSet};

use nic_host::{Host, ListError};
use nic_netlink::IfIndex;

use crate::Network;
use crate::going::links_that_go;
use crate::state::by_name;

impl Network {
    /// Asks what stands on `devices`, and on what goes with them, whatever its kind: `upper_*` in sysfs
    /// (`netdev_adjacent_sysfs_add` in `net/core/dev.c`). A kind of which nothing else is known shows here.
    ///
    /// A link that has no folder in sysfs stays without an answer: it is gone by now, or sysfs is another namespace's.
    pub fn read_uppers(&mut self, host: &Host, devices: &[IfIndex]) -> Result<(), ListError> {
        let mut asked = BTreeSet::new();
        let by_name: BTreeMap<String, IfIndex> =
            by_name(self).into_iter().map(|(name, link)| (name.to_owned(), link.link.index)).collect();
        let lacks_links = self.unread.iter().any(|entry| entry.list == "links");
        loop {
            let goes = links_that_go(self, devices);
            let to_ask: Vec<(IfIndex, String)> = goes
                .into_iter()
                .filter(|index| asked.insert(*index))
                .filter_map(|index| Some((index, self.links.get(&index)?.link.name.to_string())))
                .collect();
            if to_ask.is_empty() {
                return Ok(());
            }
            for (index, name) in to_ask {
                let entries = host.list_if_exists(format!("/sys/class/net/{name}"))?;
                if entries.is_empty() {
                    continue;
                }
                let names = entries.iter().filter_map(|entry| entry.strip_prefix("upper_"));
                let mut uppers = Vec::new();
                for name in names {
                    match by_name.get(name) {
                        Some(upper) => uppers.push(*upper),
                        // It may have come or gone since the links were listed.
                        None if !lacks_links => {}
                        None => self.unread_uppers.entry(index).or_default().push(name.to_owned()),
                    }
                }
                self.uppers.insert(index, uppers);
            }
        }
    }
}
