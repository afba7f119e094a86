//! What stands on links of this network namespace from within others.

use std::collections::BTreeSet;

use rustix::io::Errno;

use crate::attributes::{Attributes, MalformedError};
use crate::body::Body;
use crate::connection::{RawMessage, RequestError};
use crate::netlink::{LinksError, Netlink, VfMask, decode_all, get_link};
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

impl Netlink {
    /// The links in other network namespaces that stand on links of this one. The kernel removes them with these.
    ///
    /// The namespaces are those that have an id in this one, as one has with which this one shares a pair of veth links, or to which a netdev
    /// was moved from here (`dev_change_net_namespace` in `net/core/dev.c`). They are asked once each, all at once.
    ///
    /// # Errors
    /// What the kernel said to one of the questions. A namespace that has ended meanwhile is none.
    pub async fn links_elsewhere(&self) -> Result<Vec<LinkElsewhere>, LinksError> {
        self.find_elsewhere().await.map_err(|source| LinksError { source })
    }

    async fn find_elsewhere(&self) -> Result<Vec<LinkElsewhere>, RequestError> {
        let request = RawMessage { kind: RTM_GETNSID, body: vec![0; HEADER] };
        let messages = self.connection.dump(request, self.deadline).await?;
        let ids = ids(&messages)?;
        let dump = async |id: i32| match self.connection.dump(get_link_in(id), self.deadline).await {
            // It has ended since (net/core/rtnetlink.c, `rtnl_get_net_ns_capable`).
            Err(refused) if refused.errno() == Some(Errno::INVAL) => Ok((id, Vec::new())),
            answer => answer.map(|messages| (id, messages)),
        };
        let dumps = futures_util::future::join_all(ids.into_iter().map(dump)).await;
        // A link names the namespace of the one below it by the id that this has here: asked for afterwards, since the kernel may have given
        // it with these answers (`rtnl_fill_link_netnsid` in net/core/rtnetlink.c).
        let Some(own) = self.own_id().await? else { return Ok(Vec::new()) };
        let mut elsewhere = Vec::new();
        for answer in dumps {
            let (id, messages) = answer?;
            let links = if id == own { Vec::new() } else { decode_all(&messages)? };
            elsewhere.extend(links.into_iter().filter(|link| link.link_netns_id == Some(own)).filter_map(
                |link| Some(LinkElsewhere { name: link.name, kind: link.kind, lower: link.link? }),
            ));
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
    fn links_of_a_namespace_are_asked_for_by_its_id() {
        let (here, there) = (get_link(None, VfMask::Without).body, get_link_in(7).body);
        let added = there.strip_prefix(here.as_slice()).unwrap();
        let id = Attributes::new(added).find(IFLA_TARGET_NETNSID).unwrap().unwrap();
        assert_eq!(id.value, 7_i32.to_ne_bytes());
    }
}
