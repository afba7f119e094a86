//! A node of its own for a test: a root folder with this machine's shell and the program in it, and peers in place of package
//! managers and of the vendor's build. The program runs in it as on a running machine, and changes nothing outside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nic_host::Host;
use rustix::fs::{StatVfsMountFlags, statvfs};

use crate::node_tree::{SOURCES, VERSION};
use crate::program::CommandResult;

/// What the peer stands for.
const PEERS: [&str; 10] = [
    "apt-get",
    "depmod",
    "dkms",
    "dnf",
    "dpkg-query",
    "pro",
    "rpm",
    "update-alternatives",
    "update-ca-certificates",
    "update-ca-trust",
];
const SHELL: [&str; 8] = ["sh", "cat", "cp", "mkdir", "rm", "sleep", "touch", "true"];

/// The kernel's own, what peers note, and what builds leave behind in a container that has built: not looked at by [`Chroot::files`].
const NOT_COMPARED: [&str; 4] = ["proc", "proc-of-the-kernel", "log", "var/log"];
/// Also left by builds.
const OUTPUTS: [&str; 3] = ["DEBS", "RPMS", "build"];
/// What is a container's own, and goes with it.
const OF_CONTAINER: [&str; 7] =
    ["db", "db.dkms", "lib/modules", "usr/src", "var", "usr/local", "etc/alternatives"];
/// A larger file is compared by its length alone.
const COMPARED_SIZE: u64 = 64 * 1024;

/// The root folder.
pub(crate) struct Chroot {
    folder: tempfile::TempDir,
    pub(crate) kernel: &'static str,
    /// Folders of another root that are mounted in this one, each with its path below this root.
    mounted: Vec<(PathBuf, String)>,
}

impl Chroot {
    /// With os-release texts of `nic-packages`.
    pub(crate) fn new(own_os: &str, host_os: Option<&str>, kernel: &'static str, gcc: &str) -> Self {
        let folder = tempfile::tempdir_in(place()).unwrap();
        let root = Self { folder, kernel, mounted: Vec::new() };
        let texts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nic-packages/tests/os-release");
        let os = |name: &str| fs::read_to_string(texts.join(name)).unwrap();
        root.write("etc/os-release", os(own_os));
        if let Some(host_os) = host_os {
            root.write("host/etc/os-release", os(host_os));
        }
        root.write("proc/sys/kernel/osrelease", kernel);
        root.write("proc/sys/kernel/random/boot_id", "0c2f7a1e-6b5d-4f3a-9e8c-d1b2a3948576\n");
        root.write("proc/version", format!("Linux version {kernel} (b@h) ({gcc}, GNU ld 2.42) #1\n"));
        root.write("proc/modules", "");
        // Programs are given it to read from.
        root.write("dev/null", "");
        for folder in ["log", "dev", "tmp", "fail", "inventory", "sys/module", "sys/bus"] {
            fs::create_dir_all(root.path(folder)).unwrap();
        }
        let program = Path::new(env!("CARGO_BIN_EXE_nic-driver"));
        if fs::hard_link(program, root.path("nic-driver")).is_err() {
            // It is on another file system.
            fs::copy(program, root.path("nic-driver")).unwrap();
        }
        // What a process knows of itself is the kernel's own; the rest is this node's.
        fs::create_dir(root.path("proc-of-the-kernel")).unwrap();
        std::os::unix::fs::symlink("/proc-of-the-kernel/self", root.path("proc/self")).unwrap();
        root.add_programs(program);
        root.peer("program.sh", &PEERS.map(|name| format!("usr/bin/{name}")));
        root.peer("install.pl", &[format!("{SOURCES}/install.pl")]);
        root.put_peer(&of_handshake("incumbent_dtk_build.sh"), "incumbent/entrypoint");
        root
    }

    fn add_programs(&self, program: &Path) {
        let mut libraries = BTreeSet::new();
        let found = |name: &str| {
            ["/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists())
        };
        let programs = SHELL.map(|name| found(name).unwrap_or_else(|| panic!("this machine has no {name}")));
        for path in programs.iter().map(PathBuf::as_path).chain([program]) {
            let listed = Command::new("ldd").arg(path).output().unwrap();
            let text = String::from_utf8(listed.stdout).unwrap();
            libraries.extend(text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned));
        }
        for path in programs.iter().map(|path| path.display().to_string()).chain(libraries) {
            let target = self.path(path.trim_start_matches('/'));
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(fs::canonicalize(&path).unwrap(), target).unwrap();
        }
        if !self.path("bin/sh").exists() {
            fs::create_dir_all(self.path("bin")).unwrap();
            fs::copy(self.path("usr/bin/sh"), self.path("bin/sh")).unwrap();
        }
    }

    pub(crate) fn peer(&self, peer: &str, places: &[String]) {
        let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/peers").join(peer);
        places.iter().for_each(|place| self.put_peer(&peer, place));
    }

    fn put_peer(&self, peer: &Path, place: &str) {
        let target = self.path(place);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(peer, &target).unwrap();
        fs::set_permissions(target, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Where a path of the node is found from here.
    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        let below = below.as_ref();
        self.folder.path().join(below.strip_prefix("/").unwrap_or(below))
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).unwrap();
        } else if path.exists() || path.is_symlink() {
            fs::remove_file(path).unwrap();
        }
    }

    /// The commands that were run since the last time.
    pub(crate) fn commands(&self) -> Vec<String> {
        let log = self.path("log/commands");
        let text = fs::read_to_string(&log).unwrap_or_default();
        self.remove("log/commands");
        text.lines().map(str::to_owned).collect()
    }

    /// This one with the other's folder of this path in place of its own: a volume that both have.
    pub(crate) fn sharing(mut self, path: &str, with: &Self) -> Self {
        for root in [&self, with] {
            fs::create_dir_all(root.path(path)).unwrap();
        }
        self.mounted.push((with.path(path), path.to_owned()));
        self
    }

    /// Starts the program, which prints into files that [`Self::told`] reads.
    pub(crate) fn start_telling(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Running {
        let mut command = self.command("/nic-driver", variables, arguments);
        let file = |name: &str| fs::File::create(self.path("log").join(name)).unwrap();
        Running(command.stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap())
    }

    /// Starts the program with a terminal as its standard error.
    pub(crate) fn start_on_terminal(
        &self,
        terminal: OwnedFd,
        variables: &[(&str, &str)],
        arguments: &[&str],
    ) -> Running {
        let mut command = self.command("/nic-driver", variables, arguments);
        Running(command.stdout(Stdio::null()).stderr(Stdio::from(terminal)).spawn().unwrap())
    }

    /// What it has printed so far: its logs and errors, and its result.
    pub(crate) fn told(&self) -> (String, String) {
        let read = |name: &str| fs::read_to_string(self.path("log").join(name)).unwrap_or_default();
        (read("stderr"), read("stdout"))
    }

    /// All that is there, by its path below the root.
    pub(crate) fn paths(&self) -> BTreeSet<String> {
        self.walk(&["proc", "proc-of-the-kernel"]).into_iter().collect()
    }

    /// Takes away whatever was not there when [`Self::paths`] said so.
    pub(crate) fn reset(&self, untouched: &BTreeSet<String>) {
        let paths = self.paths();
        paths.difference(untouched).for_each(|path| self.remove(path));
    }

    /// What is there, by its path: files and links with what is in them, folders with a slash at their end; but for what a build leaves
    /// behind that need not be run again.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for mut path in self.walk(&NOT_COMPARED) {
            let seen = self.path(&path);
            let metadata = fs::symlink_metadata(&seen).unwrap();
            let content = if metadata.is_symlink() {
                fs::read_link(&seen).unwrap().into_os_string().into_encoded_bytes()
            } else if metadata.is_dir() {
                path.push('/');
                Vec::new()
            } else if metadata.len() > COMPARED_SIZE {
                metadata.len().to_string().into_bytes()
            } else {
                fs::read(&seen).unwrap()
            };
            if !Path::new(&path).iter().any(|name| OUTPUTS.iter().any(|output| name == *output)) {
                files.insert(path, content);
            }
        }
        files
    }

    fn walk(&self, without: &[&str]) -> Vec<String> {
        let (mut paths, mut folders) = (Vec::new(), vec![String::new()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(self.path(&folder)).unwrap() {
                let entry = entry.unwrap();
                let path = Path::new(&folder).join(entry.file_name()).display().to_string();
                if without.contains(&&*path) {
                    continue;
                }
                if entry.file_type().unwrap().is_dir() {
                    folders.push(path.clone());
                }
                paths.push(path);
            }
        }
        paths
    }

    /// Forgets what was installed and what is temporary, as a new container does. The host's files stay, and what is mounted.
    pub(crate) fn renew_container(&self) {
        OF_CONTAINER.iter().for_each(|path| self.remove(path));
    }

    /// Whether the start flag is there.
    pub(crate) fn asks_the_sidecar(&self) -> bool {
        let folders = fs::read_dir(self.path("shared")).into_iter().flatten();
        folders.into_iter().any(|folder| folder.unwrap().path().join("dtk_start_compile").exists())
    }

    /// What was given to a package manager to install: each file as it was then.
    pub(crate) fn installed_files(&self) -> Vec<Vec<u8>> {
        let files = fs::read_dir(self.path("log/installed")).into_iter().flatten();
        files.into_iter().map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
    }

    /// The inventory's folder for this version.
    pub(crate) fn entry(&self) -> PathBuf {
        self.path("inventory").join(self.kernel).join(VERSION)
    }

    fn command(&self, program: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Command {
        self.command_by("", program, variables, arguments)
    }

    /// `by` is what executes the program: words of a shell, or nothing.
    fn command_by(&self, by: &str, program: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !Host::is_privileged() {
            // In a user namespace of one's own one may.
            command.arg("--map-root-user");
        }
        let mount = |(from, to): &(PathBuf, String)| {
            format!("mount --bind '{}' '{}' && ", from.display(), self.path(to).display())
        };
        let mounts: String = self.mounted.iter().map(mount).collect();
        let enter =
            format!("{mounts}mount --rbind /proc \"$1/proc-of-the-kernel\" && exec {by} chroot \"$@\"");
        command
            .args(["sh", "-c", &enter, "sh"])
            .arg(self.folder.path())
            .arg(program)
            .args(arguments)
            .env_clear()
            .envs([
                ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                ("NVIDIA_NIC_DRIVER_VER", VERSION),
                ("NVIDIA_NIC_DRIVER_PATH", SOURCES),
            ])
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, variables: &[(&str, &str)], arguments: &[&str]) -> CommandResult {
        result_of(self.command("/nic-driver", variables, arguments))
    }

    /// The same without some of the capabilities, as setpriv(1) writes them.
    pub(crate) fn run_without(&self, capabilities: &str, arguments: &[&str]) -> CommandResult {
        let by = format!("setpriv --bounding-set={capabilities}");
        result_of(self.command_by(&by, "/nic-driver", &[], arguments))
    }

    /// Starts another program of the node, whose output is thrown away.
    pub(crate) fn start(&self, program: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Running {
        let mut command = self.command(program, variables, arguments);
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// All files that were written in it, each behind its path; but for the programs and what peers note.
    pub(crate) fn written(&self) -> String {
        let mut texts = String::new();
        for folder in ["run/mellanox/drivers", "var", "inventory", "tmp", "shared"] {
            let mut folders = vec![self.path(folder)];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(folder).into_iter().flatten() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        folders.push(path);
                    } else if path.file_name().is_some_and(|name| name != "entrypoint") {
                        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                        texts += &format!("{}\n{text}\n", path.display());
                    }
                }
            }
        }
        texts
    }
}

/// Where the roots are made: in memory, where there is enough of it and programs may be run from it. Each line of a journal waits for the
/// disk, and many thousand are written.
fn place() -> &'static str {
    const IN_MEMORY: &str = "/dev/shm";
    let is_enough = statvfs(IN_MEMORY).is_ok_and(|found| {
        !found.f_flag.contains(StatVfsMountFlags::NOEXEC) && found.f_bavail * found.f_frsize > 1 << 30
    });
    if is_enough { IN_MEMORY } else { env!("CARGO_TARGET_TMPDIR") }
}

/// A peer of the handshake's own tests.
fn of_handshake(peer: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../nic-dtk/tests/peers").join(peer)
}

/// A program that is killed with the test.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn terminate(&self) {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }

    /// The root folder as the program sees it, with what is mounted for it alone.
    pub(crate) fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.0.id()))
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What has ended needs no killing.
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

/// Waits for something that nothing tells.
pub(crate) fn until(what: &str, there: impl Fn() -> bool) {
    let began = Instant::now();
    while !there() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn result_of(mut command: Command) -> CommandResult {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    CommandResult {
        // As the shell shows one that a signal has ended.
        code: output.status.code().unwrap_or(128 + 9),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}
