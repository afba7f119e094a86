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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, family: u8) -> RawMessage {
        let mut body = vec![0; 16];
        body[0] = family;
        body[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        RawMessage { kind, body }
    }

    #[test]
    fn a_bridge_port_that_leaves_is_not_a_link_that_goes() {
        const AF_BRIDGE: u8 = 7;
        assert_eq!(event(&message(RTM_DELLINK, 0)), Some(LinkEvent::Gone(IfIndex(7))));
        assert_eq!(event(&message(RTM_DELLINK, AF_BRIDGE)), None);
        assert_eq!(event(&message(RTM_NEWLINK, AF_BRIDGE)), None);
    }

    #[test]
    fn what_cannot_be_understood_counts_as_lost() {
        assert_eq!(event(&message(RTM_NEWLINK, 0)), Some(LinkEvent::Overrun), "a link without a name");
        assert_eq!(event(&RawMessage { kind: RTM_DELLINK, body: vec![0; 3] }), Some(LinkEvent::Overrun));
    }
}
