use futures_util::StreamExt as _;
use netlink_packet_core::NetlinkPayload;

use crate::change::{RTM_DELLINK, RTM_NEWLINK};
use crate::connection::{ConnectError, Connection, RawMessage, Unsolicited};
use crate::decode::{self, LinkHeader};
use crate::{IfIndex, Link};

/// Something happened to a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is there and looks like this now. The kernel leaves the VF attributes out of notifications.
    Changed(Box<Link>),
    /// It is no longer in this network namespace: removed, or moved to another.
    Gone(IfIndex),
    /// Events were lost, because too many came at once or one could not be understood: whoever keeps a list must read
    /// it again.
    Overrun,
}

/// The stream of events has ended: its connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream of {of} events has ended")]
pub struct EventsEnded {
    /// `link` or `udev`.
    pub of: &'static str,
}

/// What happens to links, as the kernel announces it (`RTNLGRP_LINK`), in the network namespace of the thread that
/// subscribed.
///
/// Subscribe first and read the links after that: what happens in between is then in the stream.
#[derive(Debug)]
pub struct LinkEvents {
    messages: Unsolicited,
    /// The connection ends with its last handle.
    _connection: Connection,
}

impl LinkEvents {
    /// From now on.
    pub fn subscribe() -> Result<Self, ConnectError> {
        const NETLINK_ROUTE: isize = 0;
        const RTNLGRP_LINK: u32 = 1;
        let (connection, messages) = Connection::open_with_groups(NETLINK_ROUTE, 1 << (RTNLGRP_LINK - 1))?;
        Ok(Self { messages, _connection: connection })
    }

    /// The next event. Dropping the future loses none.
    pub async fn recv(&mut self) -> Result<LinkEvent, EventsEnded> {
        loop {
            let (message, _) = self.messages.next().await.ok_or(EventsEnded { of: "link" })?;
            let event = match message.payload {
                NetlinkPayload::InnerMessage(message) => event(&message),
                NetlinkPayload::Overrun(_) => Some(LinkEvent::Overrun),
                _ => None,
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }
}

fn event(message: &RawMessage) -> Option<LinkEvent> {
    let decoded = match (message.kind, LinkHeader::split(&message.body)) {
        (RTM_NEWLINK, Ok((header, _))) if header.is_of_link() => {
            decode::link(&message.body).map(|link| link.map(|link| LinkEvent::Changed(Box::new(link))))
        }
        (RTM_DELLINK, Ok((header, _))) if header.is_of_link() => Ok(Some(LinkEvent::Gone(header.index))),
        (_, Ok(_)) => Ok(None),
        (_, Err(error)) => Err(error),
    };
    decoded.unwrap_or_else(|error| {
        tracing::warn!(%error, "a link event could not be understood and counts as lost");
        Some(LinkEvent::Overrun)
    })
}
