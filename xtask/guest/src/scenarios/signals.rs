//! What becomes of the machine when the program is told to stop, or is ended, at any moment; and that there is only one of
//! it at a time.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nic_driver::Exit;
use nic_driver::state::Step;
use rustix::process::Signal;

use crate::drivers;
use crate::guest::Guest;
use crate::installed::{install, set_up};
use crate::observe::Nics;
use crate::program::{NicDriver, Running};
use crate::readiness::{self, READY};
use crate::vfs::VF_DRIVER;
use crate::{journal, report, say, wait, write};

/// Before the first change of a reload.
const BEFORE: Wanted = |step| *step == Step::FindBlockers;
/// The first module goes: a step after the first change of a reload.
const WITHIN: Wanted = |step| matches!(step, Step::Unload { module } if module.as_str() == VF_DRIVER);
/// The step of a restore.
const RESTORING: Wanted = |step| matches!(step, Step::RestoreNics { .. });
/// A control group for the processes that end together, as those of a container do.
const GROUP: &str = "/sys/fs/cgroup/lab-container";

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let node = Node { before: set_up(guest.parameter("vfs")?)? };
    let watch = readiness::watch(&node.before)?;
    install("B")?;
    node.before_the_first_change()?;
    node.one_at_a_time_and_within_a_reload()?;
    install("A")?;
    node.within_a_restore()?;
    node.too_little_time()?;
    install("B")?;
    NicDriver::new(["reload"]).quietly().run()?.expect(Exit::Success)?;
    NicDriver::new(["restore-sriov"]).quietly().run()?.expect(Exit::Success)?;
    install("A")?;
    node.hung_up_within_a_reload()?;
    install("B")?;
    node.whole_container()?;
    let seen = watch.end()?;
    report(&format!("{} VFs: {seen}", node.before.vf_count()));
    seen.ensure_right()
}

/// Whether it is the step in which a signal is to fall.
type Wanted = fn(&Step) -> bool;

struct Node {
    before: Nics,
}

impl Node {
    fn before_the_first_change(&self) -> anyhow::Result<()> {
        let indices = Nics::interface_indices()?;
        for signal in ["TERM", "INT", "HUP"] {
            say(&format!("== SIG{signal} before the first change"));
            let reload = start_and_wait_for("reload", BEFORE)?;
            reload.signal(signal)?;
            let stopped = reload.wait()?.expect(Exit::Interrupted)?;
            report(&format!("SIG{signal} before the first change: {}", stopped.last_words()));
            ensure!(Nics::interface_indices()? == indices, "netdevs were taken away");
            ensure!(Path::new(READY).exists(), "readiness was taken away");
            self.is_what_it_was("A")?;
        }
        Ok(())
    }

    /// A second instance waits, and is told who the first one is; the first one ends what it has begun.
    fn one_at_a_time_and_within_a_reload(&self) -> anyhow::Result<()> {
        say("== a second instance, and SIGTERM after the first change");
        let reload = start_and_wait_for("reload", WITHIN)?;
        reload.signal("TERM")?;
        // All at once: each waits for a second, and the first is not to end meanwhile.
        let seconds: Vec<_> = ["reload", "restore-sriov", "terminate", "snapshot"]
            .map(|second| NicDriver::new(["--timeout", "1", second]).quietly().start())
            .into_iter()
            .collect::<anyhow::Result<_>>()?;
        for second in seconds {
            let refused = second.wait()?.expect(Exit::Locked)?;
            refused.expect_words(&[&format!("pid {}", reload.id()), "command reload", "since"])?;
        }
        let finished = reload.wait()?.expect(Exit::Success)?;
        finished.expect_words(&["asked to stop, and so restored at once"])?;
        self.is_what_it_was("B")?;
        ensure!(!Path::new(READY).exists(), "ready although it was told to stop");
        NicDriver::new(["restore-sriov"]).quietly().run()?.expect(Exit::Success)?;
        report("a second instance was told of the first");
        report(&format!(
            "SIGTERM after the first change: finished after {:.1} s",
            finished.time.as_secs_f64()
        ));
        Ok(())
    }

    /// The session that a reload was started from goes with the NIC: twice, and the reload ends as if nobody had asked.
    fn hung_up_within_a_reload(&self) -> anyhow::Result<()> {
        say("== SIGHUP after the first change");
        let reload = start_and_wait_for("reload", WITHIN)?;
        reload.signal("HUP")?;
        reload.wait_until_it_says("SIGHUP after the first change: ignored")?;
        reload.signal("HUP")?;
        let finished = reload.wait()?.expect(Exit::Success)?;
        ensure!(!finished.says_any(&["asked to stop"]), "SIGHUP was taken for a request to stop");
        let restore = start_and_wait_for("restore-sriov", RESTORING)?;
        restore.signal("HUP")?;
        restore.wait()?.expect(Exit::Success)?;
        self.is_what_it_was("A")?;
        ensure!(Path::new(READY).exists(), "not ready although nobody asked to stop");
        report("SIGHUP after the first change: ignored, in a reload and in a restore");
        Ok(())
    }

    /// Ended at once by the second SIGINT, it is gone on with; that, told once, ends what it has begun.
    fn within_a_restore(&self) -> anyhow::Result<()> {
        NicDriver::new(["reload"]).quietly().run()?.expect(Exit::Success)?;
        twice(("INT", Signal::INT), "restore-sriov", RESTORING)?;
        say("== SIGTERM in a restore");
        let restore = start_and_wait_for("restore-sriov", RESTORING)?;
        restore.signal("TERM")?;
        restore.wait()?.expect(Exit::Success)?;
        self.is_what_it_was("A")?;
        report("SIGTERM in a restore: finished");
        Ok(())
    }

    fn too_little_time(&self) -> anyhow::Result<()> {
        say("== a grace period that is too short");
        let indices = Nics::interface_indices()?;
        let terminate = NicDriver::new(["terminate", "--restore-driver", "--grace", "1"]);
        let refused = terminate.run()?.expect(Exit::Blocked)?;
        refused.expect_words(&["not begun"])?;
        ensure!(Nics::interface_indices()? == indices, "netdevs were taken away");
        self.is_what_it_was("A")?;
        report(&format!("a grace period of 1 s: {}", refused.last_words()));
        Ok(())
    }

    /// The kernel ends the program and all it has started, as when a container is out of memory: the lock is free at
    /// once. What goes on then is ended by a second SIGTERM, and what goes on after that is left alone.
    fn whole_container(&self) -> anyhow::Result<()> {
        say("== the whole container is killed while a module is loaded");
        fs::create_dir(GROUP).with_context(|| format!("cannot create {GROUP}"))?;
        let reload = NicDriver::new(["reload"]).quietly().start()?;
        write(Path::new(GROUP).join("cgroup.procs"), &reload.id().to_string())?;
        journal::wait_for_step(&reload, journal::loads("igb"))?;
        write(Path::new(GROUP).join("cgroup.kill"), "1")?;
        ensure!(reload.wait()?.was_killed(), "it was not killed");
        // The kernel takes a moment to let go of what it has killed.
        wait::until("the control group is empty", Duration::from_secs(20), || {
            Ok(fs::remove_dir(GROUP).is_ok().then_some(()))
        })?;
        NicDriver::new(["reload"]).quietly().run()?.expect(Exit::Success)?;
        twice(("TERM", Signal::TERM), "restore-sriov", RESTORING)?;
        for phase in ["reload", "restore-sriov"] {
            NicDriver::new([phase]).quietly().run()?.expect(Exit::Success)?;
        }
        self.is_what_it_was("B")?;
        ensure!(Path::new(READY).exists(), "not ready although verified");
        report("the whole container killed while a module is loaded: gone on with");
        Ok(())
    }

    fn is_what_it_was(&self, runs: &str) -> anyhow::Result<()> {
        drivers::expect_loaded(&drivers::version(runs)?)?;
        self.before.expect_unchanged()
    }
}

/// The second signal is obeyed at once, whatever is under way.
fn twice((name, signal): (&str, Signal), command: &str, step: Wanted) -> anyhow::Result<()> {
    say(&format!("== SIG{name} twice in `{command}`"));
    let running = start_and_wait_for(command, step)?;
    running.signal(name)?;
    running.wait_until_it_says("asked to stop")?;
    running.signal(name)?;
    let told = Instant::now();
    let ended = running.wait()?.expect_ended_by(signal)?;
    let took = told.elapsed();
    // The kernel lets no thread go that makes VFs or binds one, which takes it a second or two.
    ensure!(took < Duration::from_secs(5), "it took {:.1} s", took.as_secs_f64());
    ensure!(!Path::new(READY).exists(), "ready although it was ended in the midst");
    report(&format!("SIG{name} twice: {} after {:.1} s", ended.ended_with(), took.as_secs_f64()));
    Ok(())
}

fn start_and_wait_for(command: &str, step: Wanted) -> anyhow::Result<Running> {
    let running = NicDriver::new([command]).start()?;
    journal::wait_for_step(&running, step)?;
    Ok(running)
}
