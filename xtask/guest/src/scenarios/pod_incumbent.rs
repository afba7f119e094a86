//! From the container that ours replaces to ours and back, on one node and under the same manifest: what the one leaves when it has
//! ended, or was killed, is what the other begins with. A stand-in for it is part of the lab (`xtask/src/pod/incumbent/`).

mod left;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nic_driver::default_paths::{DRIVERS_MOUNT, LOCK_FILE};
use nic_driver::state::{Effect, Entry, JournalEvent, Step};

use crate::guest::Guest;
use crate::observe::{Nics, igb_pfs, netdev_of, pci_device};
use crate::pods::{DRIVER, IS_READY, Node, RESTORE_DRIVER, Started, System};
use crate::{drivers, journal, read, report, say};
use left::{BLACKLIST, Found, INVENTORY, Places, lock, rule};

const PATIENCE: Duration = Duration::from_secs(600);
/// The replaced container restores what it knows of: such VFs have nothing else.
const VFS: u32 = 2;
/// What it says when the node is ready.
const INCUMBENT_IS_READY: &str = "incumbent: ready";
/// The variable of the stand-in that names the moment at which it is to be killed.
const STOPS_AT: &str = "INCUMBENT_STOPS_AT";
/// What the words are of packages that it has stored.
const BY_ITS_CHECKSUM: &str = "the checksum of the earlier entrypoint";

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let mut node = Node::set_up(System::Rhel, VFS, None)?;
    let places = Places { kernel: guest.kernel() };
    ended_well(&mut node, &places)?;
    killed_when_ready(&mut node, &places)?;
    begins_on_what_ours_has_left(&mut node, &places)?;
    killed_in_a_build(&mut node, &places)?;
    killed_before_the_modules_go(&mut node, &places)?;
    back_to_the_inbox_driver(&mut node, &places)?;
    killed_without_a_driver(&mut node)?;
    report(
        "killed when ready, in a build, with its blacklist on, without a driver: ours was ready within one instance each time",
    );
    report("on what ours had left, it was; nothing of either is left on the node");
    node.end(guest)
}

/// From one that has ended well to ours with another version.
fn ended_well(node: &mut Node, places: &Places<'_>) -> anyhow::Result<()> {
    let theirs = node.start("incumbent-A", &[])?;
    theirs_is_ready(node, &theirs, "A", &["builds the packages", "reloads the driver"])?;
    ensure!(read(rule()?)?.starts_with("ACTION"), "its rule is not there");
    node.delete(theirs)?;
    Found::default().expect("the incumbent has ended")?;
    node.expect("A")?;
    ensure!(Path::new(LOCK_FILE).exists(), "it left no lock file");
    places.expect_entry("A", &["checksum", "buildconfig"])?;
    ensure!(
        places.host_tree().is_dir() && !places.note().exists(),
        "its copy in the host's tree is not there"
    );

    let ours = Ours::start(node, "B", &[])?;
    ours.has_swapped()?.has_built()?;
    places.expect_entry("A", &[])?;
    places.expect_entry("B", &["checksum", "buildconfig", "sha256"])?;
    ensure!(places.note().exists(), "its copy in the host's tree was not taken over");
    let seen = format!("{DRIVERS_MOUNT}/usr/src/ofa_kernel/default/Module.symvers");
    ensure!(read(&seen)? == drivers::version("B")?.version, "{seen} is not of the driver that runs");
    ours.end(node)
}

/// It takes the packages that ours has built, and is killed when it is ready.
fn killed_when_ready(node: &mut Node, places: &Places<'_>) -> anyhow::Result<()> {
    let theirs = node.start("incumbent-B", &[])?;
    theirs_is_ready(node, &theirs, "B", &["takes the packages of the inventory", "the driver runs already"])?;
    node.kill(theirs)?;
    Found { readiness: true, rules: 1, headers: 1, ..Found::default() }
        .expect("it was killed when it was ready")?;
    places.expect_entry("B", &["checksum", "buildconfig"])?;

    let netdevs = Nics::interface_indices()?;
    let ours = Ours::start(node, "B", &[])?;
    ours.has_not_swapped()?.has_taken_its_packages(places, "B")?;
    ensure!(netdevs == Nics::interface_indices()?, "a netdev was made anew although nothing was to be done");
    ours.end(node)
}

/// Back to the version before, by the replaced container alone.
fn begins_on_what_ours_has_left(node: &mut Node, places: &Places<'_>) -> anyhow::Result<()> {
    ensure!(places.note().exists(), "ours has left nothing in the host's tree");
    let theirs = node.start("incumbent-A", &[])?;
    theirs_is_ready(node, &theirs, "A", &["builds the packages", "reloads the driver"])?;
    let said = theirs.pod.log(DRIVER)?;
    ensure!(!said.contains("dead container"), "it found a mount that ours has left: {said}");
    node.delete(theirs)?;
    Found::default().expect("it has ended on a node that ours had left")?;
    ensure!(!places.note().exists(), "its copy in the host's tree has the note of ours");
    node.expect("A")
}

/// It has copied half a package into the inventory.
fn killed_in_a_build(node: &mut Node, places: &Places<'_>) -> anyhow::Result<()> {
    killed_at(node, "incumbent-B", "build", &[])?;
    Found { rules: 1, ..Found::default() }.expect("it was killed in a build")?;
    places.expect_entry("B", &[])?;
    ensure!(places.entry("B").is_dir(), "it left no half of an entry");
    node.expect("A")?;

    let ours = Ours::start(node, "B", &[])?;
    ours.has_swapped()?.has_built()?;
    ours.end(node)
}

/// Its packages are installed, and the blacklist is on.
fn killed_before_the_modules_go(node: &mut Node, places: &Places<'_>) -> anyhow::Result<()> {
    killed_at(node, "incumbent-A", "blacklist", &[])?;
    Found { rules: 1, blacklist: true, ..Found::default() }.expect("it was killed with its blacklist on")?;
    ensure!(read(BLACKLIST)?.contains("blacklist igb\n"), "the driver's module is not in its blacklist");
    node.expect("B")?;

    // As if it were at work still.
    let held = lock()?;
    held.try_lock().context("its lock outlives it")?;
    let lines = journal::lines()?.len();
    let started = node.start("operator-A", &[])?;
    started.pod.wait_until_it_says(DRIVER, "waiting for another nic-driver", PATIENCE)?;
    let left = Found { rules: 1, blacklist: true, is_locked: true, ..Found::default() };
    left.expect("ours waits for the lock")?;
    held.unlock().context("cannot let go of the lock")?;
    let ours = Ours::when_ready(node, started, "A", lines)?;
    ours.has_swapped()?.has_taken_its_packages(places, "A")?;
    ours.end(node)
}

/// An entry has the checksum of what was there before; ours builds anew, and at its end takes all out of the host's tree that the
/// two have put there.
fn back_to_the_inbox_driver(node: &mut Node, places: &Places<'_>) -> anyhow::Result<()> {
    killed_at(node, "incumbent-A", "build", &[("ENABLE_NFSRDMA", "true")])?;
    places.expect_entry("A", &["checksum", "buildconfig"])?;

    let ours = Ours::start(node, "A", &[(RESTORE_DRIVER, "true")])?;
    ours.has_not_swapped()?.has_built()?;
    ours.end_with(node, Node::expect_inbox)?;
    let tree = places.host_tree();
    ensure!(!tree.exists(), "{} is still there", tree.display());
    Ok(())
}

/// It has unloaded the driver, and with it goes what it knew of the VFs: nobody brings them back.
fn killed_without_a_driver(node: &mut Node) -> anyhow::Result<()> {
    node.judge_readiness()?;
    killed_at(node, "incumbent-A", "unloaded", &[])?;
    Found { rules: 1, blacklist: true, ..Found::default() }.expect("it was killed without a driver")?;
    ensure!(!Path::new("/sys/module/igb").exists(), "its driver is loaded");

    let ours = node.start("operator-A", &[])?;
    ours.pod.wait_until_it_says(DRIVER, IS_READY, PATIENCE)?;
    Found::OF_READY.expect("ours is ready")?;
    ensure!(ours.pod.restarts(DRIVER)? == 0, "ours was started again");
    let loaded = read("/sys/module/igb/version")?;
    ensure!(loaded == drivers::version("A")?.version, "igb {loaded} is loaded");
    for pf in igb_pfs()? {
        netdev_of(&pf)?;
        let vfs = read(pci_device(&pf).join("sriov_numvfs"))?;
        ensure!(vfs == "0", "{pf} has {vfs} VFs that nobody knew of");
    }
    node.delete(ours)?;
    Found::default().expect("ours has ended")
}

/// Starts it, and kills it at a moment of its course.
fn killed_at(node: &Node, pod: &str, moment: &str, variables: &[(&str, &str)]) -> anyhow::Result<()> {
    let theirs = node.start(pod, &[&[(STOPS_AT, moment)], variables].concat())?;
    theirs.pod.wait_until_it_says(DRIVER, &format!("stops at the moment {moment}"), PATIENCE)?;
    node.kill(theirs)
}

/// Waits until it is ready, and makes sure that it did what it should.
fn theirs_is_ready(node: &mut Node, theirs: &Started, letter: &str, words: &[&str]) -> anyhow::Result<()> {
    node.until_it_says(theirs, INCUMBENT_IS_READY, letter, PATIENCE)?;
    let said = theirs.pod.log(DRIVER)?;
    for words in words {
        ensure!(said.contains(words), "the incumbent does not say {words:?}: {said}");
    }
    Found::OF_READY.expect("the incumbent is ready")
}

/// A pod with our container that is ready.
#[derive(Debug)]
struct Ours {
    started: Started,
    letter: &'static str,
    /// What it wrote to the journal until then.
    lines: Vec<JournalEvent>,
}

impl Ours {
    fn start(node: &mut Node, letter: &'static str, variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let before = journal::lines()?.len();
        let started = node.start(&format!("operator-{letter}"), variables)?;
        Self::when_ready(node, started, letter, before)
    }

    /// Waits until it is; `before` is how many lines the journal had.
    fn when_ready(
        node: &mut Node,
        started: Started,
        letter: &'static str,
        before: usize,
    ) -> anyhow::Result<Self> {
        node.until_ready(&started, letter, PATIENCE)?;
        Found::OF_READY.expect("ours is ready")?;
        ensure!(read(rule()?)?.starts_with("# Written by nic-driver"), "the rule is not that of ours");
        let lines = journal::lines()?.split_off(before);
        Ok(Self { started, letter, lines })
    }

    fn began(&self, is_wanted: impl Fn(&Step) -> bool) -> bool {
        self.lines.iter().any(|line| line.entry.begins(&is_wanted))
    }

    fn unloads(&self) -> bool {
        self.began(journal::unloads("igb"))
    }

    fn has_swapped(&self) -> anyhow::Result<&Self> {
        ensure!(self.unloads(), "no driver was swapped");
        Ok(self)
    }

    fn has_not_swapped(&self) -> anyhow::Result<&Self> {
        ensure!(!self.unloads(), "the driver was swapped for nothing");
        Ok(self)
    }

    fn builds(&self) -> bool {
        self.began(|step| step.effect() == Effect::Builds)
    }

    fn has_built(&self) -> anyhow::Result<()> {
        ensure!(self.builds(), "the packages of {} were not built", self.letter);
        Ok(())
    }

    fn has_taken_its_packages(&self, places: &Places<'_>, letter: &str) -> anyhow::Result<()> {
        let seen = places.entry(letter);
        let seen = Path::new("/mnt/drivers-inventory").join(seen.strip_prefix(INVENTORY)?);
        let look_up = Step::LookUpPackages { folder: seen };
        let verified = self.lines.iter().any(|line| {
            matches!(&line.entry, Entry::StepEnded { step, detail: Some(detail), .. }
                if step.is(&look_up) && detail.contains(BY_ITS_CHECKSUM))
        });
        ensure!(verified && !self.builds(), "its packages of {letter} were not taken by its checksum");
        Ok(())
    }

    fn end(self, node: &mut Node) -> anyhow::Result<()> {
        let letter = self.letter;
        self.end_with(node, |node| node.expect(letter))
    }

    fn end_with(
        self,
        node: &mut Node,
        expect: impl FnOnce(&Node) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        node.delete(self.started)?;
        Found::default().expect("ours has ended")?;
        expect(node)?;
        say("nothing of ours is left");
        Ok(())
    }
}
