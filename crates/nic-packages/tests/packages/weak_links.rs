//! Sets without modules for the running kernel: those that it uses through links, and those that DKMS builds.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nic_host::{Captured, Host, KernelRelease, Replay};
use nic_packages::{
    Architecture, InstallError, InstallPlan, InstallState, InstallStep, ModuleOrigin, PackageFormat,
    PackageSet,
};

use crate::sample::Sample;

const RUNNING: &str = "5.14.0-570.73.1.el9_6.x86_64";
const BUILT: &str = "5.14.0-570.12.1.el9_6.x86_64";
const MODULE: &str = "/lib/modules/5.14.0-570.12.1.el9_6.x86_64/extra/mlnx-ofa_kernel/mlx5_core.ko.xz";
const LINK: &str = "/lib/modules/5.14.0-570.73.1.el9_6.x86_64/weak-updates/mlnx-ofa_kernel/mlx5_core.ko.xz";
const QUERY: &str =
    r"rpm -q --qf '%{NAME}\t%{EPOCHNUM}\t%{VERSION}-%{RELEASE}\t%{ARCH}\n' -- kmod-mlnx-ofa_kernel";
const INSTALLED: &str = "kmod-mlnx-ofa_kernel\t0\t25.10-OFED.25.10.1.2.8.1\tx86_64\n";
const ABSENT: &str = "package kmod-mlnx-ofa_kernel is not installed\n";

struct Machine {
    dir: tempfile::TempDir,
    set: PackageSet,
}

fn running() -> KernelRelease {
    RUNNING.parse().unwrap()
}

impl Machine {
    fn new(files: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Sample { name: "kmod-mlnx-ofa_kernel", files, ..Sample::default() }
            .write_rpm(&dir.path().join("packages"));
        let set = PackageSet::read(&Host::at(dir.path()), "/packages", PackageFormat::Rpm).unwrap();
        for name in ["modules.order", "modules.builtin"] {
            Host::at(dir.path()).write_durably(format!("/lib/modules/{RUNNING}/{name}"), b"").unwrap();
        }
        Self { dir, set }
    }

    fn host(&self) -> Host {
        Host::at(self.dir.path())
    }

    fn with_program(self, path: &str) -> Self {
        self.host().write_durably(path, b"#!/bin/bash\n").unwrap();
        fs::set_permissions(self.host().path(path), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn check(&self) -> Result<ModuleOrigin, String> {
        let machine = Architecture::from_uname("x86_64");
        self.set.check(&self.host(), &running(), &machine).map_err(|error| error.to_string())
    }

    async fn plan(&self, database: Captured) -> InstallPlan {
        let host = self.host().with_replay(Replay::default().answer(QUERY, database));
        let state = InstallState::observe(&host, &self.set, &running()).await.unwrap();
        InstallPlan::new(&self.set, &running(), &state)
    }

    /// Carries the plan out on a machine where each command succeeds.
    async fn apply(&self, plan: &InstallPlan) -> Result<Vec<PathBuf>, InstallError> {
        let replay = plan
            .steps
            .iter()
            .filter_map(InstallStep::invocation)
            .fold(Replay::default(), |replay, command| {
                replay.answer(command.to_string(), Captured::success(""))
            })
            .answer(QUERY, Captured::success(INSTALLED));
        Ok(plan.apply(&self.host().with_replay(replay)).await?.files)
    }

    /// Makes a link as weak-modules does.
    fn link(&self, target: &Path) {
        let link = self.host().path(LINK);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(target, link).unwrap();
    }
}

#[test]
fn modules_of_another_kernel_of_the_same_release_need_the_program_that_links_them() {
    let refused = "the package kmod-mlnx-ofa_kernel is for the kernel 5.14.0-570.12.1.el9_6.x86_64, whose modules the \
                   running 5.14.0-570.73.1.el9_6.x86_64 could use through links, and this machine has no weak-modules \
                   to make them";
    assert_eq!(Machine::new(&[MODULE]).check(), Err(refused.to_owned()));
    for program in ["/usr/sbin/weak-modules", "/usr/lib/module-init-tools/weak-modules2"] {
        let machine = Machine::new(&[MODULE]).with_program(program);
        assert_eq!(
            machine.check(),
            Ok(ModuleOrigin::Linked { kernels: vec![BUILT.parse().unwrap()] }),
            "{program}"
        );
        assert_eq!(machine.set.modules_to_use(&running()).collect::<Vec<_>>(), [Path::new(MODULE)]);
    }
    // Of several the newest, and none where there is one for the kernel itself.
    let older = MODULE.replace("570.12.1", "570.9.1");
    let machine = Machine::new(&[&older, MODULE]).with_program("/usr/sbin/weak-modules");
    assert_eq!(machine.set.modules_to_use(&running()).collect::<Vec<_>>(), [Path::new(MODULE)]);
    let own = MODULE.replace("570.12.1", "570.73.1");
    let machine = Machine::new(&[MODULE, &own]);
    assert_eq!(machine.check(), Ok(ModuleOrigin::Built));
    assert_eq!(machine.set.modules_to_use(&running()).collect::<Vec<_>>(), [Path::new(&own)]);
    // What is no module needs no link.
    let machine = Machine::new(&["/lib/modules/5.14.0-570.12.1.el9_6.x86_64/note", &own]);
    assert_eq!(machine.check(), Ok(ModuleOrigin::Built));
    // Another minor release is another kernel, whatever programs there are.
    let other = MODULE.replace("570.12.1.el9_6", "503.11.1.el9_5");
    let machine = Machine::new(&[&other]).with_program("/usr/sbin/weak-modules");
    assert!(
        machine
            .check()
            .unwrap_err()
            .contains("is for the kernel 5.14.0-503.11.1.el9_5.x86_64, and this machine runs")
    );
}

#[tokio::test]
async fn after_the_installation_the_links_must_be_there() {
    let absent = || Captured { code: Some(1), stdout: ABSENT.to_owned(), stderr: String::new() };
    let machine = Machine::new(&[MODULE]).with_program("/usr/sbin/weak-modules");
    let plan = machine.plan(absent()).await;
    assert!(plan.installs_packages());
    // The package is there with its module, and the symbols differ.
    machine.host().write_durably(MODULE, b"").unwrap();
    let error = machine.apply(&plan).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the package was installed, and yet weak-modules has not linked {MODULE} into the modules of the kernel \
             {RUNNING}: they may differ in symbols that the module needs"
        )
    );
    // A link to something else is none to the module.
    machine.link(Path::new("/lib/modules/5.14.0-570.9.1.el9_6.x86_64/extra/mlnx-ofa_kernel/mlx5_core.ko.xz"));
    assert!(matches!(machine.apply(&plan).await, Err(InstallError::NotLinked { .. })));
    for target in [
        MODULE.to_owned(),
        format!("/usr{MODULE}"),
        format!("../../../{BUILT}/extra/mlnx-ofa_kernel/mlx5_core.ko.xz"),
    ] {
        fs::remove_file(machine.host().path(LINK)).unwrap();
        machine.link(Path::new(&target));
        assert_eq!(machine.apply(&plan).await.unwrap(), [PathBuf::from(MODULE)], "{target}");
        // Then nothing is left to be done,
        assert!(!machine.plan(Captured::success(INSTALLED)).await.installs_packages(), "{target}");
    }
    // and where the link is lost, the package's scripts are to make it again.
    fs::remove_file(machine.host().path(LINK)).unwrap();
    let again = machine.plan(Captured::success(INSTALLED)).await;
    assert!(
        matches!(again.steps.as_slice(), [InstallStep::RpmInstall { .. }, InstallStep::Depmod { .. }]),
        "{again}"
    );
}

#[tokio::test]
async fn a_set_for_dkms_alone_is_no_error() {
    let machine = Machine::new(&[
        "/usr/src/mlnx-ofa_kernel-25.10/dkms.conf",
        "/usr/src/mlnx-ofa_kernel-25.10/Makefile",
    ]);
    let sources = vec![PathBuf::from("/usr/src/mlnx-ofa_kernel-25.10")];
    assert_eq!(machine.check(), Ok(ModuleOrigin::Dkms { sources: sources.clone() }));
    let absent = Captured { code: Some(1), stdout: ABSENT.to_owned(), stderr: String::new() };
    let plan = machine.plan(absent).await;
    assert_eq!(plan.record.dkms_sources, sources);
    assert_eq!(machine.apply(&plan).await.unwrap(), Vec::<PathBuf>::new());
    // Sources that DKMS does not know what to do with are none.
    let error = Machine::new(&["/usr/src/mlnx-ofa_kernel-25.10/Makefile"]).check().unwrap_err();
    assert_eq!(error, format!("no package in /packages holds a module for the running kernel {RUNNING}"));
}
