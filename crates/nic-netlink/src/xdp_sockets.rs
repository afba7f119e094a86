//! Sockets of AF_XDP, which the kernel takes off an interface that goes.
//!
//! The messages are in `include/uapi/linux/xdp_diag.h`, what the kernel makes of them is in `net/xdp/xsk_diag.c`.

use crate::IfIndex;
use crate::attributes::{Attributes, MalformedError};
use crate::connection::{ConnectError, Connection, RawMessage, RequestError};
use crate::netlink::Netlink;

const NETLINK_SOCK_DIAG: isize = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_XDP: u8 = 44;
/// Asks for the interface of each.
const XDP_SHOW_INFO: u32 = 1;
const XDP_DIAG_INFO: u16 = 1;
/// `struct xdp_diag_msg`: family, type, padding, inode, cookie.
const HEADER: usize = 16;

/// A socket of AF_XDP that is bound to an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XdpSocket {
    /// Its inode, by which `/proc/<pid>/fd` names it.
    pub inode: u64,
    /// The interface.
    pub interface: IfIndex,
    /// The interface's queue.
    pub queue: u32,
}

/// The sockets of AF_XDP could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum XdpSocketsError {
    /// There is no connection to the kernel.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The kernel does not tell them: ENOENT where it has no `xsk_diag`.
    #[error("cannot list the sockets of AF_XDP")]
    List(#[source] RequestError),
}

impl Netlink {
    /// The sockets of AF_XDP of this network namespace that are bound. To ask has the kernel load `xsk_diag`.
    ///
    /// # Errors
    /// What the kernel said, or what of its answer is not understood.
    pub async fn xdp_sockets(&self) -> Result<Vec<XdpSocket>, XdpSocketsError> {
        let connection = Connection::open(NETLINK_SOCK_DIAG)?;
        let answer = connection.dump(question(), self.deadline).await.map_err(XdpSocketsError::List)?;
        let sockets = answer.iter().filter_map(|message| socket(message).transpose());
        sockets.collect::<Result<_, _>>().map_err(|malformed| XdpSocketsError::List(malformed.into()))
    }
}

/// `struct xdp_diag_req`: family, protocol, padding, inode, what is to be shown, cookie.
fn question() -> RawMessage {
    let mut body = vec![AF_XDP, 0, 0, 0];
    body.extend([0; 4]);
    body.extend(XDP_SHOW_INFO.to_ne_bytes());
    body.extend([0; 8]);
    RawMessage { kind: SOCK_DIAG_BY_FAMILY, body }
}

/// `None` for one that is bound to no interface.
fn socket(message: &RawMessage) -> Result<Option<XdpSocket>, MalformedError> {
    let Some((header, attributes)) =
        message.body.split_at_checked(HEADER).filter(|_| message.kind == SOCK_DIAG_BY_FAMILY)
    else {
        return Ok(None);
    };
    let inode = header.get(4..).and_then(|bytes| bytes.first_chunk()).copied().map_or(0, u32::from_ne_bytes);
    let Some(info) = Attributes::new(attributes).find(XDP_DIAG_INFO)? else { return Ok(None) };
    let (interface, queue) = (info.u32_at(0)?, info.u32_at(4)?);
    let socket = XdpSocket { inode: inode.into(), interface: IfIndex(interface), queue };
    Ok((interface != 0).then_some(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_4_a_socket_tells_its_interface() {
        let header = [&[AF_XDP, 3, 0, 0][..], &4711_u32.to_ne_bytes(), &[0; 8]].concat();
        let told = |interface: u32| {
            let info = [
                &12_u16.to_ne_bytes()[..],
                &XDP_DIAG_INFO.to_ne_bytes(),
                &interface.to_ne_bytes(),
                &2_u32.to_ne_bytes(),
            ];
            let uid = [&8_u16.to_ne_bytes()[..], &2_u16.to_ne_bytes(), &[0; 4]];
            let body = [header.clone(), uid.concat(), info.concat()].concat();
            socket(&RawMessage { kind: SOCK_DIAG_BY_FAMILY, body }).unwrap()
        };
        assert_eq!(told(3), Some(XdpSocket { inode: 4711, interface: IfIndex(3), queue: 2 }));
        assert_eq!(told(0), None, "one that is not bound");
        let short = RawMessage { kind: SOCK_DIAG_BY_FAMILY, body: header[..12].to_vec() };
        assert_eq!(socket(&short).unwrap(), None);
    }
}
