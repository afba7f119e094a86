//! What stands on links: IP addresses, routes, rules, permanent neighbours, and other links.

mod ip;
mod raw;

mod events;
mod listed;

mod address;
mod forwarding;
mod neighbour;
mod route;
mod rule;

mod standing;
mod vxlan;

mod child_kind;
mod stacked;

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rustix::io::Errno;

pub use self::address::{Address, AddressFlags};
pub use self::events::NetworkEvents;
pub use self::forwarding::ForwardingEntry;
pub use self::ip::{IpVersion, Prefix};
pub use self::listed::{About, Listed, UnreadEntry};
use self::listed::{Subject, decode_each};
pub use self::neighbour::Neighbour;
pub use self::raw::{HexBytes, RawAttribute};
pub use self::route::{Encapsulation, NextHop, Route};
pub use self::rule::Rule;
pub use self::stacked::{ChildKind, NewChild, Port, QosMapping, StackedLink};
pub use self::standing::{Rebinding, Standing, Tunnel};
use crate::attributes::MalformedError;
use crate::body::Body;
use crate::change::{RTM_GETLINK, RTM_NEWLINK};
use crate::connection::{RawMessage, RequestError};
use crate::{IfIndex, Netlink};

// include/uapi/linux/rtnetlink.h
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const RTM_NEWRULE: u16 = 32;
const RTM_GETRULE: u16 = 34;

/// A list could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the {what}")]
pub struct NetworkReadError {
    /// `IP addresses`, `routes`…
    pub what: &'static str,
    /// What went wrong with the request.
    #[source]
    pub source: RequestError,
}

/// Something to be added to what stands on links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkChange {
    /// Make a link on another. That one of its name is there is a refusal (EEXIST).
    AddChild(NewChild),
    /// Bind a tunnel to another interface.
    Rebind(Rebinding),
    /// Set one setting of a master's port.
    PortSetting {
        /// The port.
        index: IfIndex,
        /// The master's kind.
        master_kind: String,
        /// The setting.
        setting: RawAttribute,
    },
    /// Add an address; where it is there already, its lifetimes and metric change.
    Address(Address),
    /// Enter a neighbour for good, whatever entry it had.
    Neighbour(Neighbour),
    /// Enter which way a MAC address is. That it is there already is a refusal (EEXIST).
    Forwarding(ForwardingEntry),
    /// Add a route behind those to the same destination. That it is there already is a refusal (EEXIST).
    AppendRoute(Route),
    /// Add a route in place of the one with the same destination, table, metric and type of service.
    ReplaceRoute(Route),
    /// Add a rule. That it is there already is a refusal (EEXIST).
    Rule(Rule),
}

/// In the words of iproute2.
impl fmt::Display for NetworkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iproute2_text(&|index| index.to_string()))
    }
}

impl NetworkChange {
    /// In the words of iproute2, with interfaces called as `name` says.
    #[must_use]
    pub fn iproute2_text(&self, name: &dyn Fn(IfIndex) -> String) -> String {
        match self {
            Self::AddChild(child) => {
                format!("link add {} link {} type {}", child.name, name(child.lower), child.kind)
            }
            Self::Rebind(Rebinding { index, tunnel, lower, .. }) => {
                format!("link set dev {} type {} dev {}", name(*index), tunnel.kind, name(*lower))
            }
            Self::PortSetting { index, master_kind, setting } => format!(
                "link set dev {} type {master_kind}_slave {} {}",
                name(*index),
                setting.number,
                setting.value
            ),
            Self::Address(address) => format!("address add {address} dev {}", name(address.index)),
            Self::Neighbour(neighbour) => format!("neighbour add {neighbour} dev {}", name(neighbour.index)),
            Self::Forwarding(entry) => format!("fdb append {}", entry.iproute2_text(name)),
            Self::AppendRoute(route) => format!("route add {}", route.iproute2_text(name)),
            Self::ReplaceRoute(route) => format!("route replace {}", route.iproute2_text(name)),
            Self::Rule(rule) => format!("rule add {rule}"),
        }
    }
}

/// The kernel did not carry out a change.
#[derive(Debug, thiserror::Error)]
#[error("the kernel did not carry out `{change}`")]
pub struct NetworkChangeError {
    /// The change.
    pub change: Box<NetworkChange>,
    /// Why not.
    #[source]
    pub source: RequestError,
}

impl NetworkChangeError {
    /// The kernel's errno, where it refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.source.errno()
    }
}

impl Netlink {
    /// Every link of the namespace with what it stands on and what it is to its master, without VF attributes.
    pub async fn stacked_links(&self) -> Result<Listed<StackedLink>, NetworkReadError> {
        const IFLA_EXT_MASK: u16 = 29;
        const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
        let mut body = Body::new(&[0; 16]);
        body.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        let request = RawMessage { kind: RTM_GETLINK, body: body.finish() };
        self.list(Subject::InHeader, "links", request, RTM_NEWLINK, stacked::decode).await
    }

    /// The IP addresses of all interfaces, of each in the kernel's order.
    pub async fn addresses(&self) -> Result<Listed<Address>, NetworkReadError> {
        self.list(
            Subject::InHeader,
            "IP addresses",
            of_all_families(RTM_GETADDR, 8),
            RTM_NEWADDR,
            address::decode,
        )
        .await
    }

    /// The IP routes of all tables, of each in the kernel's order, without cached ones.
    pub async fn routes(&self) -> Result<Listed<Route>, NetworkReadError> {
        self.list(
            Subject::OutOfRoute,
            "routes",
            of_all_families(RTM_GETROUTE, 12),
            RTM_NEWROUTE,
            route::decode,
        )
        .await
    }

    /// The route by which a packet to this address would leave; `None` where there is none.
    pub async fn route_to(&self, address: IpAddr) -> Result<Option<Route>, NetworkReadError> {
        let error = |source| NetworkReadError { what: "route to an address", source };
        let question = RawMessage { kind: RTM_GETROUTE, body: route::question(address) };
        match self.connection.request(question, 0, self.deadline).await {
            Ok(messages) => {
                let answer = messages.iter().find(|message| message.kind == RTM_NEWROUTE);
                let route = answer.map(|message| route::decode_any(&message.body)).transpose();
                route.map(Option::flatten).map_err(|malformed| error(malformed.into()))
            }
            Err(refused) if matches!(refused.errno(), Some(Errno::NETUNREACH | Errno::HOSTUNREACH)) => {
                Ok(None)
            }
            Err(source) => Err(error(source)),
        }
    }

    /// The IP rules.
    pub async fn rules(&self) -> Result<Listed<Rule>, NetworkReadError> {
        self.list(Subject::NamesOfRule, "rules", of_all_families(RTM_GETRULE, 12), RTM_NEWRULE, rule::decode)
            .await
    }

    /// The permanent neighbour entries, without those that a proxy answers for.
    pub async fn permanent_neighbours(&self) -> Result<Listed<Neighbour>, NetworkReadError> {
        self.list(
            Subject::InHeader,
            "neighbours",
            of_all_families(RTM_GETNEIGH, 12),
            RTM_NEWNEIGH,
            neighbour::decode,
        )
        .await
    }

    /// The forwarding entries that somebody made, of VXLANs, of bridges, and of what else has such a table.
    pub async fn forwarding_entries(&self) -> Result<Listed<ForwardingEntry>, NetworkReadError> {
        let request = RawMessage { kind: RTM_GETNEIGH, body: forwarding::question() };
        self.list(Subject::InHeader, "forwarding entries", request, RTM_NEWNEIGH, forwarding::decode).await
    }

    /// Carries out a change.
    pub async fn change_network(&self, change: &NetworkChange) -> Result<(), NetworkChangeError> {
        tracing::debug!(%change, "change network");
        let (message, flags) = message(change);
        match self.connection.request(message, flags, self.deadline).await {
            Ok(_) => Ok(()),
            Err(source) => Err(NetworkChangeError { change: Box::new(change.clone()), source }),
        }
    }

    /// A list, each entry of it by itself: one that cannot be read is not known.
    async fn list<T>(
        &self,
        subject: Subject,
        what: &'static str,
        request: RawMessage,
        answer: u16,
        decode: impl Fn(&[u8]) -> Result<Option<T>, MalformedError>,
    ) -> Result<Listed<T>, NetworkReadError> {
        let error = |source| NetworkReadError { what, source };
        let messages = self.connection.dump(request, self.deadline).await.map_err(error)?;
        Ok(decode_each(what, subject, messages.iter().filter(|message| message.kind == answer), decode))
    }
}

/// A request for the entries of all families: a fixed header of zeros.
fn of_all_families(kind: u16, header: usize) -> RawMessage {
    RawMessage { kind, body: vec![0; header] }
}

/// The message for a change, with the flags it needs beside "request" and "acknowledge".
fn message(change: &NetworkChange) -> (RawMessage, u16) {
    let (kind, body, flags) = match change {
        NetworkChange::AddChild(child) => return stacked::new_child(child),
        NetworkChange::Rebind(wanted) => return (standing::rebinding(wanted), 0),
        NetworkChange::PortSetting { index, master_kind, setting } => {
            return (stacked::port_setting(*index, master_kind, setting), 0);
        }
        NetworkChange::Address(address) => {
            (RTM_NEWADDR, address::encode(address), NLM_F_CREATE | NLM_F_REPLACE)
        }
        NetworkChange::Neighbour(neighbour) => {
            (RTM_NEWNEIGH, neighbour::encode(neighbour), NLM_F_CREATE | NLM_F_REPLACE)
        }
        NetworkChange::Forwarding(entry) => {
            (RTM_NEWNEIGH, forwarding::encode(entry), NLM_F_CREATE | NLM_F_APPEND)
        }
        NetworkChange::AppendRoute(route) => {
            (RTM_NEWROUTE, route::encode(route), NLM_F_CREATE | NLM_F_APPEND)
        }
        NetworkChange::ReplaceRoute(route) => {
            (RTM_NEWROUTE, route::encode(route), NLM_F_CREATE | NLM_F_REPLACE)
        }
        NetworkChange::Rule(rule) => (RTM_NEWRULE, rule::encode(rule), NLM_F_CREATE | NLM_F_EXCL),
    };
    (RawMessage { kind, body }, flags)
}
