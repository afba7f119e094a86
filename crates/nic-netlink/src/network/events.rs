use futures_util::StreamExt as _;

use crate::EventsEnded;
use crate::connection::{ConnectError, Connection, Unsolicited};

/// Tells that something has changed of links, addresses, routes, rules or neighbours, in the network namespace of the
/// thread that subscribed; and not what: whoever waits for a state reads it again.
#[derive(Debug)]
pub struct NetworkEvents {
    messages: Unsolicited,
    /// The connection ends with its last handle.
    _connection: Connection,
}

impl NetworkEvents {
    /// From now on.
    pub fn subscribe() -> Result<Self, ConnectError> {
        const NETLINK_ROUTE: isize = 0;
        // RTNLGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, _IPV6_RULE of
        // include/uapi/linux/rtnetlink.h.
        const GROUPS: [u32; 8] = [1, 3, 5, 7, 8, 9, 11, 19];
        let mask = GROUPS.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        let (connection, messages) = Connection::open_with_groups(NETLINK_ROUTE, mask)?;
        Ok(Self { messages, _connection: connection })
    }

    /// Returns when something has changed since the last call. A burst counts once.
    pub async fn changed(&mut self) -> Result<(), EventsEnded> {
        self.messages.next().await.ok_or(EventsEnded { of: "network" })?;
        while self.messages.try_recv().is_ok() {}
        Ok(())
    }
}
