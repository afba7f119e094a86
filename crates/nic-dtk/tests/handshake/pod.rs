//! A pod for tests: a shared folder, sources, and both containers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nic_dtk::{
    BuildFailure, BuildPlan, BuildRequest, DriverEvent, DriverSideError, DtkEnv, FetchedPackages, NfsRdma,
    PackageLimits, Reporter, SharedFolder, SidecarError, SidecarOptions, WaitOptions, appended_flags,
    build_in_sidecar, serve,
};
use nic_host::{Host, KernelRelease};
use rustix::process::{Pid, Signal, kill_process_group};

pub(crate) const VERSION: &str = "25.10-1.2.8.0";

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Pod {
    /// Both containers' mount, and what else a test needs, in one folder.
    pub(crate) dir: tempfile::TempDir,
    pub(crate) request: BuildRequest,
    pub(crate) options: WaitOptions,
    pub(crate) limits: PackageLimits,
}

impl Pod {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (base, sources) = (dir.path().join("shared"), dir.path().join("src"));
        fs::create_dir(&base).unwrap();
        fs::create_dir_all(sources.join("SOURCES/deep")).unwrap();
        fs::copy(peer("install.pl"), sources.join("install.pl")).unwrap();
        fs::write(sources.join("SOURCES/deep/mlnx-ofa_kernel.tgz"), "source\n".repeat(1000)).unwrap();
        std::os::unix::fs::symlink("deep/mlnx-ofa_kernel.tgz", sources.join("SOURCES/link")).unwrap();
        let kernel = running_kernel();
        let request = BuildRequest {
            folder: SharedFolder::new(base, &kernel),
            appended_flags: appended_flags(NfsRdma::LeftOut, &kernel, "rhel9.6", &[]),
            kernel,
            version: VERSION.parse().unwrap(),
            architecture: machine(),
            sources,
            entrypoint: peer("incumbent_dtk_build.sh"),
            use_dkms: false,
        };
        let options = WaitOptions {
            deadline: PATIENCE,
            recheck: Duration::from_millis(100),
            silent_after: PATIENCE / 2,
            give_up_after: PATIENCE,
        };
        Self { dir, request, options, limits: PackageLimits::default() }
    }

    /// The driver container's side, from its start to the packages.
    pub(crate) async fn driver(&self) -> (Result<FetchedPackages, DriverSideError>, Vec<DriverEvent>) {
        let mut events = Vec::new();
        let result = self.driver_until(std::future::pending(), |event| events.push(event)).await;
        (result, events)
    }

    pub(crate) async fn driver_until(
        &self,
        stop: impl Future<Output = ()>,
        events: impl FnMut(DriverEvent),
    ) -> Result<FetchedPackages, DriverSideError> {
        let into = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        let (host, request) = (Host::running(), &self.request);
        build_in_sidecar(&host, request, &self.options, &self.limits, &into, events, stop).await
    }

    /// Our sidecar in this process, with what `dtk.env` says to a shell.
    pub(crate) async fn sidecar(
        &self,
        build: impl AsyncFn(BuildPlan, Reporter) -> Result<(), BuildFailure>,
    ) -> Result<(), SidecarError> {
        self.flag().await;
        let env = DtkEnv::from_variables(&self.variables()).unwrap();
        serve(&Host::running(), &env, &sidecar_options(), build, std::future::pending()).await
    }

    /// Waits as the pod's loop does.
    pub(crate) async fn flag(&self) {
        while !self.request.folder.start_flag().exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What a shell has after it sourced `dtk.env`.
    pub(crate) fn variables(&self) -> BTreeMap<String, String> {
        let output = Command::new("sh")
            .args(["-c", ". \"$0\" && exec env -0"])
            .arg(self.request.folder.env_file())
            .output()
            .unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The sidecar's container: the pod's loop, and whatever it executes.
    pub(crate) fn container(&self, variables: &[(&str, &Path)]) -> Container {
        let mut command = Command::new(peer("pod_loop.sh"));
        command.arg(self.request.folder.path());
        Container::start(command, variables)
    }

    pub(crate) fn own(&self, name: &str) -> PathBuf {
        self.request.folder.own_files().join(name)
    }

    /// Where the build leaves its packages.
    pub(crate) fn rpms(&self) -> PathBuf {
        self.request
            .folder
            .sources(&self.request.version)
            .join("RPMS/redhat-release-9.6-0.1.el9")
            .join(&self.request.architecture)
    }

    /// How often `install.pl` was run, with `INSTALL_PL_RUNS` set to this file.
    pub(crate) fn runs(&self) -> PathBuf {
        self.dir.path().join("runs")
    }

    pub(crate) fn run_count(&self) -> usize {
        fs::read_to_string(self.runs()).map_or(0, |text| text.lines().count())
    }
}

/// Processes in a group of their own, which end with the test.
pub(crate) struct Container(Child);

impl Container {
    pub(crate) fn start(mut command: Command, variables: &[(&str, &Path)]) -> Self {
        use std::os::unix::process::CommandExt as _;
        let peers = peer("");
        let path = format!("{}:{}", peers.display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("PEER_POLL", "0.1").env("SIDECAR_BEAT_MS", "50");
        command.envs(variables.iter().copied()).stdin(Stdio::null()).process_group(0);
        Self(command.spawn().unwrap())
    }

    pub(crate) fn id(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// As when the container is killed: all of its processes at once.
    pub(crate) fn kill(&mut self) {
        // What has ended needs no killing.
        let _ = kill_process_group(self.id(), Signal::KILL);
        self.0.wait().unwrap();
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A build without programs.
pub(crate) fn build_by_hand(plan: &BuildPlan) {
    let rpms = plan.folder.join("RPMS/redhat-release-9.6-0.1.el9").join(machine());
    fs::create_dir_all(&rpms).unwrap();
    for package in ["mlnx-ofa_kernel-25.10-1.rpm", "mlnx-tools-25.10-0.rpm"] {
        fs::write(rpms.join(package), format!("{package} {}", plan.arguments.join(" "))).unwrap();
    }
}

pub(crate) fn sidecar_options() -> SidecarOptions {
    SidecarOptions {
        beat: Duration::from_millis(50),
        recheck: Duration::from_millis(100),
        retry: Duration::from_millis(100),
        ..SidecarOptions::new(running_kernel(), machine())
    }
}

pub(crate) fn running_kernel() -> KernelRelease {
    rustix::system::uname().release().to_str().unwrap().parse().unwrap()
}

pub(crate) fn machine() -> String {
    rustix::system::uname().machine().to_str().unwrap().to_owned()
}

pub(crate) fn peer(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// The example, which cargo builds beside the tests.
pub(crate) fn our_sidecar() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let sidecar = test.parent().unwrap().parent().unwrap().join("examples/sidecar");
    assert!(sidecar.exists(), "there is no {}: run all of `cargo test -p nic-dtk`", sidecar.display());
    sidecar
}

pub(crate) fn names(fetched: &FetchedPackages) -> Vec<String> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    fetched.packages.iter().map(|package| name(&package.path)).collect()
}

/// Waits for something that nothing tells.
pub(crate) async fn until(mut there: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !there() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap();
}
