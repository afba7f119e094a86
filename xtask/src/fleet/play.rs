//! An upgrade of many nodes, as a list of events in time. It knows no clock and no file; its chance comes from outside.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::measured::{Measured, Rates, Upgrade};
use super::policy::{Build, Policy};

/// A time from its beginning to its end, in milliseconds from the upgrade's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Span {
    pub(super) fn ms(self) -> u64 {
        self.to.saturating_sub(self.from)
    }
}

/// Where the number of spans that are open changes, in order, and by how much. One that ends makes room before one begins at the same moment.
pub(super) fn edges(spans: impl Iterator<Item = Span>) -> Vec<(u64, i64)> {
    let mut edges: Vec<(u64, i64)> = spans.flat_map(|span| [(span.from, 1), (span.to, -1)]).collect();
    edges.sort_unstable();
    edges
}

/// How a node has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It runs the new driver.
    Upgraded,
    /// Its pods did not go in time; its driver was not touched.
    NotDrained,
    /// It runs the driver that it had.
    Back,
    /// It was without what it had until a person came.
    Dark,
}

/// A node whose upgrade has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) fate: Fate,
    pub(super) cordoned: Span,
    /// When it was without its NICs.
    pub(super) away: Option<Span>,
}

/// An upgrade that is over.
#[derive(Debug, Clone, Default)]
pub(super) struct Played {
    pub(super) nodes: Vec<Node>,
    pub(super) not_begun: u32,
    /// How long each build took.
    pub(super) builds: Vec<u64>,
    /// When a person has stopped it.
    pub(super) stopped_at: Option<u64>,
}

/// What comes next of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// Its new container needs packages.
    Packages,
    /// It is over with, and its place is free.
    Over,
    /// It is stuck, and a person has dealt with it.
    Attended,
}

/// A node that is under way.
#[derive(Debug, Clone, Copy)]
struct UnderWay {
    kernel: usize,
    fate: Fate,
    upgrade: Upgrade,
    begun: u64,
    away: Option<Span>,
}

/// The upgrade, while it is played.
struct Play<'a> {
    policy: &'a Policy,
    measured: &'a Measured,
    rates: Rates,
    random: &'a mut StdRng,
    /// What comes, the next first; the number of the node breaks ties, so that a seed has one course.
    events: BinaryHeap<Reverse<(u64, usize, Event)>>,
    under_way: Vec<UnderWay>,
    to_begin: u32,
    free: u32,
    stuck: u32,
    /// When each kernel's packages are in the inventory.
    built: Vec<Option<u64>>,
    played: Played,
}

/// Plays the upgrade of `nodes` nodes.
pub(super) fn play(
    nodes: u32,
    policy: &Policy,
    measured: &Measured,
    rates: Rates,
    random: &mut StdRng,
) -> Played {
    let kernels = usize::try_from(policy.kernels).unwrap_or(usize::MAX);
    let mut play = Play {
        policy,
        measured,
        rates,
        random,
        events: BinaryHeap::new(),
        under_way: Vec::new(),
        to_begin: nodes,
        free: policy.places(nodes),
        stuck: 0,
        built: vec![None; kernels],
        played: Played::default(),
    };
    play.begin(0);
    while let Some(Reverse((now, number, event))) = play.events.pop() {
        play.happens(now, number, event);
    }
    play.played.not_begun = play.to_begin;
    play.played
}

impl Play<'_> {
    /// Begins with as many nodes as there are places.
    fn begin(&mut self, now: u64) {
        while self.free > 0 && self.to_begin > 0 && self.played.stopped_at.is_none() {
            self.free -= 1;
            self.to_begin -= 1;
            let number = self.under_way.len();
            let upgrade = self.sample();
            let drain_ms =
                self.policy.drain.map_or(0, |drain| self.random.random_range(drain.from_ms..=drain.to_ms));
            let overdue = self.policy.drain_timeout_ms.filter(|timeout| drain_ms > *timeout);
            let fate = if overdue.is_some() { Fate::NotDrained } else { self.fate() };
            let kernel = number % self.built.len().max(1);
            self.under_way.push(UnderWay { kernel, fate, upgrade, begun: now, away: None });
            let drained = now + self.policy.before_ms() + overdue.unwrap_or(drain_ms);
            if overdue.is_some() {
                self.is_stuck(drained, number);
            } else {
                self.comes(drained + upgrade.other_ms, number, Event::Packages);
            }
        }
    }

    fn sample(&mut self) -> Upgrade {
        let all = &self.measured.upgrades;
        // `Measured::finish` refuses none.
        let at = self.random.random_range(0..all.len());
        let mut upgrade =
            all.get(at).copied().unwrap_or(Upgrade { build_ms: 0, other_ms: 0, swap_ms: 0, away_ms: 0 });
        if self.policy.build == Build::No {
            upgrade.build_ms = 0;
        }
        upgrade
    }

    fn fate(&mut self) -> Fate {
        let chance: f64 = self.random.random_range(0.0..1.0);
        if chance < self.rates.back {
            Fate::Back
        } else if chance < self.rates.back + self.rates.dark {
            Fate::Dark
        } else {
            Fate::Upgraded
        }
    }

    fn comes(&mut self, at: u64, number: usize, event: Event) {
        self.events.push(Reverse((at, number, event)));
    }

    /// Nothing of this node happens any more before a person comes.
    fn is_stuck(&mut self, now: u64, number: usize) {
        self.comes(now + self.policy.attention.after_ms, number, Event::Attended);
    }

    fn happens(&mut self, now: u64, number: usize, event: Event) {
        let Some(node) = self.under_way.get(number).copied() else { return };
        match event {
            Event::Packages => {
                let swap = self.packages_are_there(now, &node);
                let away = self.away(swap, &node);
                let over = match node.fate {
                    Fate::Upgraded => Some(swap + node.upgrade.swap_ms + self.policy.behind_ms()),
                    Fate::Back | Fate::Dark | Fate::NotDrained => None,
                };
                if let Some(node) = self.under_way.get_mut(number) {
                    node.away = Some(away);
                }
                match over {
                    Some(over) => self.comes(over, number, Event::Over),
                    None => self.is_stuck(swap + self.tried_ms(&node), number),
                }
            }
            Event::Over | Event::Attended => {
                if event == Event::Attended {
                    self.stuck += 1;
                    if self.stuck >= self.policy.attention.stop_at && self.played.stopped_at.is_none() {
                        self.played.stopped_at = Some(now);
                    }
                }
                let away = node.away.map(|away| match node.fate {
                    Fate::Dark => Span { to: now, ..away },
                    Fate::Upgraded | Fate::Back | Fate::NotDrained => away,
                });
                let cordoned = Span { from: node.begun, to: now };
                self.played.nodes.push(Node { fate: node.fate, cordoned, away });
                self.free += 1;
                self.begin(now);
            }
        }
    }

    /// When the node has its packages, which it needs from `now` on.
    fn packages_are_there(&mut self, now: u64, node: &UnderWay) -> u64 {
        let build_ms = node.upgrade.build_ms;
        if self.policy.build == Build::Kernel
            && let Some(built) = self.built.get_mut(node.kernel)
        {
            if let Some(at) = *built {
                return at.max(now);
            }
            *built = Some(now + build_ms);
        }
        if self.policy.build != Build::No {
            self.played.builds.push(build_ms);
        }
        now + build_ms
    }

    /// How long a driver was tried that did not come up: there and back.
    fn tried_ms(&self, node: &UnderWay) -> u64 {
        match node.fate {
            Fate::Back => 2 * node.upgrade.swap_ms,
            Fate::Upgraded | Fate::Dark | Fate::NotDrained => node.upgrade.swap_ms,
        }
    }

    /// When the NICs are away. Of a node that goes back where none was measured, for twice as long.
    fn away(&mut self, from: u64, node: &UnderWay) -> Span {
        let measured = &self.measured.back_away_ms;
        let ms = match node.fate {
            Fate::Back if !measured.is_empty() => {
                let at = self.random.random_range(0..measured.len());
                measured.get(at).copied().unwrap_or_default()
            }
            Fate::Back => 2 * node.upgrade.away_ms,
            Fate::Upgraded | Fate::Dark | Fate::NotDrained => node.upgrade.away_ms,
        };
        Span { from, to: from + ms }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;

    use super::super::policy::{Attention, Drain, Limit};
    use super::*;

    const UPGRADE: Upgrade = Upgrade { build_ms: 400, other_ms: 20, swap_ms: 30, away_ms: 25 };

    fn policy(max_parallel: u32, build: Build) -> Policy {
        Policy {
            max_parallel,
            max_unavailable: Limit::Percent(100),
            drain: None,
            drain_timeout_ms: None,
            safe_load: false,
            step_ms: 0,
            build,
            kernels: 1,
            attention: Attention { after_ms: 1000, stop_at: 3 },
        }
    }

    fn measured() -> Measured {
        Measured { upgrades: vec![UPGRADE], ..Measured::default() }
    }

    const GOOD: Rates = Rates { back: 0.0, dark: 0.0 };
    const BACK: Rates = Rates { back: 1.0, dark: 0.0 };
    const DARK: Rates = Rates { back: 0.0, dark: 1.0 };

    fn played(nodes: u32, policy: &Policy, rates: Rates) -> Played {
        play(nodes, policy, &measured(), rates, &mut StdRng::seed_from_u64(7))
    }

    fn ends(played: &Played) -> Vec<u64> {
        played.nodes.iter().map(|node| node.cordoned.to).collect()
    }

    #[test]
    fn so_many_at_a_time_and_then_the_next() {
        // 20 + 400 + 30 for each, two at a time.
        assert_eq!(ends(&played(5, &policy(2, Build::Node), GOOD)), [450, 450, 900, 900, 1350]);
        assert_eq!(ends(&played(3, &policy(0, Build::Node), GOOD)), [450, 450, 450]);
        let quarter = Policy { max_unavailable: Limit::Percent(25), ..policy(0, Build::Node) };
        assert_eq!(ends(&played(4, &quarter, GOOD)), [450, 900, 1350, 1800]);
    }

    #[test]
    fn a_shared_inventory_is_built_once_for_each_kernel() {
        let one = played(3, &policy(1, Build::Kernel), GOOD);
        assert_eq!(ends(&one), [450, 500, 550]);
        assert_eq!(one.builds, [400]);
        // Those of the same kernel wait for the first one's build.
        assert_eq!(ends(&played(3, &policy(0, Build::Kernel), GOOD)), [450, 450, 450]);
        let two = played(4, &Policy { kernels: 2, ..policy(1, Build::Kernel) }, GOOD);
        assert_eq!((ends(&two), two.builds), (vec![450, 900, 950, 1000], vec![400, 400]));
        let none = played(2, &policy(1, Build::No), GOOD);
        assert_eq!((ends(&none), none.builds), (vec![50, 100], Vec::new()));
    }

    #[test]
    fn the_operators_steps_and_the_drain_count() {
        let slow =
            Policy { step_ms: 10, drain: Some(Drain { from_ms: 7, to_ms: 7 }), ..policy(1, Build::No) };
        // Four steps, the drain, the exchange, two steps.
        assert_eq!(ends(&played(1, &slow, GOOD)), [40 + 7 + 50 + 20]);
        assert_eq!(ends(&played(1, &Policy { safe_load: true, ..slow }, GOOD)), [40 + 7 + 50 + 30]);
    }

    #[test]
    fn a_bad_driver_takes_as_many_as_there_are_places_until_somebody_comes() {
        let played = played(10, &policy(3, Build::No), BACK);
        // 20 + 2 × 30, and a person 1,000 later, who finds the third and stops.
        assert_eq!(ends(&played)[..3], [1080; 3]);
        assert_eq!(played.stopped_at, Some(1080));
        // Two places were free before the third was looked at.
        assert_eq!((played.nodes.len(), played.not_begun), (5, 5));
        assert!(
            played
                .nodes
                .iter()
                .all(|node| node.fate == Fate::Back && node.away.is_some_and(|away| away.ms() == 50))
        );
    }

    #[test]
    fn without_a_way_back_a_node_is_dark_until_somebody_comes() {
        let played = played(1, &policy(1, Build::No), DARK);
        assert_eq!(played.nodes[0].away, Some(Span { from: 20, to: 20 + 30 + 1000 }));
    }

    #[test]
    fn a_node_that_is_not_drained_keeps_its_driver() {
        let slow = Policy {
            drain: Some(Drain { from_ms: 90, to_ms: 90 }),
            drain_timeout_ms: Some(50),
            ..policy(1, Build::No)
        };
        let played = played(1, &slow, GOOD);
        assert_eq!(ends(&played), [50 + 1000]);
        assert_eq!((played.nodes[0].fate, played.nodes[0].away), (Fate::NotDrained, None));
    }

    #[test]
    fn of_those_that_went_back_the_measured_time_counts() {
        let measured = Measured { back_away_ms: vec![333], ..measured() };
        let played = play(1, &policy(1, Build::No), &measured, BACK, &mut StdRng::seed_from_u64(1));
        assert_eq!(played.nodes[0].away.map(Span::ms), Some(333));
    }

    proptest! {
        #[test]
        fn never_more_than_there_are_places_and_each_node_once(
            nodes in 1_u32..60, places in 1_u32..9, back in 0.0..0.3_f64, dark in 0.0..0.3_f64, seed: u64,
        ) {
            let policy = policy(places, Build::Node);
            let played = play(nodes, &policy, &measured(), Rates { back, dark }, &mut StdRng::seed_from_u64(seed));
            let count = u32::try_from(played.nodes.len()).expect("few nodes");
            prop_assert_eq!(count + played.not_begun, nodes);
            prop_assert_eq!(played.not_begun > 0, played.stopped_at.is_some() && count < nodes);
            for node in &played.nodes {
                let at = node.cordoned.from;
                let beside = played.nodes.iter().filter(|other| other.cordoned.from <= at && at < other.cordoned.to);
                prop_assert!(beside.count() <= places as usize);
            }
        }
    }
}
