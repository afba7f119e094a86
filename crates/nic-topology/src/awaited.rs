//! Who has to act before a step that is still missing is there, and with that how long it is waited for. Pure.

use std::collections::BTreeMap;

use nic_netlink::{IfIndex, LinkChange, NetworkChange};
use rustix::io::Errno;

use crate::{Action, LinkMapping, NetworkState, Place, Step};

/// Who has to act before something that is missing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Awaited {
    /// The kernel, which is at it: duplicate address detection has to end.
    Kernel,
    /// Somebody or something else: a daemon that has the master or the link, whoever sets an address that a route needs, a carrier. Nothing
    /// tells when they will, nor whether they are there at all.
    Others,
}

/// How often a step is carried out right away. What is gone again after the first time may have gone with another step, such as
/// a port that is set down for its bond; after the second somebody takes it away, and to go on would be a fight.
const AT_ONCE: u32 = 2;

/// What has become of each step so far, by its text.
#[derive(Debug, Default)]
pub(crate) struct Attempts(BTreeMap<String, Attempt>);

#[derive(Debug, Default)]
struct Attempt {
    /// How often it was carried out.
    done: u32,
    /// Why it was refused last; `None` when it was carried out last.
    refused: Option<Refusal>,
}

/// Why a step was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The kernel's errno, where it answered.
    pub(crate) errno: Option<Errno>,
    /// In one line.
    pub(crate) cause: String,
}

impl Attempts {
    pub(crate) fn carried_out(&mut self, step: &str) {
        let attempt = self.0.entry(step.to_owned()).or_default();
        attempt.done += 1;
        attempt.refused = None;
    }

    pub(crate) fn refused(&mut self, step: &str, refusal: Refusal) {
        self.0.entry(step.to_owned()).or_default().refused = Some(refusal);
    }

    /// Why this step was refused last.
    pub(crate) fn refusal(&self, step: &str) -> Option<&Refusal> {
        self.0.get(step)?.refused.as_ref()
    }

    /// Whether this step is left to whoever takes away what it gives back. When their time is over it is carried out once more.
    pub(crate) fn is_left_alone(&self, step: &str, others_time_is_over: bool) -> bool {
        let times = if others_time_is_over { AT_ONCE + 1 } else { AT_ONCE };
        self.0.get(step).is_some_and(|attempt| attempt.done >= times)
    }

    /// Who has to act before this step, which is missing, is there.
    pub(crate) fn awaited(&self, step: &Step, text: &str, mapping: &LinkMapping<'_>) -> Awaited {
        let Some(attempt) = self.0.get(text) else { return Awaited::Kernel };
        let Some(Refusal { errno, .. }) = &attempt.refused else {
            return if attempt.done >= AT_ONCE { Awaited::Others } else { Awaited::Kernel };
        };
        match (&step.action, *errno) {
            // Such a master takes ports from its own daemon alone: one of Open vSwitch has no `ndo_add_slave`
            // (`do_set_master` in net/core/rtnetlink.c).
            (Action::Link(LinkChange::Master(Some(_))), Some(Errno::OPNOTSUPP)) => Awaited::Others,
            // Nothing leads to its router: an address that is not ours to set, or a router's advertisement.
            (
                Action::Network(NetworkChange::AppendRoute(_) | NetworkChange::ReplaceRoute(_)),
                Some(Errno::NETUNREACH | Errno::HOSTUNREACH),
            ) => Awaited::Others,
            // Duplicate address detection does not begin before there is a carrier (`addrconf_dad_kick` follows
            // `addrconf_notify` of NETDEV_CHANGE in net/ipv6/addrconf.c).
            _ if !runs(step.link, mapping) => Awaited::Others,
            _ => Awaited::Kernel,
        }
    }
}

/// Whether the link has a carrier. Of one that is none of those saved, nothing is waited for.
fn runs(saved: IfIndex, mapping: &LinkMapping<'_>) -> bool {
    let present = mapping.index(saved).and_then(|index| mapping.now.links.get(&index));
    present.is_none_or(|present| present.link.running)
}

/// Whether a link that nothing here can make is missing on one that is back: whoever has made it may make it again.
pub(crate) fn lacks_link_of_others(saved: &NetworkState, mapping: &LinkMapping<'_>) -> bool {
    saved.links.iter().any(|link| match link.place {
        Place::LostChild { lower } => mapping.index(link.index).is_none() && mapping.index(lower).is_some(),
        Place::Device | Place::Child { .. } | Place::Stays { .. } | Place::Bound { .. } => false,
    })
}

#[cfg(test)]
mod tests {
    use nic_netlink::{Link, Prefix, Route, StackedLink, Standing};

    use super::*;
    use crate::{Network, Stage};

    const PF: IfIndex = IfIndex(2);

    fn network(running: bool) -> Network {
        let link = Link { running, ..Link::new(PF, "pf0".parse().unwrap()) };
        let link = StackedLink { link, standing: Standing::Alone, child: None, port: None };
        Network { links: BTreeMap::from([(PF, link)]), ..Network::default() }
    }

    fn route() -> Step {
        let nowhere = Prefix { address: "2001:db8::".parse().unwrap(), length: 48 };
        let route = Route {
            version: nic_netlink::IpVersion::V6,
            destination: nowhere,
            source: None,
            table: Route::MAIN_TABLE,
            kind: Route::UNICAST,
            scope: 0,
            protocol: 4,
            tos: 0,
            priority: 0,
            preferred_source: None,
            next_hops: Vec::new(),
            metrics: Vec::new(),
            expires_s: None,
            preference: None,
            next_hop_object: None,
        };
        Step { stage: Stage::Routes, link: PF, action: Action::Network(NetworkChange::AppendRoute(route)) }
    }

    fn joins() -> Step {
        let action = Action::Link(LinkChange::Master(Some(IfIndex(9))));
        Step { stage: Stage::Masters, link: PF, action }
    }

    fn awaited(step: &Step, errno: Option<Errno>, running: bool) -> Awaited {
        let (saved, now) = (NetworkState::standing_on(&network(true), &[PF]), network(running));
        let mapping = LinkMapping::new(&saved, &now, &BTreeMap::from([(PF, PF)]));
        let mut attempts = Attempts::default();
        if let Some(errno) = errno {
            attempts.refused("step", Refusal { errno: Some(errno), cause: String::new() });
        }
        attempts.awaited(step, "step", &mapping)
    }

    #[test]
    fn fault_6_6_who_has_to_act_says_how_long_a_step_is_waited_for() {
        for (step, errno, running, expected) in [
            // Not tried yet.
            (joins(), None, true, Awaited::Kernel),
            (joins(), None, false, Awaited::Kernel),
            // Open vSwitch takes its port itself; a bond that is busy is the kernel's.
            (joins(), Some(Errno::OPNOTSUPP), true, Awaited::Others),
            (joins(), Some(Errno::BUSY), true, Awaited::Kernel),
            // A tentative source; and that on a link whose carrier is still to come.
            (route(), Some(Errno::INVAL), true, Awaited::Kernel),
            (route(), Some(Errno::INVAL), false, Awaited::Others),
            // A router that no address leads to.
            (route(), Some(Errno::NETUNREACH), true, Awaited::Others),
            (route(), Some(Errno::HOSTUNREACH), true, Awaited::Others),
            (joins(), Some(Errno::NETUNREACH), true, Awaited::Kernel),
        ] {
            assert_eq!(awaited(&step, errno, running), expected, "{step:?} {errno:?} running: {running}");
        }
    }

    #[test]
    fn fault_6_6_what_somebody_takes_away_twice_is_left_to_them_for_their_time() {
        let (saved, now) = (NetworkState::standing_on(&network(true), &[PF]), network(true));
        let mapping = LinkMapping::new(&saved, &now, &BTreeMap::from([(PF, PF)]));
        let mut attempts = Attempts::default();
        let step = route();
        // A port that is set down for its bond loses its routes once.
        attempts.carried_out("step");
        assert!(!attempts.is_left_alone("step", false));
        assert_eq!(attempts.awaited(&step, "step", &mapping), Awaited::Kernel);
        attempts.carried_out("step");
        assert!(attempts.is_left_alone("step", false));
        assert_eq!(attempts.awaited(&step, "step", &mapping), Awaited::Others);
        // Their time is over: once more, and then no more.
        assert!(!attempts.is_left_alone("step", true));
        attempts.carried_out("step");
        assert!(attempts.is_left_alone("step", true));
        assert!(!attempts.is_left_alone("another step", false));
    }
}
