//! The program in a root that holds nothing but itself and what it is given: no C library, no loader, no shell.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::lab::process;

/// Where both sides meet, as the program sees it.
const SHARED: &str = "/shared/kernel";
const VERSION: &str = "25.10-1.2.8.0";
const START_FLAG: &str = "dtk_start_compile";
const DONE_FLAG: &str = "dtk_done_compile_25_10_1_2_8_0";
/// For something that takes less than a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// Goes into the root, with the kernel's /proc, by which the program opens files beneath a folder.
const ENTER: &str = "mount --rbind /proc \"$1/proc\" && exec chroot \"$@\"";

struct Root {
    folder: PathBuf,
    /// What the last run has printed.
    printed: PathBuf,
}

/// A run of the program. It is killed when it is let go of.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // What has ended needs no killing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program as the sidecar does, wrongly and rightly, up to the end of a build.
pub(super) fn run(program: &Path, scratch: &Path) -> anyhow::Result<()> {
    let root = Root::new(program, scratch)?;
    root.ends(&["--version"], &[], 0, env!("CARGO_PKG_VERSION"))?;
    root.ends(&["reload"], &[], 2, "\"reload\" is not a command")?;
    root.ends(&["dtk-build"], &[], 2, "DTK_OCP_NIC_SHARED_DIR is not set")?;
    let variables = [
        ("DTK_OCP_NIC_SHARED_DIR", SHARED.to_owned()),
        ("DTK_OCP_COMPILED_DRIVER_VER", VERSION.to_owned()),
        ("NVIDIA_NIC_DRIVER_VER", VERSION.to_owned()),
        ("DTK_OCP_START_COMPILE_FLAG", format!("{SHARED}/{START_FLAG}")),
        ("DTK_OCP_DONE_COMPILE_FLAG", format!("{SHARED}/{DONE_FLAG}")),
    ];
    root.ends(&["dtk-build"], &variables, 1, SHARED)?;
    root.share(scratch)?;
    root.builds(&variables)
}

impl Root {
    fn new(program: &Path, scratch: &Path) -> anyhow::Result<Self> {
        let root = Self { folder: scratch.join("root"), printed: scratch.join("printed") };
        for folder in ["proc", "dev", "usr/bin"] {
            let folder = root.folder.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        root.copy(program, "entrypoint")?;
        // Programs are given it to read from.
        root.write("dev/null", "")?;
        Ok(root)
    }

    /// What the driver container and the toolkit's image have: sources, dnf, and last the start flag.
    fn share(&self, scratch: &Path) -> anyhow::Result<()> {
        let (source, peer) = (scratch.join("peer.c"), scratch.join("peer"));
        fs::write(&source, include_str!("peer.c"))
            .with_context(|| format!("cannot write {}", source.display()))?;
        process::run(Command::new("gcc").args(["-static", "-o"]).arg(&peer).arg(&source))?;
        self.copy(&peer, "usr/bin/dnf")?;
        self.copy(&peer, &format!("{SHARED}/MLNX_OFED_SRC-{VERSION}/install.pl"))?;
        self.write(&format!("{SHARED}/{START_FLAG}"), "")
    }

    /// Runs the program, and expects this exit code and text.
    fn ends(
        &self,
        arguments: &[&str],
        variables: &[(&str, String)],
        code: i32,
        text: &str,
    ) -> anyhow::Result<()> {
        let status = self.start(arguments, variables)?.wait("its end", |ended| ended)?;
        let printed = self.printed()?;
        ensure!(
            status.and_then(|status| status.code()) == Some(code) && printed.contains(text),
            "`{}` is to end with exit code {code} and to tell {text:?}, and ended with {status:?}:\n{printed}",
            arguments.join(" ")
        );
        Ok(())
    }

    /// Runs the program until it has built what is asked for, and ends it.
    fn builds(&self, variables: &[(&str, String)]) -> anyhow::Result<()> {
        let (start, done) =
            (self.path(&format!("{SHARED}/{START_FLAG}")), self.path(&format!("{SHARED}/{DONE_FLAG}")));
        let mut running = self.start(&["dtk-build"], variables)?;
        let built = running.wait("the done flag", |ended| ended || done.exists() && !start.exists());
        let printed = self.printed()?;
        let built = built.with_context(|| printed.clone())?;
        ensure!(
            built.is_none(),
            "`dtk-build` is to stay when it has built, and ended with {built:?}:\n{printed}"
        );
        let runs = fs::read_to_string(self.path("runs")).context("neither dnf nor install.pl was run")?;
        let expected = "dnf install\ndnf install\ninstall.pl --build-only\n";
        ensure!(runs == expected, "{expected:?} is to be run, and was {runs:?}:\n{printed}");
        process::run(
            Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh"]).arg(running.0.id().to_string()),
        )?;
        let status = running.wait("its end after SIGTERM", |ended| ended)?;
        ensure!(
            status.is_some_and(|status| status.success()),
            "`dtk-build` is to end well after SIGTERM, and ended with {status:?}:\n{}",
            self.printed()?
        );
        Ok(())
    }

    fn start(&self, arguments: &[&str], variables: &[(&str, String)]) -> anyhow::Result<Running> {
        let printed = fs::File::create(&self.printed)
            .with_context(|| format!("cannot create {}", self.printed.display()))?;
        let errors = printed.try_clone().context("cannot give a file to two streams")?;
        let mut command = Command::new("unshare");
        command.arg("--mount");
        let owner = fs::metadata("/proc/self").context("cannot tell who runs this")?.uid();
        if owner != 0 {
            // In a user namespace of one's own one may.
            command.arg("--map-root-user");
        }
        // Each program is replaced by the next, so that the child is the last one.
        command.args(["sh", "-c", ENTER, "sh"]).arg(&self.folder).arg("/entrypoint").args(arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(printed).stderr(errors);
        let child = command.spawn().with_context(|| format!("cannot start `{}`", process::line(&command)))?;
        Ok(Running(child))
    }

    fn printed(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.printed).with_context(|| format!("cannot read {}", self.printed.display()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name.trim_start_matches('/'))
    }

    fn write(&self, name: &str, content: &str) -> anyhow::Result<()> {
        let path = self.path(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    fn copy(&self, program: &Path, name: &str) -> anyhow::Result<()> {
        let path = self.path(name);
        let copied = || {
            fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
            fs::copy(program, &path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        };
        copied().with_context(|| format!("cannot copy {} to {}", program.display(), path.display()))
    }
}

impl Running {
    /// Waits until `is_there`, which is told whether it has ended. How it ended, if it has.
    fn wait(&mut self, what: &str, is_there: impl Fn(bool) -> bool) -> anyhow::Result<Option<ExitStatus>> {
        let began = Instant::now();
        loop {
            let status = self.0.try_wait().context("cannot ask how the program is")?;
            if is_there(status.is_some()) {
                return Ok(status);
            }
            ensure!(began.elapsed() < PATIENCE, "{what} is not there after {} s", PATIENCE.as_secs());
            thread::sleep(Duration::from_millis(10));
        }
    }
}
