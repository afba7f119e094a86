//! What is gone back to when the files of the driver that runs went with their container: its kept files, the
//! distribution's own, or nothing, which is in the way. A driver is blamed only once it was asked for, and going back
//! waits as going forth does.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use nic_driver::Exit;
use nic_driver::default_paths::BLACKLIST_FILE;
use nic_driver::state::{JournalEvent, Step};

use crate::command::run as command;
use crate::drivers::{self, LoadedModule};
use crate::guest::Guest;
use crate::installed::{finish, install, set_up};
use crate::observe::Nics;
use crate::program::{FAMILY, NicDriver, store};
use crate::readiness::{self, READY};
use crate::{journal, read, report, say, wait};

/// Holds a driver's module while it is loaded.
const HOLDER: &str = "/lab/packages/lab_holder.ko";
/// Where the distribution's modules are while they are nowhere.
const AWAY: &str = "/lab/away";
/// A rule of modprobe's.
const SLOW_LOAD: &str = "/etc/modprobe.d/lab-slow-load.conf";
/// How long a moment in a reload is waited for, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a driver is held after its unload has begun.
const HELD: Duration = Duration::from_secs(3);

type Part = fn(&Node) -> anyhow::Result<()>;

/// The node as it is to stay.
struct Node {
    kernel: String,
    nics: Nics,
    inbox: LoadedModule,
}

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let inbox = drivers::loaded("igb")?;
    let node = Node { kernel: guest.kernel().to_owned(), nics: set_up(guest.parameter("vfs")?)?, inbox };
    let watch = readiness::watch(&node.nics)?;
    let part: String = guest.parameter("part")?;
    let parts: [(&str, Part); 5] = [
        ("kept", Node::kept_files),
        ("damaged", Node::damaged_file),
        ("none", Node::nothing_kept),
        ("busy", Node::busy_before_it_was_asked_for),
        ("held", Node::held_while_going_back),
    ];
    ensure!(part == "all" || parts.iter().any(|(name, _)| *name == part), "there is no part {part:?}");
    for (_, run) in parts.iter().filter(|(name, _)| part == "all" || *name == part) {
        run(&node)?;
    }
    let seen = watch.end()?;
    report(&format!("{} VFs: {seen}", node.nics.vf_count()));
    seen.ensure_right()
}

impl Node {
    /// Container to container, and the new driver's probe fails.
    fn kept_files(&self) -> anyhow::Result<()> {
        say("== the old container's files are gone, and the new driver does not come up");
        self.next_container("failing-probe", &["backup of 25.07-0.9.7.0 (2 modules)"])?;
        let reload = NicDriver::new(["reload"]).run()?.expect(Exit::RolledBack)?;
        reload.expect_words(&["no driver has taken"])?;
        drivers::expect_loaded(&drivers::version("A")?)?;
        self.nics.expect_unchanged()?;
        // What was gone back to is kept on: nothing else has its files.
        self.status(&["backup of 25.07-0.9.7.0 (2 modules)"])?;
        report(&format!("kept files: {}", reload.last_words()));
        Ok(())
    }

    /// One bit of a kept file is another one.
    fn damaged_file(&self) -> anyhow::Result<()> {
        say("== a kept file is damaged");
        let file = kept("igb-")?;
        let mut bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let middle = bytes.len() / 2;
        *bytes.get_mut(middle).context("it is empty")? ^= 1;
        fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        let name = file.file_name().context("it has no name")?.to_string_lossy().into_owned();
        self.container_goes()?;
        let inbox = "inbox driver of this kernel (2 modules), since no file of igb is known";
        self.status(&[inbox, &name, "is damaged"])?;
        install("failing-init")?;
        self.status(&[inbox])?;
        let reload = NicDriver::new(["reload"]).run()?.expect(Exit::RolledBack)?;
        reload.expect_words(&["cannot load igb"])?;
        ensure!(drivers::loaded("igb")? == self.inbox, "the loaded igb is not the inbox one");
        self.nics.expect_unchanged()?;
        self.status(&["backup of igb with build-id"])?;
        report("a damaged kept file: named, not used; the inbox driver instead");
        Ok(())
    }

    /// Neither the files of what runs, nor the distribution's.
    fn nothing_kept(&self) -> anyhow::Result<()> {
        say("== no way back");
        install("A")?;
        finish("A", &self.nics)?;
        fs::remove_dir_all(store(FAMILY).backup_folder()).context("cannot remove what was kept")?;
        let away = self.take_inbox_away()?;
        self.next_container("B", &["none: no file of igb", "and the distribution's modules have no igb"])?;
        let indices = Nics::interface_indices()?;
        let words = ["there is no way back", "NIC_DRIVER_WITHOUT_WAY_BACK"];
        NicDriver::new(["preflight"]).run()?.expect(Exit::Blocked)?.expect_words(&words)?;
        let blocked = NicDriver::new(["reload"]).run()?.expect(Exit::Blocked)?;
        blocked.expect_words(&words)?;
        ensure!(Nics::interface_indices()? == indices, "netdevs were taken away");
        ensure!(Path::new(READY).exists(), "readiness was taken away");
        drivers::expect_loaded(&drivers::version("A")?)?;
        self.nics.expect_unchanged()?;
        report(&format!("no way back: {}", blocked.last_words()));

        say("== no way back, and that is allowed");
        let allowed = NicDriver::new(["reload", "--without-way-back"]).start()?;
        let process = allowed.id();
        allowed.wait()?.expect(Exit::Success)?;
        NicDriver::new(["restore-sriov"]).run()?.expect(Exit::Success)?;
        let said =
            |line: &JournalEvent| format!("{:?}", line.entry).contains("--without-way-back allows that");
        ensure!(journal::lines_of(process)?.iter().any(said), "the journal does not say what was allowed");
        drivers::expect_loaded(&drivers::version("B")?)?;
        self.nics.expect_unchanged()?;
        self.status(&["backup of 25.10-1.2.8.0 (2 modules)"])?;
        for (from, to) in away {
            fs::rename(&to, &from).with_context(|| format!("cannot put {} back", from.display()))?;
        }
        Ok(())
    }

    /// Whatever goes wrong before the new driver is asked for is not its fault.
    fn busy_before_it_was_asked_for(&self) -> anyhow::Result<()> {
        const SHORT: [&str; 3] = ["--timeout", "5", "reload"];
        say("== a module is in use before the new driver is asked for");
        let (runs, other) = running_and_other()?;
        install(other)?;
        hold()?;
        NicDriver::new(SHORT).run()?.expect(Exit::Blocked)?.expect_words(&["user of igb"])?;
        release()?;
        let racer = thread::spawn(|| {
            wait::until("the blacklist is written", PATIENCE, || {
                Ok(Path::new(BLACKLIST_FILE).exists().then_some(()))
            })?;
            hold()
        });
        let reload = NicDriver::new(SHORT).run()?.expect(Exit::RolledBack)?;
        raced(racer)?;
        reload.expect_words(&["cannot unload igb", "still in use", "the next reload tries it again"])?;
        drivers::expect_loaded(&drivers::version(runs)?)?;
        self.nics.expect_unchanged()?;
        release()?;
        NicDriver::new(SHORT).run()?.expect(Exit::Success)?;
        NicDriver::new(["restore-sriov"]).run()?.expect(Exit::Success)?;
        drivers::expect_loaded(&drivers::version(other)?)?;
        self.nics.expect_unchanged()?;
        report(&format!("in use too early: {}; tried again", reload.last_words()));
        Ok(())
    }

    /// The new driver has a user from when it is loaded until some time after its unload has begun.
    fn held_while_going_back(&self) -> anyhow::Result<()> {
        say("== the new driver is in use for some seconds while it is taken back");
        let (runs, _) = running_and_other()?;
        install("failing-probe")?;
        // igb is there and in nobody's hands for so long, however much else this machine has to do.
        let rule = "install igbvf sleep 10; modprobe --ignore-install igbvf\n";
        fs::write(SLOW_LOAD, rule).with_context(|| format!("cannot write {SLOW_LOAD}"))?;
        let reload = NicDriver::new(["reload"]).start()?;
        let process = reload.id();
        let racer = thread::spawn(move || {
            let load = Step::Load { module: "igbvf".parse()? };
            journal::wait_for_step_of(process, |step| *step == load)?;
            hold()?;
            let unload = Step::UnloadNew { module: "igb".parse()? };
            journal::wait_for_step_of(process, |step| *step == unload)?;
            thread::sleep(HELD);
            release()
        });
        let reload = reload.wait()?.expect(Exit::RolledBack)?;
        raced(racer)?;
        fs::remove_file(SLOW_LOAD).with_context(|| format!("cannot remove {SLOW_LOAD}"))?;
        drivers::expect_loaded(&drivers::version(runs)?)?;
        self.nics.expect_unchanged()?;
        report(&format!("in use while going back: waited for; {}", reload.last_words()));
        Ok(())
    }

    /// The next container comes with its packages, and what the last one had brought is gone with it. The status then
    /// says these words of the way back.
    fn next_container(&self, name: &str, words: &[&str]) -> anyhow::Result<()> {
        self.container_goes()?;
        install(name)?;
        self.status(words)
    }

    /// A container goes, and with it its modules.
    fn container_goes(&self) -> anyhow::Result<()> {
        let extra = self.tree().join("extra");
        fs::remove_dir_all(&extra).with_context(|| format!("cannot remove {}", extra.display()))?;
        command("depmod", [&self.kernel]).map(drop)
    }

    fn status(&self, words: &[&str]) -> anyhow::Result<()> {
        let status = NicDriver::new(["status"]).quietly().run()?.expect(Exit::Success)?;
        let line = status.stdout.lines().find(|line| line.starts_with("way back: "));
        let line = line.context("the status does not tell the way back")?;
        for word in words {
            ensure!(line.contains(word), "the status does not say {word:?}: {line}");
        }
        Ok(())
    }

    fn tree(&self) -> PathBuf {
        Path::new("/lib/modules").join(&self.kernel)
    }

    /// Takes the distribution's files of the driver away; returns from where to where.
    fn take_inbox_away(&self) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
        let kernel = self.tree().join("kernel");
        let found = command("find", [kernel.as_os_str(), "-name".as_ref(), "igb*.ko*".as_ref()])?;
        fs::create_dir_all(AWAY).with_context(|| format!("cannot create {AWAY}"))?;
        let moved = found.lines().map(|path| {
            let from = PathBuf::from(path);
            let to = Path::new(AWAY).join(from.file_name().context("it has no name")?);
            fs::rename(&from, &to).with_context(|| format!("cannot take {path} away"))?;
            Ok((from, to))
        });
        let moved: Vec<_> = moved.collect::<anyhow::Result<_>>()?;
        ensure!(moved.len() == 2, "the distribution has other files: {found}");
        Ok(moved)
    }
}

/// Which of the two versions runs, and the other one.
fn running_and_other() -> anyhow::Result<(&'static str, &'static str)> {
    let runs_a = drivers::expect_loaded(&drivers::version("A")?).is_ok();
    Ok(if runs_a { ("A", "B") } else { ("B", "A") })
}

/// The only kept file whose name begins so.
fn kept(prefix: &str) -> anyhow::Result<PathBuf> {
    let folder = store(FAMILY).backup_folder();
    let found = command("find", [folder.as_os_str(), "-name".as_ref(), format!("{prefix}*").as_ref()])?;
    let mut files = found.lines();
    match (files.next(), files.next()) {
        (Some(file), None) => Ok(PathBuf::from(file)),
        _ => bail!("not one file {prefix}…: {found}; {}", read(folder.join("manifest.json"))?),
    }
}

/// Holds igb until it is released.
fn hold() -> anyhow::Result<()> {
    command("insmod", [HOLDER, "driver=igb"]).map(drop)
}

fn release() -> anyhow::Result<()> {
    command("rmmod", ["lab_holder"]).map(drop)
}

fn raced(racer: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    racer.join().unwrap_or_else(|_| Err(anyhow!("the racer panicked")))
}
