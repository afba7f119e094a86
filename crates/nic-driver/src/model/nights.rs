//! A few nights, killed at every point.

use super::build::{Build, Flaw, INBOX};
use super::laws::happens;
use super::node::{Command, Disturbed, Ended, Event, Node};
use crate::Exit;
use crate::phase::DriverAfterwards;

const RESTORE: Command = Command::Restore { from_record: false };

fn run(node: &mut Node, command: Command) -> Exit {
    match node.happens(Event::Run(command, Disturbed::Not)) {
        Some(Ended::With(exit)) => exit,
        other => panic!("{command:?} has ended {other:?}"),
    }
}

#[test]
fn the_documented_night() {
    let mut node = Node::new(Build::good(1));
    node.happens(Event::Configure(9000));
    let configuration = node.configuration();
    for build in [Build::good(1), Build::good(2)] {
        node.happens(Event::Container(build));
        assert_eq!(run(&mut node, Command::Reload), Exit::Success, "{build:?}");
        assert_eq!(run(&mut node, RESTORE), Exit::Success, "{build:?}");
        assert_eq!((node.driver(), node.configuration()), (Some(build), configuration.clone()));
        assert!(node.is_ready());
        // Run again, nothing is done.
        assert_eq!(run(&mut node, Command::Reload), Exit::Success);
        assert_eq!(run(&mut node, RESTORE), Exit::Success);
        assert_eq!(node.kernel.acts(), []);
    }
    assert_eq!(run(&mut node, Command::Terminate(DriverAfterwards::Inbox)), Exit::Success);
    assert_eq!((node.driver(), node.configuration()), (Some(INBOX), configuration));
    assert!(!node.is_ready());
}

#[test]
fn a_bad_driver_is_taken_back_and_not_tried_again() {
    for flaw in [Flaw::Refused, Flaw::WithoutNetdevs, Flaw::LastRefused] {
        let mut node = Node::new(Build::good(1));
        node.happens(Event::Configure(9000));
        let configuration = node.configuration();
        run(&mut node, Command::Reload);
        run(&mut node, RESTORE);
        node.happens(Event::Container(Build { number: 2, flaw }));
        assert_eq!(run(&mut node, Command::Reload), Exit::RolledBack, "{flaw:?}");
        assert_eq!(
            node.driver(),
            Some(Build::good(1)),
            "{flaw:?}: its container is gone, and its files are kept"
        );
        assert_eq!(node.configuration(), configuration);
        assert!(!node.is_ready(), "{flaw:?}");
        assert_eq!(run(&mut node, Command::Reload), Exit::Blocked, "{flaw:?}");
        assert_eq!(node.kernel.acts(), [], "{flaw:?} is not tried again");
    }
}

/// A restore that was asked for by hand and could not give all back leaves an armed snapshot, and no swap has kept anything.
#[test]
fn a_reload_behind_a_restore_that_could_not_give_all_back_keeps_its_way_back() {
    let mut node = Node::new(Build { number: 2, flaw: Flaw::Refused });
    assert_eq!(run(&mut node, Command::Snapshot), Exit::Success);
    node.happens(Event::Pf(false));
    assert_eq!(run(&mut node, RESTORE), Exit::Degraded);
    // The driver is taken back, and the PF is still missing.
    assert_eq!(run(&mut node, Command::Reload), Exit::Degraded);
    assert_eq!(node.driver(), Some(INBOX));
}

/// A node that runs a driver well, with a container of another build on it.
fn before_the_swap(next: Build) -> Node {
    let mut node = Node::new(Build::good(1));
    node.happens(Event::Configure(9000));
    run(&mut node, Command::Reload);
    run(&mut node, RESTORE);
    node.happens(Event::Container(next));
    node
}

/// A command that is killed at a point, and then run again as often as it takes.
fn killed(flaw: Flaw, at: impl Fn(usize) -> Disturbed) -> usize {
    let next = Build { number: 2, flaw };
    for point in 0.. {
        let mut node = before_the_swap(next);
        let configuration = node.configuration();
        let ended = happens(&mut node, Event::Run(Command::Reload, at(point)));
        let was_killed = ended == Some(Ended::Killed);
        for command in [Command::Reload, RESTORE] {
            happens(&mut node, Event::Run(command, Disturbed::Not));
        }
        let (driver, is_ready) = if flaw == Flaw::None { (next, true) } else { (Build::good(1), false) };
        assert_eq!((node.driver(), node.is_ready()), (Some(driver), is_ready), "{flaw:?}, killed at {point}");
        assert_eq!(node.configuration(), configuration, "{flaw:?}, killed at {point}");
        if !was_killed {
            return point;
        }
    }
    unreachable!()
}

#[test]
fn a_reload_killed_before_each_act_is_ended_by_the_next() {
    for flaw in [Flaw::None, Flaw::Refused, Flaw::WithoutNetdevs, Flaw::LastRefused] {
        assert!(killed(flaw, Disturbed::KilledBeforeAct) >= 8, "{flaw:?}");
    }
}

#[test]
fn a_reload_killed_after_each_line_of_the_journal_is_ended_by_the_next() {
    assert!(killed(Flaw::WithoutNetdevs, |point| Disturbed::KilledAfterLine(point + 1)) > 40);
}
