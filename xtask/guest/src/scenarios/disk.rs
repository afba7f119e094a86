//! What becomes of the machine when the state directory takes nothing, or holds what cannot be used.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use nic_driver::Exit;
use nic_driver::default_paths::{BLACKLIST_FILE, STATE_DIR};
use nic_driver::state::{Effect, Step};

use crate::command::run as command;
use crate::drivers;
use crate::guest::Guest;
use crate::installed::set_up;
use crate::observe::Nics;
use crate::program::{FAMILY, NicDriver, Outcome, snapshot_of, store};
use crate::readiness::{self, READY};
use crate::{journal, read, report, say, wait, write};

/// Keeps igb from being loaded.
const RULE: &str = "/etc/modprobe.d/lab-no-igb.conf";
/// Takes all space that is left.
const BALLAST: &str = "ballast";
/// A reload although the driver that runs is the installed one: nothing has to be installed for it.
const RELOAD: [&str; 2] = ["reload", "--force"];

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let node = Node { before: set_up(guest.parameter("vfs")?)? };
    own_file_system()?;
    let watch = readiness::watch(&node.before)?;
    node.blocked("full", "No space left on device", fill, free)?;
    node.blocked("read-only", "Read-only file system", || remount("ro"), || remount("rw"))?;
    node.full_in_the_midst()?;
    node.read_only_in_the_midst()?;
    node.truncated_snapshot()?;
    node.torn_journal()?;
    node.another_boot()?;
    let seen = watch.end()?;
    report(&format!("{} VFs: {seen}", node.before.vf_count()));
    seen.ensure_right()
}

struct Node {
    before: Nics,
}

impl Node {
    /// Found before the first change.
    fn blocked(
        &self,
        what: &str,
        words: &str,
        arrange: impl Fn() -> anyhow::Result<()>,
        undo: impl Fn() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        say(&format!("== {what}"));
        let (indices, files) = (Nics::interface_indices()?, files()?);
        arrange()?;
        let blocked = NicDriver::new(RELOAD).run()?.expect(Exit::Blocked)?;
        undo()?;
        blocked.expect_words(&[words, STATE_DIR])?;
        ensure!(Nics::interface_indices()? == indices, "netdevs were taken away");
        ensure!(self::files()? == files, "files were left in the state directory: {:?}", self::files()?);
        ensure!(Path::new(READY).exists(), "readiness was taken away");
        self.is_what_it_was()?;
        report(&format!("{what}: {}", blocked.last_words()));
        Ok(())
    }

    /// The driver does not load, and nothing can be recorded: it is taken back all the same.
    fn full_in_the_midst(&self) -> anyhow::Result<()> {
        say("== full after the first change, and the driver does not load");
        write(RULE, "install igb /bin/false\n")?;
        let reload = NicDriver::new(RELOAD).start()?;
        journal::wait_for_step(&reload, is_first_change)?;
        fill()?;
        let failed = reload.wait()?.expect(Exit::Degraded)?;
        failed.expect_words(&["No space left on device", "cannot load igb", "a journal line is lost"])?;
        fs::remove_file(RULE).context("cannot remove the rule")?;
        // All but the record of it.
        self.is_what_it_was()?;
        ensure!(!Path::new(READY).exists(), "ready although that could not be recorded");
        self.restored_and_not_recorded()?;
        free()?;
        self.recorded()?;
        report(&format!("full after the first change: {}", failed.last_words()));
        Ok(())
    }

    fn read_only_in_the_midst(&self) -> anyhow::Result<()> {
        say("== read-only after the first change");
        let reload = NicDriver::new(RELOAD).start()?;
        journal::wait_for_step(&reload, is_first_change)?;
        remount("ro")?;
        let reloaded = reload.wait()?.expect(Exit::Success)?;
        reloaded.expect_words(&["Read-only file system", "a journal line is lost"])?;
        let restored = self.restored_and_not_recorded()?;
        restored.expect_words(&["Read-only file system"])?;
        remount("rw")?;
        self.recorded()?;
        report(&format!("read-only after the first change: {}", restored.last_words()));
        Ok(())
    }

    fn restored_and_not_recorded(&self) -> anyhow::Result<Outcome> {
        let restored = NicDriver::new(["restore-sriov"]).run()?.expect(Exit::Failed)?;
        restored.expect_words(&[&snapshot().display().to_string()])?;
        self.is_what_it_was()?;
        ensure!(!Path::new(READY).exists(), "ready although that could not be recorded");
        Ok(restored)
    }

    fn recorded(&self) -> anyhow::Result<()> {
        for phase in ["reload", "restore-sriov"] {
            NicDriver::new([phase]).quietly().run()?.expect(Exit::Success)?;
        }
        ensure!(Path::new(READY).exists(), "not ready although verified");
        ensure!(!Path::new(BLACKLIST_FILE).exists(), "the blacklist was left behind");
        self.is_what_it_was()
    }

    /// Refused by name, left where it is, and set aside only by who is asked to take a new one.
    fn truncated_snapshot(&self) -> anyhow::Result<()> {
        say("== a truncated snapshot");
        let whole = read(snapshot())?;
        // What is read back below has no blanks at its end.
        let half = whole.get(..whole.len() / 2).context("the snapshot is not ASCII")?.trim_end();
        write(snapshot(), half)?;
        let indices = Nics::interface_indices()?;
        for call in [&RELOAD[..], &["restore-sriov"], &["terminate"]] {
            let refused = NicDriver::new(call).run()?.expect(Exit::BadSnapshot)?;
            refused.expect_words(&[&snapshot().display().to_string()])?;
            ensure!(read(snapshot())? == half, "the damaged snapshot was replaced");
        }
        ensure!(Nics::interface_indices()? == indices, "netdevs were taken away");
        self.set_aside(half, &["snapshot"], &snapshot())?;
        report("a truncated snapshot: refused by name, set aside by `snapshot` alone");
        Ok(())
    }

    fn torn_journal(&self) -> anyhow::Result<()> {
        say("== a torn and a damaged journal");
        let append = |text: &str| -> anyhow::Result<()> {
            let file = fs::File::options().append(true).open(journal::path());
            file.and_then(|mut file| file.write_all(text.as_bytes())).context("cannot append to the journal")
        };
        append("{\"at\":\"2026-")?;
        NicDriver::new(["report"]).quietly().run()?.expect(Exit::Success)?.expect_words(&["passed over"])?;
        let lines = journal::lines()?.len();
        NicDriver::new(["restore-sriov"]).run()?.expect(Exit::Success)?;
        ensure!(journal::lines()?.len() > lines, "nothing was appended to the journal");
        NicDriver::new(["report"]).quietly().run()?.expect(Exit::Success)?;

        append("no journal line\n")?;
        let damaged = read(journal::path())?;
        let failed = NicDriver::new(["report"]).quietly().run()?.expect(Exit::Failed)?;
        failed.expect_words(&[&format!("{} line", journal::path().display())])?;
        self.set_aside(&damaged, &["restore-sriov"], &journal::path())?;
        report("a torn last line of the journal: passed over; a damaged journal: set aside");
        Ok(())
    }

    fn another_boot(&self) -> anyhow::Result<()> {
        say("== a snapshot of another boot");
        let boot = read("/proc/sys/kernel/random/boot_id")?;
        let other = read(snapshot())?.replace(&boot, "00000000-0000-4000-8000-000000000000");
        let other: Vec<_> = other.lines().filter(|line| !line.contains("\"checksum\":")).collect();
        write(snapshot(), &other.join("\n"))?;
        for phase in ["reload", "restore-sriov"] {
            let told = NicDriver::new([phase]).run()?.expect(Exit::Success)?;
            ensure!(told.says_any(&["not due", "nothing is owed"]), "`{phase}`: {}", told.last_words());
            ensure!(read(snapshot())? == other.join("\n"), "the snapshot of another boot was replaced");
        }
        self.set_aside(&other.join("\n"), &["snapshot"], &snapshot())?;
        report("a snapshot of another boot: nothing is owed; set aside by `snapshot`");
        Ok(())
    }

    /// The command sets this file, which has this content, aside, says where, and changes nothing else.
    fn set_aside(&self, content: &str, call: &[&str], file: &Path) -> anyhow::Result<()> {
        let before = files()?;
        let outcome = NicDriver::new(call).run()?.expect(Exit::Success)?;
        let prefix = format!("{}.aside-", file.strip_prefix(STATE_DIR).unwrap_or(file).display());
        let is_new = |name: &&String| name.starts_with(&prefix) && !before.contains(name);
        let name =
            files()?.iter().find(is_new).cloned().with_context(|| format!("there is no new {prefix}…"))?;
        let file = name.rsplit('/').next().unwrap_or(&name);
        outcome.expect_words(&[file])?;
        ensure!(read(Path::new(STATE_DIR).join(&name))? == content, "{name} is another file");
        self.is_what_it_was()
    }

    fn is_what_it_was(&self) -> anyhow::Result<()> {
        drivers::expect_loaded(&drivers::version("A")?)?;
        self.before.expect_unchanged()
    }
}

fn snapshot() -> PathBuf {
    snapshot_of("igb")
}

/// The names of the files in the state directory and in the family's folder in it, without the folder of kept modules.
fn files() -> anyhow::Result<Vec<String>> {
    let list = |folder: &str| -> std::io::Result<Vec<String>> {
        let names = fs::read_dir(Path::new(STATE_DIR).join(folder))?;
        names.map(|entry| Ok(format!("{folder}{}", entry?.file_name().to_string_lossy()))).collect()
    };
    let mut names = list("").with_context(|| format!("cannot list {STATE_DIR}"))?;
    names.extend(list(&format!("{FAMILY}/")).context("cannot list the family's folder")?);
    names.retain(|name| name != FAMILY && Path::new(STATE_DIR).join(name) != store(FAMILY).backup_folder());
    names.sort_unstable();
    Ok(names)
}

/// Puts the state directory on a small file system of its own.
fn own_file_system() -> anyhow::Result<()> {
    let copy = "/tmp/state";
    command("cp", ["-a", STATE_DIR, copy])?;
    command("mount", ["-t", "tmpfs", "-o", "size=4m", "state", STATE_DIR])?;
    command("cp", ["-a", &format!("{copy}/."), STATE_DIR]).map(drop)
}

fn fill() -> anyhow::Result<()> {
    let path = Path::new(STATE_DIR).join(BALLAST);
    let mut file = fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    loop {
        match file.write(&[7; 512]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(anyhow!(error).context("cannot fill the state directory")),
        }
    }
}

fn free() -> anyhow::Result<()> {
    fs::remove_file(Path::new(STATE_DIR).join(BALLAST)).context("cannot free the state directory")
}

/// While a journal line is written, it is refused.
fn remount(mode: &str) -> anyhow::Result<()> {
    wait::until(&format!("remounted {mode}"), Duration::from_secs(5), || {
        Ok(command("mount", ["-o", &format!("remount,{mode}"), STATE_DIR]).ok())
    })
    .map(drop)
}

/// Whether it is the first step that changes something.
fn is_first_change(step: &Step) -> bool {
    step.effect() == Effect::TakesNicsAway
}
