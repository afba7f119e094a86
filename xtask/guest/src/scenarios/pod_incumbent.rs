//! From the container that ours replaces to ours and back, on one node and under the same manifest: what the one leaves when it has
//! ended, or was killed, is what the other begins with. A stand-in for it is part of the lab (`xtask/src/pod/incumbent/`).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nic_driver::default_paths::{DRIVERS_MOUNT, LOCK_FILE};
use nic_driver::state::{Entry, JournalEvent, Step};

use crate::guest::Guest;
use crate::observe::Nics;
use crate::pods::{DRIVER, Node, Started, System, headers_mounts};
use crate::readiness::READY;
use crate::{drivers, journal, read, report, say};

const PATIENCE: Duration = Duration::from_secs(400);
/// The replaced container restores what it knows of: such VFs have nothing else.
const VFS: u32 = 2;
/// What it says when the node is ready.
const IS_READY: &str = "incumbent: ready";
const RULES: &str = "/etc/udev/rules.d";
const BLACKLIST: &str = "/etc/modprobe.d/blacklist-ofed-modules.conf";
/// Where the operator's manifest has the inventory.
const INVENTORY: &str = "/var/opt/mofed-container/inventory";
/// The variable of the stand-in that names the moment at which it is to be killed.
const STOPS_AT: &str = "INCUMBENT_STOPS_AT";
const RESTORE_DRIVER: &str = "RESTORE_DRIVER_ON_POD_TERMINATION";
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
    report(
        "the replaced container ended well, and was killed when ready, in a build, with its blacklist on: ours was ready within",
    );
    report(
        "one instance each time, and it within one on what ours had left; nothing of either is left on the node",
    );
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
    ensure!(Path::new(DRIVERS_MOUNT).join(LOCK_FILE).exists(), "it left no lock file");
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
    // It made the link absolute, as ours would be in vain for others.
    let seen = format!("{DRIVERS_MOUNT}/usr/src/ofa_kernel/default/version");
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

    let ours = Ours::start(node, "A", &[])?;
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

/// Starts it, and kills it at a moment of its course.
fn killed_at(node: &Node, pod: &str, moment: &str, variables: &[(&str, &str)]) -> anyhow::Result<()> {
    let theirs = node.start(pod, &[&[(STOPS_AT, moment)], variables].concat())?;
    theirs.pod.wait_until_it_says(DRIVER, &format!("stops at the moment {moment}"), PATIENCE)?;
    node.kill(theirs)
}

/// Waits until it is ready, and makes sure that it did what it should.
fn theirs_is_ready(node: &mut Node, theirs: &Started, letter: &str, words: &[&str]) -> anyhow::Result<()> {
    node.until_it_says(theirs, IS_READY, letter, PATIENCE)?;
    let said = theirs.pod.log(DRIVER)?;
    for words in words {
        ensure!(said.contains(words), "the incumbent does not say {words:?}: {said}");
    }
    Found::OF_READY.expect("the incumbent is ready")
}

fn rule() -> anyhow::Result<PathBuf> {
    let of_names = |path: &PathBuf| path.to_string_lossy().contains("mlnx-net-names");
    let mut found: Vec<_> = list(Path::new(RULES))?.into_iter().filter(of_names).collect();
    match (found.pop(), found.is_empty()) {
        (Some(rule), true) => Ok(rule),
        (rule, _) => bail!("there are other rules for names than one: {rule:?}, {found:?}"),
    }
}

fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .with_context(|| format!("cannot list {}", folder.display()))
}

/// What of a driver container is on the node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Found {
    readiness: bool,
    rules: usize,
    blacklist: bool,
    /// Mounts of headers, one on the other.
    headers: usize,
    is_locked: bool,
}

impl Found {
    const OF_READY: Self = Self { readiness: true, rules: 1, blacklist: false, headers: 1, is_locked: true };

    fn now() -> anyhow::Result<Self> {
        let lock = Path::new(DRIVERS_MOUNT).join(LOCK_FILE);
        let lock = File::open(&lock).with_context(|| format!("cannot open {}", lock.display()))?;
        let rules = list(Path::new(RULES))?;
        Ok(Self {
            readiness: Path::new(READY).exists(),
            rules: rules.iter().filter(|path| path.to_string_lossy().contains("mlnx-net-names")).count(),
            // A link that leads nowhere counts, too.
            blacklist: fs::symlink_metadata(BLACKLIST).is_ok(),
            headers: headers_mounts()?,
            is_locked: lock.try_lock().is_err(),
        })
    }

    fn expect(&self, when: &str) -> anyhow::Result<()> {
        let now = Self::now()?;
        ensure!(now == *self, "when {when}, there is {now:?}, not {self:?}");
        Ok(())
    }
}

/// What stays on the node.
#[derive(Debug)]
struct Places<'a> {
    kernel: &'a str,
}

impl Places<'_> {
    fn host_tree(&self) -> PathBuf {
        Path::new("/lib/modules").join(self.kernel).join("extra/mlnx-ofa_kernel")
    }

    /// By what ours knows its own files there.
    fn note(&self) -> PathBuf {
        self.host_tree().join(".nic-driver.json")
    }

    fn entry(&self, letter: &str) -> PathBuf {
        let version = drivers::version(letter).map(|version| version.version).unwrap_or_default();
        Path::new(INVENTORY).join(self.kernel).join(version)
    }

    /// An error unless exactly these files are beside an entry's folder.
    fn expect_entry(&self, letter: &str, ends: &[&str]) -> anyhow::Result<()> {
        let folder = self.entry(letter);
        for end in ["checksum", "buildconfig", "sha256"] {
            // Versions have dots: what follows the name is no extension.
            let file = PathBuf::from(format!("{}.{end}", folder.display()));
            let expected = ends.contains(&end);
            ensure!(file.exists() == expected, "{} is there: {}", file.display(), file.exists());
        }
        Ok(())
    }
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
        node.until_ready(&started, letter, PATIENCE)?;
        Found::OF_READY.expect("ours is ready")?;
        ensure!(read(rule()?)?.starts_with("# Written by nic-driver"), "the rule is not that of ours");
        let lines = journal::lines()?.split_off(before);
        Ok(Self { started, letter, lines })
    }

    fn began(&self, step: &str) -> bool {
        self.lines.iter().any(
            |line| matches!(&line.entry, Entry::StepBegan { step: begun, .. } if begun.starts_with(step)),
        )
    }

    fn unloads(&self) -> anyhow::Result<bool> {
        Ok(self.began(&journal::unload("igb")?.to_string()))
    }

    fn has_swapped(&self) -> anyhow::Result<&Self> {
        ensure!(self.unloads()?, "no driver was swapped");
        Ok(self)
    }

    fn has_not_swapped(&self) -> anyhow::Result<&Self> {
        ensure!(!self.unloads()?, "the driver was swapped for nothing");
        Ok(self)
    }

    fn builds(&self) -> bool {
        self.began(&Step::BuildPackages { sources: PathBuf::new() }.to_string())
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
                if look_up.is(step) && detail.contains(BY_ITS_CHECKSUM))
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
