//! Containers of the distribution's image on a node of one's choice: a root of its own above the image, namespaces for mounts and
//! processes, and the kernel's release as the node would tell it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use anyhow::{Context as _, ensure};

use crate::lab::process;

const ENTER: &str = include_str!("enter.sh");
/// What Debian's kernels are built with, as /proc/version tells it.
const COMPILER: &str = "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0";

/// A container, whose processes each get its root mounted anew; what they write stays.
#[derive(Debug)]
pub(crate) struct Container {
    name: &'static str,
    folder: tempfile::TempDir,
    /// The uppermost first.
    layers: Vec<PathBuf>,
    /// Folders of this machine, and where they are seen.
    bound: Vec<(PathBuf, &'static str)>,
    variables: Vec<(&'static str, String)>,
}

/// A process of a container. It is killed when it is let go of.
#[derive(Debug)]
pub(crate) struct Process {
    line: String,
    child: Child,
    _container: Container,
}

impl Container {
    /// A container of the image's `layers` on a node whose kernel is `kernel`, in a folder below `scratch`.
    pub(crate) fn new(
        name: &'static str,
        layers: &[&Path],
        kernel: &str,
        scratch: &Path,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("container-{name}-"))
            .tempdir_in(scratch)
            .with_context(|| format!("cannot create a folder for the container {name}"))?;
        let container = Self {
            name,
            folder,
            layers: layers.iter().map(|layer| (*layer).to_owned()).collect(),
            bound: Vec::new(),
            variables: Vec::new(),
        };
        for part in ["root", "upper", "work", "facts"] {
            fs::create_dir(container.part(part)).with_context(|| format!("cannot create {part}"))?;
        }
        let facts = container.part("facts");
        let version =
            format!("Linux version {kernel} (debian-kernel@lists.debian.org) ({COMPILER}, GNU ld) #1 SMP\n");
        for (name, text) in
            [("osrelease", format!("{kernel}\n")), ("version", version), ("modules", String::new())]
        {
            fs::write(facts.join(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        // A node without any of the devices: nothing is loaded here.
        for folder in ["sys/module", "sys/bus/pci/devices"] {
            container.create_folder(folder)?;
        }
        Ok(container)
    }

    fn part(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where a path that was written in the container, or is to be seen in it, lies on this machine.
    pub(crate) fn written(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.part("upper").join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Makes a folder in it.
    pub(crate) fn create_folder(&self, path: &str) -> anyhow::Result<()> {
        let folder = self.written(path);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))
    }

    /// Puts a file into it, with the permissions of a program.
    pub(crate) fn put(&self, path: &str, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.written(path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {} executable", file.display()))
    }

    /// Shows it a folder of this machine.
    pub(crate) fn bind(&mut self, folder: &Path, place: &'static str) {
        self.bound.push((folder.to_owned(), place));
    }

    /// Sets a variable for all that runs in it.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.into()));
    }

    fn command(&self, words: &[&str]) -> anyhow::Result<Command> {
        let layers: Vec<_> = self.layers.iter().map(|layer| layer.to_string_lossy()).collect();
        let layers = layers.join(":");
        ensure!(!layers.contains(','), "mount options cannot hold the path {layers}");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--ipc", "--fork", "--kill-child", "sh", "-c", ENTER, "enter.sh"]);
        command.arg(self.part("root")).arg(layers);
        command.args(["upper", "work", "facts"].map(|part| self.part(part)));
        for (folder, place) in &self.bound {
            command.arg(folder).arg(place);
        }
        command.arg("--").args(words).env_clear().stdin(Stdio::null());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// Runs a program to its end, whatever that is.
    pub(crate) fn run(&self, words: &[&str]) -> anyhow::Result<Output> {
        self.command(words)?
            .output()
            .with_context(|| format!("cannot run `{}` in the container {}", words.join(" "), self.name))
    }

    /// Runs a program that is to succeed, and returns what it printed.
    pub(crate) fn output(&self, words: &[&str]) -> anyhow::Result<String> {
        let Output { status, stdout, stderr } = self.run(words)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(
            status.success(),
            "`{}` in the container {} ended with {status}:\n{}{}",
            words.join(" "),
            self.name,
            text(&stdout),
            text(&stderr)
        );
        Ok(text(&stdout))
    }

    /// Starts a program, which is the first process of its container, and goes with it; what it prints goes to `log`.
    pub(crate) fn start_for_good(self, words: &[&str], log: &Path) -> anyhow::Result<Process> {
        let line = format!("`{}` in the container {}", words.join(" "), self.name);
        let file = fs::File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let errors = file.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
        let child = self.command(words)?.stdout(file).stderr(errors).spawn();
        Ok(Process { child: child.with_context(|| format!("cannot start {line}"))?, line, _container: self })
    }
}

impl Process {
    /// Tells the first process of the container to stop (SIGTERM), and waits for its end.
    pub(crate) fn stop(mut self) -> anyhow::Result<ExitStatus> {
        let unshare = self.child.id();
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        let first = fs::read_to_string(&children).with_context(|| format!("cannot read {children}"))?;
        process::run(Command::new("kill").args(["-s", "TERM", first.trim()]))?;
        self.child.wait().with_context(|| format!("cannot wait for {}", self.line))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What has ended needs no killing, and nobody is there to be told.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
