//! What is in other network namespaces.

use std::collections::BTreeSet;

use rustix::io::Errno;

use crate::attributes::{Attributes, MalformedError};
use crate::connection::RawMessage;
use crate::netlink::{LinksError, Netlink, VfMask, decode_all, get_link};

const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const IFLA_TARGET_NETNSID: u16 = 46;
/// `struct rtgenmsg`, padded.
const HEADER: usize = 4;

impl Netlink {
    /// The devices (`IFLA_PARENT_DEV_NAME`: a PCI address, for a VF) that have a netdev in another network namespace.
    ///
    /// These are the namespaces that have an id in this one, which a namespace is given when a netdev is moved to it
    /// from here (net/core/dev.c, `dev_change_net_namespace`, since 4.16). Kernels before 5.14 do not tell whose child a
    /// netdev is; there the set is empty.
    pub async fn devices_in_other_namespaces(&self) -> Result<BTreeSet<String>, LinksError> {
        let error = |source| LinksError { source };
        let request = RawMessage { kind: RTM_GETNSID, body: vec![0; HEADER] };
        let messages = self.connection.dump(request, self.deadline).await.map_err(error)?;
        let ids = messages
            .iter()
            .filter(|message| message.kind == RTM_NEWNSID)
            .filter_map(|message| namespace_id(&message.body).transpose())
            .collect::<Result<BTreeSet<i32>, _>>()
            .map_err(|malformed| error(malformed.into()))?;
        let mut devices = BTreeSet::new();
        for id in ids {
            let messages = match self.connection.dump(get_link_in(id), self.deadline).await {
                Ok(messages) => messages,
                // It has ended since (net/core/rtnetlink.c, `rtnl_get_net_ns_capable`).
                Err(refused) if refused.errno() == Some(Errno::INVAL) => {
                    tracing::debug!(id, "a network namespace has gone meanwhile");
                    continue;
                }
                Err(source) => return Err(error(source)),
            };
            let links = decode_all(&messages).map_err(|malformed| error(malformed.into()))?;
            devices.extend(links.into_iter().filter_map(|link| link.parent_device));
        }
        Ok(devices)
    }
}

/// The id in a `RTM_NEWNSID`.
fn namespace_id(body: &[u8]) -> Result<Option<i32>, MalformedError> {
    let attributes = Attributes::new(body.get(HEADER..).unwrap_or_default());
    let Some(id) = attributes.find(NETNSA_NSID)? else { return Ok(None) };
    let bytes = id.value.first_chunk().ok_or_else(|| MalformedError("a short namespace id".to_owned()))?;
    Ok(Some(i32::from_ne_bytes(*bytes)))
}

/// `RTM_GETLINK` for all links of the namespace with this id.
fn get_link_in(id: i32) -> RawMessage {
    let mut message = get_link(None, VfMask::Without);
    message.body.extend(8_u16.to_ne_bytes());
    message.body.extend(IFLA_TARGET_NETNSID.to_ne_bytes());
    message.body.extend(id.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read() {
        let body = |value: &[u8]| {
            let mut body = vec![0; HEADER];
            body.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
            body.extend(NETNSA_NSID.to_ne_bytes());
            body.extend(value);
            body
        };
        assert_eq!(namespace_id(&body(&7_i32.to_ne_bytes())).unwrap(), Some(7));
        assert_eq!(namespace_id(&[0; HEADER]).unwrap(), None);
        assert_eq!(namespace_id(&[]).unwrap(), None);
        namespace_id(&body(&[7])).unwrap_err();
    }

    #[test]
    fn links_of_a_namespace_are_asked_for_by_its_id() {
        let (here, there) = (get_link(None, VfMask::Without).body, get_link_in(7).body);
        let added = there.strip_prefix(here.as_slice()).unwrap();
        let id = Attributes::new(added).find(IFLA_TARGET_NETNSID).unwrap().unwrap();
        assert_eq!(id.value, 7_i32.to_ne_bytes());
    }
}
