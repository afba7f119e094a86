//! A node for pods on this machine, where crun can run: that takes root, crun and a static busybox. Each test has a mount
//! namespace of its own, with shared mounts and a unified cgroup hierarchy, as the guest has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab_guest::pod::{Container, HostPath, Pod, Probe, ProbeKind};
use serde_json::json;

use super::super::Kubelet;
use super::super::running::RunningPod;

/// Set in the process that runs the tests' pods.
const INSIDE: &str = "LAB_KUBELET_INSIDE";
const BUSYBOX: &str = "/bin/busybox";

/// Runs a test of this name in a mount namespace of its own. Returns whether this is the process in it.
pub(super) fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let is_root = rustix::process::geteuid().is_root();
    let has_crun = Command::new("crun").arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_root || !has_crun || !Path::new(BUSYBOX).exists() {
        crate::say(&format!("SKIPPED: {test}: needs root, crun and {BUSYBOX}"));
        return false;
    }
    let script = "mount --make-rshared / && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg(format!("kubelet::tests::{test}"))
        .env(INSIDE, "yes")
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{errors}");
    crate::say(&said);
    false
}

/// A kubelet with folders of its own.
pub(super) struct Node {
    pub(super) folder: PathBuf,
    pub(super) kubelet: Kubelet,
    /// Of its pods; long, for a machine that is busy.
    pub(super) grace: u32,
}

impl Node {
    pub(super) fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("lab-kubelet-{}", std::process::id()));
        let layers = folder.join("layers");
        for part in ["below/bin", "below/dev", "below/proc", "below/tmp", "above/etc"] {
            fs::create_dir_all(layers.join(part)).unwrap();
        }
        fs::copy(BUSYBOX, layers.join("below/bin/busybox")).unwrap();
        for name in ["sh", "sleep", "cat", "touch", "ls", "test", "rm", "kill", "mount"] {
            std::os::unix::fs::symlink("busybox", layers.join("below/bin").join(name)).unwrap();
        }
        fs::write(layers.join("above/etc/image"), "of the image\n").unwrap();
        let at = |name: &str| folder.join(name);
        let kubelet = Kubelet::with_roots(at("pods"), layers, at("state"), at("crun")).unwrap();
        Self { folder, kubelet, grace: 20 }
    }

    pub(super) fn start(&self, containers: Vec<Container>) -> RunningPod {
        let host_paths = vec![HostPath {
            path: self.folder.join("host").display().to_string(),
            kind: "DirectoryOrCreate".to_owned(),
        }];
        let empty_dirs = vec!["shared".to_owned()];
        self.kubelet
            .start(Pod { name: pod_name(), grace: self.grace, host_paths, empty_dirs, containers })
            .unwrap()
    }

    pub(super) fn container(&self, name: &str, script: &str) -> Container {
        let bind = |source: &str, destination: &str| json!({ "destination": destination, "source": source, "type": "bind", "options": ["rbind", "rw"] });
        let host = self.folder.join("host").display().to_string();
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "cwd": "/",
                "env": ["PATH=/bin", "WHO=manifest"],
                "args": ["/bin/sh", "-c", script],
            },
            "root": { "path": "" },
            "mounts": [
                { "destination": "/proc", "source": "proc", "type": "proc" },
                { "destination": "/dev", "source": "tmpfs", "type": "tmpfs", "options": ["mode=755"] },
                bind("emptydir:shared", "/shared"),
                bind("termination-message:", "/dev/termination-log"),
                bind(&host, "/host"),
            ],
            "linux": { "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }] },
        });
        let layers = vec!["above".to_owned(), "below".to_owned()];
        Container { name: name.to_owned(), layers, first_env: Vec::new(), config, probes: [].into() }
    }

    /// That nothing is left of any pod but logs.
    pub(super) fn check_that_nothing_is_left(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.folder.to_str().unwrap()), "{mounts}");
        let left = |folder: &str| fs::read_dir(self.folder.join(folder)).map_or(0, Iterator::count);
        assert_eq!((left("state/pods"), left("crun")), (0, 0));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.folder).unwrap();
        }
    }
}

/// Tests run at the same time, and the names of cgroups come from the pod's.
pub(super) fn pod_name() -> String {
    format!("pod-{}", std::process::id())
}

pub(super) fn with_probe(
    mut container: Container,
    kind: ProbeKind,
    command: &str,
    failures: u32,
) -> Container {
    // Long, for a machine that is busy.
    let timeout = 4;
    let command = ["sh", "-c", command].map(str::to_owned).to_vec();
    let probe = Probe { command, delay: 0, period: 1, timeout, failures, successes: 1 };
    container.probes.insert(kind, probe);
    container
}
