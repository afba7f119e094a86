//! What stands on links of this network namespace from within others.

use std::collections::BTreeSet;

use nic_host::error_chain;
use rustix::io::Errno;

use crate::attributes::{Attributes, MalformedError};
use crate::body::Body;
use crate::change::RTM_NEWLINK;
use crate::connection::{RawMessage, RequestError};
use crate::decode;
use crate::netlink::{LinksError, Netlink, VfMask, get_link};
use crate::{IfIndex, LinkName};

const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_PID: u16 = 2;
const IFLA_TARGET_NETNSID: u16 = 46;
/// `struct rtgenmsg`, padded.
const HEADER: usize = 4;

/// A link in another network namespace that stands on one of this: a container's macvlan, ipvlan or VLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkElsewhere {
    /// Its name there.
    pub name: LinkName,
    /// The kernel's word for its kind, such as `macvlan`.
    pub kind: Option<String>,
    /// The link of this namespace below it.
    pub lower: IfIndex,
}

/// What is found in other network namespaces.
#[derive(Debug, Clone, Default)]
pub struct Elsewhere {
    /// The links that stand on one of this namespace.
    pub links: Vec<LinkElsewhere>,
    /// What could not be told, in a line each: a namespace, or a link of one. It may stand on one of this.
    pub not_known: Vec<String>,
}

impl Netlink {
    /// The links in other network namespaces that stand on links of this one. The kernel removes them with these.
    ///
    /// The namespaces are those that have an id in this one, as one has with which this one shares a pair of veth links, or to which a netdev
    /// was moved from here (`dev_change_net_namespace` in `net/core/dev.c`). They are asked once each, all at once.
    ///
    /// # Errors
    /// What the kernel said when it was asked for the namespaces. What it says of one of them is no error here, and a namespace that has ended meanwhile is
    /// none.
    pub async fn links_elsewhere(&self) -> Result<Elsewhere, LinksError> {
        self.find_elsewhere().await.map_err(|source| LinksError { source })
    }

    async fn find_elsewhere(&self) -> Result<Elsewhere, RequestError> {
        let request = RawMessage { kind: RTM_GETNSID, body: vec![0; HEADER] };
        let messages = self.connection.dump(request, self.deadline).await?;
        let ids = ids(&messages)?;
        let dump = async |id: i32| match self.connection.dump(get_link_in(id), self.deadline).await {
            // It has ended since (net/core/rtnetlink.c, `rtnl_get_net_ns_capable`).
            Err(refused) if refused.errno() == Some(Errno::INVAL) => (id, Ok(Vec::new())),
            answer => (id, answer),
        };
        let dumps = futures_util::future::join_all(ids.into_iter().map(dump)).await;
        // A link names the namespace of the one below it by the id that this has here: asked for afterwards, since the kernel may have given
        // it with these answers (`rtnl_fill_link_netnsid` in net/core/rtnetlink.c).
        let Some(own) = self.own_id().await? else { return Ok(Elsewhere::default()) };
        let mut elsewhere = Elsewhere::default();
        for (id, answer) in dumps.into_iter().filter(|(id, _)| *id != own) {
            match answer {
                Ok(messages) => elsewhere.read_namespace(id, own, &messages),
                Err(error) => elsewhere
                    .not_known
                    .push(format!("the network namespace with the id {id}: {}", error_chain(&error))),
            }
        }
        Ok(elsewhere)
    }

    /// The id that this namespace has in itself, if the kernel has given it one.
    async fn own_id(&self) -> Result<Option<i32>, RequestError> {
        let mut body = Body::new(&[0; HEADER]);
        body.u32(NETNSA_PID, std::process::id());
        let question = RawMessage { kind: RTM_GETNSID, body: body.finish() };
        let messages = self.connection.request(question, 0, self.deadline).await?;
        Ok(ids(&messages)?.into_iter().next())
    }
}

impl Elsewhere {
    /// The links of the namespace with the id `id` that stand on one of `own`, each by itself.
    fn read_namespace(&mut self, id: i32, own: i32, messages: &[RawMessage]) {
        for message in messages.iter().filter(|message| message.kind == RTM_NEWLINK) {
            match decode::link(&message.body) {
                Ok(link) => {
                    self.links.extend(link.filter(|link| link.link_netns_id == Some(own)).and_then(|link| {
                        Some(LinkElsewhere { name: link.name, kind: link.kind, lower: link.link? })
                    }));
                }
                Err(malformed) => {
                    self.not_known
                        .push(format!("a link of the network namespace with the id {id}: {malformed}"));
                }
            }
        }
    }
}

/// The ids in `RTM_NEWNSID`s. None is -1 (`NETNSA_NSID_NOT_ASSIGNED`).
fn ids(messages: &[RawMessage]) -> Result<BTreeSet<i32>, MalformedError> {
    let of_ids = messages.iter().filter(|message| message.kind == RTM_NEWNSID);
    let ids = of_ids.filter_map(|message| namespace_id(&message.body).transpose());
    Ok(ids.collect::<Result<BTreeSet<i32>, _>>()?.into_iter().filter(|id| *id >= 0).collect())
}

fn namespace_id(body: &[u8]) -> Result<Option<i32>, MalformedError> {
    let attributes = Attributes::new(body.get(HEADER..).unwrap_or_default());
    attributes.find(NETNSA_NSID)?.map(|id| id.i32()).transpose()
}

/// `RTM_GETLINK` for all links of the namespace with this id.
fn get_link_in(id: i32) -> RawMessage {
    let message = get_link(None, VfMask::Without);
    let mut body = Body::new(&message.body);
    body.bytes(IFLA_TARGET_NETNSID, &id.to_ne_bytes());
    RawMessage { body: body.finish(), ..message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read() {
        let message = |value: &[u8]| {
            let mut body = vec![0; HEADER];
            body.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
            body.extend(NETNSA_NSID.to_ne_bytes());
            body.extend(value);
            RawMessage { kind: RTM_NEWNSID, body }
        };
        let of = |value: i32| message(&value.to_ne_bytes());
        assert_eq!(ids(&[of(7), of(-1), of(0)]).unwrap(), BTreeSet::from([0, 7]));
        assert_eq!(ids(&[RawMessage { kind: RTM_NEWNSID, body: Vec::new() }]).unwrap(), BTreeSet::new());
        ids(&[message(&[7])]).unwrap_err();
    }

    #[test]
    fn fault_2_a_link_of_another_namespace_that_cannot_be_read_is_not_known_and_the_others_are() {
        const IFLA_IFNAME: u16 = 3;
        const IFLA_LINK: u16 = 5;
        const IFLA_LINK_NETNSID: u16 = 37;
        let message = |index: u32, name: &[u8]| {
            let mut body = Body::new(&[[0; 4], index.to_ne_bytes(), [0; 4], [0; 4]].concat());
            body.bytes(IFLA_IFNAME, name);
            body.u32(IFLA_LINK, 9);
            body.u32(IFLA_LINK_NETNSID, 0);
            RawMessage { kind: RTM_NEWLINK, body: body.finish() }
        };
        let mut elsewhere = Elsewhere::default();
        elsewhere.read_namespace(4, 0, &[message(2, b"a name/of nobody\0"), message(3, b"net1\0")]);
        let links: Vec<_> = elsewhere.links.iter().map(|link| (link.name.as_str(), link.lower.0)).collect();
        assert_eq!(links, [("net1", 9)]);
        let [not_known] = &elsewhere.not_known[..] else { panic!("{elsewhere:?}") };
        assert!(not_known.starts_with("a link of the network namespace with the id 4: "), "{not_known}");
    }

    #[test]
    fn links_of_a_namespace_are_asked_for_by_its_id() {
        let (here, there) = (get_link(None, VfMask::Without).body, get_link_in(7).body);
        let added = there.strip_prefix(here.as_slice()).unwrap();
        let id = Attributes::new(added).find(IFLA_TARGET_NETNSID).unwrap().unwrap();
        assert_eq!(id.value, 7_i32.to_ne_bytes());
    }
}
