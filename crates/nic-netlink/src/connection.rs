//! A connection to the kernel: requests with a deadline, answers as bytes.
//!
//! The protocol (sequence numbers, multi-part answers, acknowledgements) is netlink-proto's. Three things are added:
//! - Messages stay bytes until the caller reads them. netlink-proto only logs an answer it cannot decode, and its
//!   request then waits for ever.
//! - Each connection has a thread of its own. `sendmsg(2)` on a netlink socket carries the request out before it
//!   returns (`netlink_rcv_skb` in `net/netlink/af_netlink.c`), firmware commands and the wait for the RTNL lock
//!   included; on the caller's runtime that would stop the very timers that are to notice.
//! - Datagrams are received whole, whatever their size: a PF with many VFs is described in more than the 64 KiB that
//!   netlink-proto sets aside.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BufMut;
use futures_channel::mpsc::UnboundedReceiver;
use futures_util::StreamExt as _;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_proto::sys::{AsyncSocket, SocketAddr, TokioSocket};
use netlink_proto::{ConnectionHandle, NetlinkCodec};
use netlink_sys::Socket;
use nic_host::ForeignWord;
use rustix::io::Errno;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::attributes::{Attributes, MalformedError};

/// A netlink socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open a netlink socket (protocol {protocol})")]
pub struct ConnectError {
    /// `NETLINK_ROUTE` (0), `NETLINK_GENERIC` (16) or `NETLINK_RDMA` (20).
    pub protocol: isize,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// A request that the kernel refused, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The kernel's answer is an errno, and since 4.12 often a sentence (extended acknowledgement).
    #[error("{}{}", errno_text(*.errno), message.as_ref().map(|text| format!(": {}", ForeignWord(text))).unwrap_or_default())]
    Refused {
        /// The errno.
        errno: Errno,
        /// The sentence.
        message: Option<String>,
    },
    /// No answer came in time. The kernel may still carry the request out.
    #[error("the kernel has not answered after {after:?}")]
    Deadline {
        /// How long it was waited for.
        after: Duration,
    },
    /// A list changed under the reader, again and again.
    #[error("the list changed during each of {attempts} readings in {after:?}")]
    ListKeptChanging {
        /// How often it was read.
        attempts: u32,
        /// For how long.
        after: Duration,
    },
    /// The kernel has no generic netlink family of this name.
    #[error("the kernel has no {name}")]
    NoFamily {
        /// The name.
        name: &'static str,
    },
    /// The connection's thread has ended, which it does when its socket breaks.
    #[error("the netlink connection is closed")]
    Closed,
    /// The answer makes no sense.
    #[error(transparent)]
    Malformed(#[from] MalformedError),
}

impl RequestError {
    /// The kernel's errno, where it refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// The kernel's sentence, where it said one.
    #[must_use]
    pub fn kernel_message(&self) -> Option<&str> {
        match self {
            Self::Refused { message, .. } => message.as_deref(),
            _ => None,
        }
    }
}

fn errno_text(errno: Errno) -> io::Error {
    io::Error::from(errno)
}

/// A message of any family: its type and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawMessage {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

impl NetlinkSerializable for RawMessage {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.body);
    }
}

impl NetlinkDeserializable for RawMessage {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self { kind: header.message_type, body: payload.to_vec() })
    }
}

/// The messages of an answer.
#[derive(Debug, Default)]
struct Answer {
    messages: Vec<RawMessage>,
    /// The kernel's list changed while it was read: entries may be missing or there twice
    /// (`nl_dump_check_consistent` in `include/net/netlink.h`).
    interrupted: bool,
}

pub(crate) type Unsolicited = UnboundedReceiver<(NetlinkMessage<RawMessage>, SocketAddr)>;

/// How many requests may be under way at once. The kernel carries them out one after another all the same, and their
/// acknowledgements must fit into the socket's buffer.
const CONCURRENT_REQUESTS: usize = 16;

/// A handle to a connection. The connection ends with its last handle.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    handle: ConnectionHandle<RawMessage>,
    permits: Arc<Semaphore>,
}

impl Connection {
    /// A connection for requests.
    pub(crate) fn open(protocol: isize) -> Result<Self, ConnectError> {
        Self::open_with_groups(protocol, 0).map(|(connection, _)| connection)
    }

    /// A connection that also receives what is sent to the multicast groups of the mask `groups`.
    pub(crate) fn open_with_groups(
        protocol: isize,
        groups: u32,
    ) -> Result<(Self, Unsolicited), ConnectError> {
        spawn_connection(protocol, groups).map_err(|source| ConnectError { protocol, source })
    }

    /// Sends a request, and waits for the kernel's acknowledgement.
    pub(crate) async fn request(
        &self,
        message: RawMessage,
        flags: u16,
        deadline: Duration,
    ) -> Result<Vec<RawMessage>, RequestError> {
        let answer = self.send_and_collect(message, NLM_F_REQUEST | NLM_F_ACK | flags, deadline).await?;
        Ok(answer.messages)
    }

    /// Asks for a list, and again when it changed while it was read, for as long as the deadline. Each reading has the
    /// deadline, too.
    pub(crate) async fn dump(
        &self,
        message: RawMessage,
        deadline: Duration,
    ) -> Result<Vec<RawMessage>, RequestError> {
        let started = Instant::now();
        for attempt in 1_u32.. {
            let answer = self.send_and_collect(message.clone(), NLM_F_REQUEST | NLM_F_DUMP, deadline).await?;
            if !answer.interrupted {
                return Ok(answer.messages);
            }
            if started.elapsed() >= deadline {
                return Err(RequestError::ListKeptChanging { attempts: attempt, after: deadline });
            }
            // Whoever is changing links needs the lock that the listing takes: leave it to them a little longer each
            // time.
            tokio::time::sleep(Duration::from_millis(attempt.min(50).into())).await;
        }
        Err(RequestError::ListKeptChanging { attempts: u32::MAX, after: deadline })
    }

    async fn send_and_collect(
        &self,
        message: RawMessage,
        flags: u16,
        deadline: Duration,
    ) -> Result<Answer, RequestError> {
        // Waiting for one's turn is no part of the deadline.
        let _permit = self.permits.acquire().await.map_err(|_| RequestError::Closed)?;
        let kernel = SocketAddr::new(0, 0);
        let mut replies =
            self.handle.request(framed(message, flags), kernel).map_err(|_| RequestError::Closed)?;
        let collect = async {
            let mut answer = Answer::default();
            loop {
                let reply = replies.next().await.ok_or(RequestError::Closed)?;
                answer.interrupted |= reply.header.flags & NLM_F_DUMP_INTR != 0;
                match reply.payload {
                    NetlinkPayload::InnerMessage(message) => answer.messages.push(message),
                    NetlinkPayload::Done(done) => {
                        return refusal(done.code, &done.extended_ack).map_or(Ok(answer), Err);
                    }
                    NetlinkPayload::Error(error) => {
                        let attributes = extended_ack(reply.header.flags, &error.header);
                        return refusal(error.raw_code(), attributes).map_or(Ok(answer), Err);
                    }
                    other => return Err(MalformedError(format!("unexpected {other:?}")).into()),
                }
            }
        };
        tokio::time::timeout(deadline, collect)
            .await
            .unwrap_or(Err(RequestError::Deadline { after: deadline }))
    }
}

fn framed(message: RawMessage, flags: u16) -> NetlinkMessage<RawMessage> {
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
    message.header.flags = flags;
    message
}

/// The bytes of a request as the kernel receives them, with sequence number 0.
#[cfg(test)]
pub(crate) fn wire(message: RawMessage, flags: u16) -> Vec<u8> {
    let mut message = framed(message, NLM_F_REQUEST | flags);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// What a capture of another program's requests says was sent for `command`, with sequence number 0.
#[cfg(test)]
pub(crate) fn captured(capture: &str, command: &str) -> Vec<u8> {
    let line = capture.lines().find_map(|line| line.strip_prefix(command)?.strip_prefix(" => "));
    let mut bytes = hex::decode(line.unwrap_or_else(|| panic!("no capture of {command:?}"))).unwrap();
    bytes[8..12].fill(0);
    bytes
}

/// The messages in a captured datagram.
#[cfg(test)]
pub(crate) fn messages(capture: &str) -> Vec<RawMessage> {
    let datagram = hex::decode(capture.trim()).unwrap();
    let mut rest = &datagram[..];
    let mut messages = Vec::new();
    while let Some((header, _)) = rest.split_first_chunk::<16>() {
        let length = usize::try_from(u32::from_ne_bytes(header[..4].try_into().unwrap())).unwrap();
        let kind = u16::from_ne_bytes(header[4..6].try_into().unwrap());
        messages.push(RawMessage { kind, body: rest[16..length].to_vec() });
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    messages
}

fn refusal(code: i32, extended_ack: &[u8]) -> Option<RequestError> {
    const NLMSGERR_ATTR_MSG: u16 = 1;
    if code == 0 {
        return None;
    }
    // The sentence is an addition: an answer that garbles it is still a refusal.
    let message =
        Attributes::new(extended_ack).find(NLMSGERR_ATTR_MSG).ok().flatten().map(|message| message.text());
    Some(RequestError::Refused { errno: Errno::from_raw_os_error(code.saturating_abs()), message })
}

/// The attributes behind the copy of the request that an error message holds: the whole request, or with
/// `NLM_F_CAPPED` its header.
fn extended_ack(flags: u16, copy: &[u8]) -> &[u8] {
    const HEADER: usize = 16;
    if flags & NLM_F_ACK_TLVS == 0 {
        return &[];
    }
    let request = match copy.first_chunk::<4>() {
        Some(length) if flags & NLM_F_CAPPED == 0 => {
            usize::try_from(u32::from_ne_bytes(*length)).unwrap_or(HEADER)
        }
        _ => HEADER,
    };
    copy.get(request.next_multiple_of(4)..).unwrap_or_default()
}

fn spawn_connection(protocol: isize, groups: u32) -> io::Result<(Connection, Unsolicited)> {
    let (sender, opened) = std::sync::mpsc::channel();
    // The thread is not joined: it ends when the last handle is dropped, and a request that hangs in the kernel must
    // not keep the process. It makes its own runtime, which must not be dropped on the caller's.
    std::thread::Builder::new().name(THREAD.into()).spawn(move || {
        let sent = match configured_socket(protocol, groups) {
            Err(error) => sender.send(Err(error)),
            Ok((runtime, connection, handle, unsolicited)) => {
                let sent = sender.send(Ok((handle, unsolicited)));
                runtime.block_on(connection);
                sent
            }
        };
        debug_assert!(sent.is_ok(), "whoever opens a connection waits for it");
    })?;
    let (handle, unsolicited) = opened.recv().map_err(io::Error::other)??;
    Ok((Connection { handle, permits: Arc::new(Semaphore::new(CONCURRENT_REQUESTS)) }, unsolicited))
}

const THREAD: &str = "netlink";

type Opened = (
    Runtime,
    netlink_proto::Connection<RawMessage, WholeDatagrams>,
    ConnectionHandle<RawMessage>,
    Unsolicited,
);

fn configured_socket(protocol: isize, groups: u32) -> io::Result<Opened> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut connection, handle, unsolicited) = {
        let _reactor = runtime.enter();
        netlink_proto::new_connection_with_codec::<RawMessage, WholeDatagrams, NetlinkCodec>(protocol)?
    };
    connection.set_forward_ack(true);
    connection.set_forward_done(true);
    let socket = connection.socket_mut().socket_mut();
    // Without these two an error has no sentence, and a copy of the request takes the room.
    for (name, outcome) in
        [("NETLINK_EXT_ACK", socket.set_ext_ack(true)), ("NETLINK_CAP_ACK", socket.set_cap_ack(true))]
    {
        if let Err(error) = outcome {
            tracing::debug!(%error, "this kernel has no {name}: its refusals will be an errno only");
        }
    }
    enlarge_buffer(socket);
    socket.bind(&SocketAddr::new(0, groups))?;
    Ok((runtime, connection, handle, unsolicited))
}

/// A burst of notifications, such as 49 VFs that appear and are renamed, should fit.
fn enlarge_buffer(socket: &Socket) {
    const SIZE: usize = 4 << 20;
    use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
    let fd = socket.as_fd();
    // Past the system's limit only with CAP_NET_ADMIN.
    if let Err(error) =
        set_socket_recv_buffer_size_force(fd, SIZE).or_else(|_| set_socket_recv_buffer_size(fd, SIZE))
    {
        tracing::debug!(
            %error,
            "the receive buffer keeps its size: bursts of notifications overrun it earlier"
        );
    }
}

/// A socket that never cuts a datagram off.
///
/// A large buffer also has the kernel send lists in parts of 32 KiB in place of 4 or 8 (`netlink_dump` and
/// `netlink_recvmsg` in `net/netlink/af_netlink.c`); the fewer the parts, the less can change between them.
struct WholeDatagrams {
    socket: TokioSocket,
    datagram: RefCell<Vec<u8>>,
}

/// More than the description of a PF with 5000 VFs. Pages that are never written to take no memory.
const DATAGRAM: usize = 1 << 20;

impl AsRawFd for WholeDatagrams {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsyncSocket for WholeDatagrams {
    fn socket_ref(&self) -> &Socket {
        self.socket.socket_ref()
    }

    fn socket_mut(&mut self) -> &mut Socket {
        self.socket.socket_mut()
    }

    fn new(protocol: isize) -> io::Result<Self> {
        let socket = TokioSocket::new(protocol)?;
        Ok(Self { socket, datagram: RefCell::new(Vec::with_capacity(DATAGRAM)) })
    }

    fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.socket.poll_send(cx, buf)
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], addr: &SocketAddr) -> Poll<io::Result<usize>> {
        self.socket.poll_send_to(cx, buf, addr)
    }

    fn poll_recv<B: BufMut>(&self, cx: &mut Context<'_>, buf: &mut B) -> Poll<io::Result<()>> {
        self.poll_recv_from(cx, buf).map_ok(|_| ())
    }

    fn poll_recv_from<B: BufMut>(&self, cx: &mut Context<'_>, buf: &mut B) -> Poll<io::Result<SocketAddr>> {
        let mut datagram = self.datagram.borrow_mut();
        datagram.clear();
        let from = ready!(self.socket.poll_recv_from(cx, &mut *datagram))?;
        if datagram.len() >= DATAGRAM {
            return Poll::Ready(Err(io::Error::other("a netlink datagram of 1 MiB or more")));
        }
        // The buffer netlink-proto passes grows as it is written to.
        buf.put_slice(&datagram);
        Poll::Ready(Ok(from))
    }

    fn poll_recv_from_full(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Vec<u8>, SocketAddr)>> {
        self.socket.poll_recv_from_full(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat()
    }

    #[test]
    fn the_kernels_sentence_is_found_behind_either_copy_of_the_request() {
        let sentence = attribute(1, b"mtu greater than device maximum\0");
        let header = [40_u32.to_ne_bytes(), [0; 4], [0; 4], [0; 4]].concat();
        let whole = [header.clone(), vec![7; 24]].concat();
        let message = |flags, copy: Vec<u8>| {
            let copy = [copy, sentence.clone()].concat();
            match refusal(-22, extended_ack(flags, &copy)) {
                Some(RequestError::Refused { errno: Errno::INVAL, message }) => message,
                other => panic!("{other:?}"),
            }
        };
        let expected = Some("mtu greater than device maximum".to_owned());
        assert_eq!(message(NLM_F_ACK_TLVS | NLM_F_CAPPED, header.clone()), expected);
        assert_eq!(message(NLM_F_ACK_TLVS, whole.clone()), expected);
        assert_eq!(message(0, whole), None, "an old kernel says nothing");
        assert!(refusal(0, &[]).is_none());
    }

    #[tokio::test]
    async fn a_request_that_is_not_answered_ends_at_its_deadline() {
        let connection = Connection::open(0).unwrap();
        // The kernel passes over control messages (`netlink_rcv_skb` in net/netlink/af_netlink.c), and a dump asks for
        // no acknowledgement.
        let ignored = RawMessage { kind: 1, body: Vec::new() };
        let deadline = Duration::from_millis(50);
        for _ in 0..2 * CONCURRENT_REQUESTS {
            let error = connection.dump(ignored.clone(), deadline).await.unwrap_err();
            assert!(matches!(error, RequestError::Deadline { after } if after == deadline), "{error}");
        }
        let loopback = RawMessage { kind: 18, body: [[0; 4], 1_u32.to_ne_bytes(), [0; 4], [0; 4]].concat() };
        let answer = connection.request(loopback, 0, Duration::from_secs(10)).await.unwrap();
        assert_eq!(answer.len(), 1, "the connection serves on");
    }

    #[tokio::test]
    async fn a_connection_that_cannot_be_opened_is_an_error_on_a_runtime_too() {
        let error = Connection::open(31).unwrap_err();
        assert_eq!(error.to_string(), "cannot open a netlink socket (protocol 31)");
        assert_eq!(Errno::from_io_error(&error.source), Some(Errno::PROTONOSUPPORT));
    }

    #[test]
    fn a_refusal_is_shown_with_its_sentence() {
        let refused = |message: Option<&str>| RequestError::Refused {
            errno: Errno::INVAL,
            message: message.map(str::to_owned),
        };
        assert_eq!(refused(None).to_string(), "Invalid argument (os error 22)");
        assert_eq!(
            refused(Some("mtu too large")).to_string(),
            "Invalid argument (os error 22): mtu too large"
        );
    }
}
