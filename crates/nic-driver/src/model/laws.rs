//! What must hold whatever happens.

use proptest::prelude::*;

use super::build::{Build, DRIVER, Flaw, INBOX};
use super::node::{Command, Configuration, Disturbed, Ended, Event, Node, takes_away};
use crate::Exit;
use crate::phase::DriverAfterwards;
use crate::state::SnapshotState;

/// A node before something happens to it.
struct Before {
    state: SnapshotState,
    configuration: Configuration,
    driver: Option<Build>,
    verified: Option<Build>,
    is_ready: bool,
    has_blacklist: bool,
    /// Whether nothing but the driver is in the kernel, nobody uses it, and all PFs are up.
    is_quiet: bool,
}

impl Before {
    fn of(node: &Node) -> Self {
        Self {
            state: node.snapshot_state(),
            configuration: node.configuration(),
            driver: node.driver(),
            verified: node.verified,
            is_ready: node.is_ready(),
            has_blacklist: node.has_blacklist(),
            is_quiet: is_quiet(node),
        }
    }
}

fn is_quiet(node: &Node) -> bool {
    let loaded = node.kernel.loaded();
    loaded.len() == DRIVER.len()
        && loaded.iter().all(|module| module.users == 0)
        && node.kernel.pfs().iter().all(|pf| pf.has_netdev)
}

/// Holds of every node, at any time.
fn always(node: &Node) {
    let state = node.snapshot_state();
    // What is owed stays known until it was given back.
    if let Some(owed) = &node.owed {
        let SnapshotState::Armed(armed) = &state else {
            panic!("{owed:?} is owed, and the snapshot is {state}")
        };
        assert_eq!(Node::configuration_of(armed), *owed);
    }
    // Ready means that nothing is owed.
    assert!(!(node.is_ready() && state.armed().is_some()), "ready while armed");
}

/// Holds of a command that has ended.
fn after_command(before: &Before, command: Command, disturbed: Disturbed, exit: Exit, node: &Node) {
    let acts = node.kernel.acts();
    let takes = acts.iter().any(takes_away);
    let changes_nothing = !matches!(exit, Exit::Success | Exit::RolledBack | Exit::Degraded);
    // What a killed process has left stays where a command was refused, and where it has only looked.
    let may_stay = before.has_blacklist && (changes_nothing || command == Command::Snapshot);
    assert!(!node.has_blacklist() || may_stay, "a blacklist is left behind");
    // What its number says: nothing was changed.
    if changes_nothing {
        assert!(!takes, "{exit:?} after {acts:?}");
        assert_eq!(node.configuration(), before.configuration, "{exit:?}");
    }
    // The way back was on disk before it was needed.
    if takes {
        let context = node.context();
        let kept = context.store.module_backups(&node.boot_id()).unwrap();
        let can_go_back = kept.is_some_and(|kept| {
            kept.modules.iter().all(|module| module.file.is_some()) || !kept.inbox.is_empty()
        });
        assert!(can_go_back || before.driver.is_none(), "{acts:?} without a way back");
    }
    if exit == Exit::RolledBack {
        match &before.state {
            // A swap was under way: the driver that ran before that, and not the one that has not proved itself.
            SnapshotState::Armed(_) => {
                assert!(node.driver().is_some(), "half a driver: {:?}", node.running());
            }
            _ if before.driver == before.verified => assert_eq!(node.driver(), before.driver),
            // The files of a driver that somebody else has loaded may be gone.
            _ => assert!([before.driver, Some(INBOX)].contains(&node.driver()), "{:?}", node.running()),
        }
        assert!(!node.is_ready());
    }
    let was_by_hand = matches!(before.state, SnapshotState::ByHand(_));
    let for_an_administrator =
        matches!(command, Command::Restore { from_record } if from_record || was_by_hand);
    if node.is_ready() && !before.is_ready && !for_an_administrator {
        assert_eq!(node.driver(), Some(node.installed), "ready under another driver");
        assert!(
            node.kernel.pfs().iter().all(|pf| pf.has_netdev || !pf.is_there),
            "ready, and a PF is not up"
        );
    }
    if before.is_quiet && disturbed == Disturbed::Not {
        quiet(before, command, exit, node);
    }
}

/// Holds of a command that nothing disturbs on a node with a whole driver.
fn quiet(before: &Before, command: Command, exit: Exit, node: &Node) {
    assert_ne!(exit, Exit::Degraded, "{command:?}");
    assert!(node.driver().is_some(), "half a driver is left behind: {:?}", node.running());
    assert_eq!(node.kernel.refused(), 0, "{:?}", node.kernel.acts());
    match command {
        Command::Reload => assert!(
            matches!(exit, Exit::Success | Exit::RolledBack | Exit::Blocked),
            "{command:?} has ended with {exit:?}"
        ),
        Command::Terminate(afterwards) => {
            assert_eq!(exit, Exit::Success);
            assert!(!node.is_ready() && node.owed.is_none());
            if afterwards == DriverAfterwards::Inbox {
                assert_eq!(node.driver(), Some(INBOX));
            }
        }
        Command::Restore { .. } => assert!(node.owed.is_none(), "a restore leaves something owed"),
        Command::Snapshot => {}
    }
    // A record, and nothing at all, bind nobody.
    let owes_nothing = matches!(before.state, SnapshotState::None | SnapshotState::Record(_));
    let asks_for_nothing = match command {
        Command::Reload => before.driver == Some(node.installed),
        Command::Restore { from_record } => !from_record,
        Command::Terminate(afterwards) => afterwards == DriverAfterwards::Same,
        Command::Snapshot => true,
    };
    if owes_nothing && asks_for_nothing {
        assert_eq!(node.kernel.acts(), [], "{command:?} on {}", before.state);
        assert_eq!(node.configuration(), before.configuration);
    }
}

/// Whatever has happened: with a good driver and nobody in the way, a reload and a restore make the node ready with what it had, and
/// once more do nothing.
fn in_the_end(node: &mut Node) {
    for event in
        [Event::Opens(false), Event::Storage(false), Event::Pf(true), Event::Container(Build::good(9))]
    {
        node.happens(event);
    }
    let wanted = match node.snapshot_state() {
        SnapshotState::Armed(armed) => Node::configuration_of(&armed),
        _ => node.configuration(),
    };
    let restore = Command::Restore { from_record: false };
    for command in [Command::Reload, restore] {
        let ended = node.happens(Event::Run(command, Disturbed::Not));
        assert_eq!(ended, Some(Ended::With(Exit::Success)), "{command:?} in the end");
    }
    assert_eq!((node.driver(), node.is_ready()), (Some(Build::good(9)), true));
    has(node, &wanted);
    for command in [Command::Reload, restore] {
        node.happens(Event::Run(command, Disturbed::Not));
        assert_eq!(node.kernel.acts(), [], "{command:?} once more");
    }
    assert!(node.is_ready());
    // What somebody changes then stays changed, unless somebody asks for what was.
    let SnapshotState::Record(record) = node.snapshot_state() else { panic!("no record") };
    node.happens(Event::Configure(7777));
    for command in [Command::Reload, restore] {
        node.happens(Event::Run(command, Disturbed::Not));
        assert_eq!(node.kernel.acts(), [], "{command:?} undoes what somebody has changed");
    }
    node.happens(Event::Run(Command::Restore { from_record: true }, Disturbed::Not));
    has(node, &Node::configuration_of(&record));
}

/// Makes sure that these PFs have what they had. Others may have come since.
fn has(node: &Node, wanted: &Configuration) {
    let now = node.configuration();
    let lost: Vec<_> = wanted.iter().filter(|(pf, mtu)| now.get(*pf) != Some(*mtu)).collect();
    assert!(lost.is_empty(), "{lost:?} of {wanted:?}");
}

/// Lets something happen, and looks whether all that must hold does.
pub(super) fn happens(node: &mut Node, event: Event) -> Option<Ended> {
    let before = Before::of(node);
    let ended = node.happens(event);
    always(node);
    match (event, ended) {
        (Event::Run(command, disturbed), Some(Ended::With(exit))) => {
            after_command(&before, command, disturbed, exit, node);
        }
        (Event::Run(_, disturbed), Some(Ended::Killed)) => assert!(disturbed.is_kill()),
        _ => {}
    }
    ended
}

fn build() -> impl Strategy<Value = Build> {
    let flaw = prop_oneof![
        4 => Just(Flaw::None),
        1 => Just(Flaw::Refused),
        1 => Just(Flaw::WithoutNetdevs),
        1 => Just(Flaw::LastRefused),
    ];
    (1_u8..4, flaw).prop_map(|(number, flaw)| Build { number, flaw })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => Just(Command::Reload),
        4 => any::<bool>().prop_map(|from_record| Command::Restore { from_record }),
        1 => Just(Command::Snapshot),
        2 => any::<bool>().prop_map(|inbox| Command::Terminate(DriverAfterwards::of(inbox))),
    ]
}

fn disturbed() -> impl Strategy<Value = Disturbed> {
    prop_oneof![
        4 => Just(Disturbed::Not),
        2 => (0_usize..16).prop_map(Disturbed::KilledBeforeAct),
        3 => (1_usize..60).prop_map(Disturbed::KilledAfterLine),
        1 => (0_usize..8).prop_map(Disturbed::StorageBeforeAct),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => build().prop_map(Event::Container),
        10 => (command(), disturbed()).prop_map(|(command, disturbed)| Event::Run(command, disturbed)),
        1 => Just(Event::Reboot),
        2 => (1280_u32..9000).prop_map(Event::Configure),
        1 => Just(Event::SwapByHand),
        1 => any::<bool>().prop_map(Event::Opens),
        1 => any::<bool>().prop_map(Event::Storage),
        1 => any::<bool>().prop_map(Event::Pf),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_lost(events in proptest::collection::vec(event(), 1..12)) {
        let mut node = Node::new(Build::good(1));
        for event in events {
            happens(&mut node, event);
        }
        in_the_end(&mut node);
    }
}
