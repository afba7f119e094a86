use std::time::Duration;

use rustix::io::Errno;

use crate::attributes::MalformedError;
use crate::body::Body;
use crate::change::{self, LinkChange, RTM_GETLINK, VfChange};
use crate::connection::{ConnectError, Connection, RawMessage, RequestError};
use crate::decode;
use crate::{IfIndex, Link, LinkName, Links, VfList};

const NETLINK_ROUTE: isize = 0;

/// A connection to the kernel's routing netlink, in the network namespace of the thread that opened it.
///
/// Cloning is cheap, and the clones share the connection. It can be opened anywhere; its asynchronous methods want a
/// tokio runtime with timers.
///
/// There is no form of it for a tree that is not the running machine: see [`Links::recorded`].
#[derive(Debug, Clone)]
pub struct Netlink {
    pub(crate) connection: Connection,
    pub(crate) deadline: Duration,
}

/// The links could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the network interfaces")]
pub struct LinksError {
    /// What went wrong with the request.
    #[source]
    pub source: RequestError,
}

/// A link could not be read. That it does not exist is not an error.
#[derive(Debug, thiserror::Error)]
#[error("cannot read network interface {index}")]
pub struct LinkError {
    /// The link's index.
    pub index: IfIndex,
    /// What went wrong with the request.
    #[source]
    pub source: RequestError,
}

/// A link could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {change} of {}", shown(*index, name.as_ref()))]
pub struct ChangeError {
    /// The link's index.
    pub index: IfIndex,
    /// The name it had when the change failed, where that could be read.
    pub name: Option<LinkName>,
    /// What was asked for.
    pub change: LinkChange,
    /// Why not.
    #[source]
    pub source: RequestError,
}

impl ChangeError {
    /// The kernel's errno, where it refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.source.errno()
    }
}

/// Attributes of a VF could not be changed. Of several, those before the one that was refused are, and which that was is not told.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {} of VF {vf} of {}", listed(changes), shown(*pf, name.as_ref()))]
pub struct VfChangeError {
    /// The PF's index.
    pub pf: IfIndex,
    /// The name the PF had when the change failed, where that could be read.
    pub name: Option<LinkName>,
    /// The VF's number.
    pub vf: u32,
    /// What was asked for.
    pub changes: Vec<VfChange>,
    /// Why not.
    #[source]
    pub source: RequestError,
}

impl VfChangeError {
    /// The kernel's errno, where it refused: EOPNOTSUPP where the driver has no such setting, EINVAL where there is no
    /// such VF.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.source.errno()
    }
}

fn listed(changes: &[VfChange]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn shown(index: IfIndex, name: Option<&LinkName>) -> String {
    match name {
        Some(name) => format!("{name} (ifindex {index})"),
        None => format!("ifindex {index}"),
    }
}

impl Netlink {
    /// Opens a connection whose requests have a deadline of 10 s each.
    pub fn connect() -> Result<Self, ConnectError> {
        Ok(Self { connection: Connection::open(NETLINK_ROUTE)?, deadline: Duration::from_secs(10) })
    }

    /// The same connection, with another deadline for each request.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { connection: self.connection.clone(), deadline }
    }

    /// Every link of the namespace, read at once.
    ///
    /// A list that changed while it was read is read again: links can be missing from it. A link of which the kernel's message cannot be read
    /// is not known ([`Links::unread`]), and the others are.
    pub async fn links(&self) -> Result<Links, LinksError> {
        let error = |source| LinksError { source };
        let messages =
            self.connection.dump(get_link(None, VfMask::Without), self.deadline).await.map_err(error)?;
        decode_each(&messages).map_err(|malformed| error(malformed.into()))
    }

    /// One link; `None` where there is no link of this index in the namespace.
    ///
    /// No answer in time is an error, and not absence.
    pub async fn link(&self, index: IfIndex) -> Result<Option<Link>, LinkError> {
        let error = |source| LinkError { index, source };
        match self.connection.request(get_link(Some(index), VfMask::Without), 0, self.deadline).await {
            Ok(messages) => match decode_all(&messages) {
                Ok(links) => Ok(links.into_iter().find(|link| link.index == index)),
                Err(malformed) => Err(error(malformed.into())),
            },
            Err(refused) if refused.errno() == Some(Errno::NODEV) => Ok(None),
            Err(source) => Err(error(source)),
        }
    }

    /// What the PF's driver says of its VFs; `None` where there is no link of this index in the namespace.
    ///
    /// It is a question of its own: kernels before 6.15 reckon without the VFs' GUIDs when they make room for the answer about one link
    /// (net/core/rtnetlink.c, `rtnl_vfinfo_size`), and refuse with EMSGSIZE. A list of all links is then asked for, for which there is as
    /// much room as the reader has (net/netlink/af_netlink.c, `netlink_dump`).
    ///
    /// # Errors
    /// What the kernel said. What it says of a single VF is no error here: see [`VfList::get`].
    pub async fn vfs(&self, pf: IfIndex) -> Result<Option<VfList>, LinkError> {
        let error = |source| LinkError { index: pf, source };
        let one = self.connection.request(get_link(Some(pf), VfMask::With), 0, self.deadline).await;
        let messages = match one {
            Ok(messages) => messages,
            Err(refused) if refused.errno() == Some(Errno::NODEV) => return Ok(None),
            Err(refused) if refused.errno() == Some(Errno::MSGSIZE) => {
                tracing::debug!(%pf, "the kernel has no room for the VFs of one link; asking for those of all");
                self.connection.dump(get_link(None, VfMask::With), self.deadline).await.map_err(error)?
            }
            Err(source) => return Err(error(source)),
        };
        VfList::of_messages(messages.iter().filter(|message| message.kind == change::RTM_NEWLINK), pf)
            .map_err(|malformed| error(malformed.into()))
    }

    /// Changes a link.
    pub async fn change(&self, index: IfIndex, change: &LinkChange) -> Result<(), ChangeError> {
        tracing::debug!(%index, %change, "change link");
        let (message, flags) = change::link_message(index, change);
        match self.connection.request(message, flags, self.deadline).await {
            Ok(_) => Ok(()),
            Err(source) => {
                let name = self.name_for_error(index, &source).await;
                Err(ChangeError { index, name, change: change.clone(), source })
            }
        }
    }

    /// Changes one attribute of one VF of the PF with index `pf`.
    pub async fn change_vf(&self, pf: IfIndex, vf: u32, change: &VfChange) -> Result<(), VfChangeError> {
        self.change_vf_at_once(pf, vf, std::slice::from_ref(change)).await
    }

    /// Changes attributes of one VF of the PF with index `pf`, in one message and in this order.
    ///
    /// # Errors
    /// The kernel refuses one of them, and does nothing of those behind it; what comes before it is done. Its log then says that a link may be
    /// inconsistent. To tell which one it was, they are to be tried one by one.
    pub async fn change_vf_at_once(
        &self,
        pf: IfIndex,
        vf: u32,
        changes: &[VfChange],
    ) -> Result<(), VfChangeError> {
        tracing::debug!(%pf, vf, changes = listed(changes), "change VF");
        match self.connection.request(change::vf_message(pf, vf, changes), 0, self.deadline).await {
            Ok(_) => Ok(()),
            Err(source) => {
                let name = self.name_for_error(pf, &source).await;
                Err(VfChangeError { pf, name, vf, changes: changes.to_vec(), source })
            }
        }
    }

    /// The link's present name, for a message about a refusal. A kernel that has just not answered is not asked.
    async fn name_for_error(&self, index: IfIndex, error: &RequestError) -> Option<LinkName> {
        error.errno()?;
        match self.link(index).await {
            Ok(link) => link.map(|link| link.name),
            Err(error) => {
                tracing::debug!(%error, "the error message will lack the interface's name");
                None
            }
        }
    }
}

/// All links, each by itself. A message that does not even tell which link it is of is of all of them.
fn decode_each(messages: &[RawMessage]) -> Result<Links, MalformedError> {
    let mut links = Links::default();
    for message in messages.iter().filter(|message| message.kind == change::RTM_NEWLINK) {
        match decode::link(&message.body) {
            Ok(link) => link.into_iter().for_each(|link| links.update(link)),
            Err(malformed) => {
                let (header, _) = decode::LinkHeader::split(&message.body)?;
                tracing::warn!(index = %header.index, error = %malformed, "a link is not known: what the kernel says of it cannot be read");
                links.set_unread(header.index, malformed.to_string());
            }
        }
    }
    Ok(links)
}

pub(crate) fn decode_all(messages: &[RawMessage]) -> Result<Vec<Link>, MalformedError> {
    messages
        .iter()
        .filter(|message| message.kind == change::RTM_NEWLINK)
        .filter_map(|message| decode::link(&message.body).transpose())
        .collect()
}

/// Whether a link is asked for with its VFs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VfMask {
    With,
    Without,
}

/// `RTM_GETLINK`, without statistics, which would make an answer with VFs a third longer.
pub(crate) fn get_link(index: Option<IfIndex>, vfs: VfMask) -> RawMessage {
    const IFLA_EXT_MASK: u16 = 29;
    const RTEXT_FILTER_VF: u32 = 1;
    const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
    let index = index.map_or(0, |index| index.0).to_ne_bytes();
    let mask = match vfs {
        VfMask::With => RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS,
        VfMask::Without => RTEXT_FILTER_SKIP_STATS,
    };
    let mut body = Body::new(&[[0; 4], index, [0; 4], [0; 4]].concat());
    body.u32(IFLA_EXT_MASK, mask);
    RawMessage { kind: RTM_GETLINK, body: body.finish() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Attributes;

    #[test]
    fn fault_2_a_link_that_cannot_be_read_is_not_known_and_the_others_are() {
        const IFLA_IFNAME: u16 = 3;
        let message = |index: u32, name: &[u8]| {
            let mut body = Body::new(&[[0; 4], index.to_ne_bytes(), [0; 4], [0; 4]].concat());
            body.bytes(IFLA_IFNAME, name);
            RawMessage { kind: change::RTM_NEWLINK, body: body.finish() }
        };
        let messages = [message(1, b"lo\0"), message(2, b"a name/of nobody\0"), message(3, b"eth0\0")];
        let links = decode_each(&messages).unwrap();
        assert_eq!(links.iter().map(|link| link.index.0).collect::<Vec<_>>(), [1, 3]);
        assert!(links.has_unread() && links.unread(IfIndex(2)).unwrap().contains("no valid name"));
        assert_eq!((links.unread(IfIndex(1)), links.unread(IfIndex(4))), (None, None));
        let cut = RawMessage { kind: change::RTM_NEWLINK, body: vec![0; 8] };
        assert!(decode_each(&[cut]).is_err());
    }

    #[test]
    fn fault_2_5_a_link_is_asked_for_without_its_vfs() {
        const IFLA_EXT_MASK: u16 = 29;
        let mask = |vfs| {
            let message = get_link(Some(IfIndex(7)), vfs);
            Attributes::new(&message.body[16..]).find(IFLA_EXT_MASK).unwrap().unwrap().u32().unwrap()
        };
        assert_eq!((mask(VfMask::Without) & 1, mask(VfMask::With) & 1), (0, 1));
    }
}
