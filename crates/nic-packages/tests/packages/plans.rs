//! Plans to install and to remove, and their execution on a replayed machine.

use std::path::Path;

use insta::assert_snapshot;
use nic_host::{Captured, Host, KernelRelease, Replay};
use nic_packages::{
    InstallError, InstallPlan, InstallRecord, InstallState, InstallStep, InstalledError, PackageFormat,
    PackageSet, RemovalError, RemovalPlan, installed,
};

use crate::sample::Sample;

const MODULE: &str = "/lib/modules/5.14.0-570.73.1.el9_6.x86_64/extra/mlx5_core.ko";
const UBUNTU_MODULE: &str = "/lib/modules/6.8.0-31-generic/updates/dkms/mlx5_core.ko.zst";

const RPM_QUERY: &str = r"rpm -q --qf '%{NAME}\t%{EPOCHNUM}\t%{VERSION}-%{RELEASE}\t%{ARCH}\n' -- mlnx-ofa_kernel mlnx-ofa_kernel-modules mlnx-tools";
const DEB_QUERY: &str = r"dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\t${db:Status-Abbrev}\n' -- mlnx-ofed-kernel-modules mlnx-ofed-kernel-utils";
const EXTRA_QUERY: &str = r"dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\t${db:Status-Abbrev}\n' -- linux-modules-extra-6.8.0-31-generic";
const NO_EXTRA: &str = "dpkg-query: no packages found matching linux-modules-extra-6.8.0-31-generic\n";
const THE_EXTRA: &str = "linux-modules-extra-6.8.0-31-generic\t6.8.0-31.31\tamd64\tii \n";

/// A machine with packages to install, whose package database is replayed.
struct Machine {
    dir: tempfile::TempDir,
    kernel: KernelRelease,
    set: PackageSet,
    query: &'static str,
}

fn red_hat() -> Machine {
    let dir = tempfile::tempdir().unwrap();
    let packages = dir.path().join("packages");
    Sample { files: &[MODULE], ..Sample::default() }.write_rpm(&packages);
    Sample { name: "mlnx-ofa_kernel", ..Sample::default() }.write_rpm(&packages);
    Sample { name: "mlnx-tools", release: "0.2510028", architecture: "noarch", ..Sample::default() }
        .write_rpm(&packages);
    let set = PackageSet::read(&Host::at(dir.path()), "/packages", PackageFormat::Rpm).unwrap();
    Machine { dir, kernel: "5.14.0-570.73.1.el9_6.x86_64".parse().unwrap(), set, query: RPM_QUERY }
}

fn ubuntu() -> Machine {
    let dir = tempfile::tempdir().unwrap();
    let packages = dir.path().join("packages");
    let sample = |name, files| Sample {
        name,
        version: "25.10.OFED.25.10.1.2.8.1-1.kver.6.8.0-31-generic",
        architecture: "amd64",
        files,
        ..Sample::default()
    };
    sample("mlnx-ofed-kernel-modules", &[UBUNTU_MODULE]).write_deb(&packages);
    sample("mlnx-ofed-kernel-utils", &[]).write_deb(&packages);
    let set = PackageSet::read(&Host::at(dir.path()), "/packages", PackageFormat::Deb).unwrap();
    Machine { dir, kernel: "6.8.0-31-generic".parse().unwrap(), set, query: DEB_QUERY }
}

impl Machine {
    fn host(&self) -> Host {
        Host::at(self.dir.path())
    }

    fn with_file(self, path: &str) -> Self {
        self.host().write_durably(path, b"").unwrap();
        self
    }

    fn with_indexes(self) -> Self {
        let folder = Path::new("/lib/modules").join(self.kernel.as_str());
        for name in ["modules.order", "modules.builtin"] {
            self.host().write_durably(folder.join(name), b"").unwrap();
        }
        self
    }

    async fn plan(&self, replay: &Replay) -> InstallPlan {
        let host = self.host().with_replay(replay.clone());
        let state = InstallState::observe(&host, &self.set, &self.kernel).await.unwrap();
        InstallPlan::new(&self.set, &self.kernel, &state)
    }

    /// A package database that answers its query so.
    fn database(&self, code: i32, stdout: &str, stderr: &str) -> Replay {
        Replay::default().answer(self.query, captured(code, stdout, stderr))
    }
}

fn captured(code: i32, stdout: &str, stderr: &str) -> Captured {
    Captured { code: Some(code), stdout: stdout.to_owned(), stderr: stderr.to_owned() }
}

const NONE_OF_RPM: &str = "package mlnx-ofa_kernel is not installed\n\
     package mlnx-ofa_kernel-modules is not installed\npackage mlnx-tools is not installed\n";
const ALL_OF_RPM: &str = "mlnx-ofa_kernel\t0\t25.10-OFED.25.10.1.2.8.1\tx86_64\n\
     mlnx-ofa_kernel-modules\t0\t25.10-OFED.25.10.1.2.8.1\tx86_64\nmlnx-tools\t0\t25.10-0.2510028\tnoarch\n";
const NONE_OF_DEB: &str = "dpkg-query: no packages found matching mlnx-ofed-kernel-modules\n\
     dpkg-query: no packages found matching mlnx-ofed-kernel-utils\n";
const ALL_OF_DEB: &str = "mlnx-ofed-kernel-modules\t25.10.OFED.25.10.1.2.8.1-1.kver.6.8.0-31-generic\tamd64\tii \n\
     mlnx-ofed-kernel-utils\t25.10.OFED.25.10.1.2.8.1-1.kver.6.8.0-31-generic\tamd64\tii \n";

#[tokio::test]
async fn rpms_on_a_machine_without_them() {
    let machine = red_hat();
    let plan = machine.plan(&machine.database(3, NONE_OF_RPM, "")).await;
    assert_snapshot!(plan, @r#"
    create /lib/modules/5.14.0-570.73.1.el9_6.x86_64/modules.order
    create /lib/modules/5.14.0-570.73.1.el9_6.x86_64/modules.builtin
    install rpm packages: rpm -ivh --replacepkgs --nodeps /packages/mlnx-ofa_kernel-25.10-OFED.25.10.1.2.8.1.x86_64.rpm /packages/mlnx-ofa_kernel-modules-25.10-OFED.25.10.1.2.8.1.x86_64.rpm /packages/mlnx-tools-25.10-0.2510028.noarch.rpm
    build the module index of the kernel 5.14.0-570.73.1.el9_6.x86_64: depmod 5.14.0-570.73.1.el9_6.x86_64
    "#);
    assert!(plan.installs_packages());
}

#[tokio::test]
async fn rpms_of_another_version_are_upgraded_before_new_ones_are_installed() {
    let machine = red_hat().with_indexes();
    let database = machine.database(
        1,
        "package mlnx-ofa_kernel is not installed\n\
         mlnx-ofa_kernel-modules\t0\t25.07-OFED.25.07.0.9.7.1\tx86_64\nmlnx-tools\t1\t25.10-0.2510028\tnoarch\n",
        "",
    );
    assert_snapshot!(machine.plan(&database).await, @r#"
    replace other versions of rpm packages: rpm -Uvh --replacepkgs --oldpackage --nodeps /packages/mlnx-ofa_kernel-modules-25.10-OFED.25.10.1.2.8.1.x86_64.rpm /packages/mlnx-tools-25.10-0.2510028.noarch.rpm
    install rpm packages: rpm -ivh --replacepkgs --nodeps /packages/mlnx-ofa_kernel-25.10-OFED.25.10.1.2.8.1.x86_64.rpm
    build the module index of the kernel 5.14.0-570.73.1.el9_6.x86_64: depmod 5.14.0-570.73.1.el9_6.x86_64
    "#);
}

#[tokio::test]
async fn rpms_of_two_versions_at_once_are_upgraded_to_one() {
    let machine = red_hat().with_indexes().with_file(MODULE);
    let database = machine.database(
        0,
        &format!("mlnx-ofa_kernel\t0\t25.07-OFED.25.07.0.9.7.1\tx86_64\n{ALL_OF_RPM}"),
        "",
    );
    assert_snapshot!(machine.plan(&database).await, @r#"
    replace other versions of rpm packages: rpm -Uvh --replacepkgs --oldpackage --nodeps /packages/mlnx-ofa_kernel-25.10-OFED.25.10.1.2.8.1.x86_64.rpm
    build the module index of the kernel 5.14.0-570.73.1.el9_6.x86_64: depmod 5.14.0-570.73.1.el9_6.x86_64
    "#);
}

#[tokio::test]
async fn rpms_that_are_wholly_there_are_left_alone() {
    let machine = red_hat().with_indexes().with_file(MODULE);
    let plan = machine.plan(&machine.database(0, ALL_OF_RPM, "")).await;
    assert_snapshot!(plan, @r#"
    build the module index of the kernel 5.14.0-570.73.1.el9_6.x86_64: depmod 5.14.0-570.73.1.el9_6.x86_64
    "#);
    assert!(!plan.installs_packages());
    assert_eq!(plan.record.packages.len(), 3, "what was there before belongs to the record too");
}

#[tokio::test]
async fn an_rpm_whose_module_is_missing_is_installed_again() {
    let machine = red_hat().with_indexes();
    assert_snapshot!(machine.plan(&machine.database(0, ALL_OF_RPM, "")).await, @r#"
    install rpm packages: rpm -ivh --replacepkgs --nodeps /packages/mlnx-ofa_kernel-modules-25.10-OFED.25.10.1.2.8.1.x86_64.rpm
    build the module index of the kernel 5.14.0-570.73.1.el9_6.x86_64: depmod 5.14.0-570.73.1.el9_6.x86_64
    "#);
}

#[tokio::test]
async fn debs_on_a_machine_without_them() {
    let machine = ubuntu();
    let database = machine.database(1, "", NONE_OF_DEB).answer(EXTRA_QUERY, captured(1, "", NO_EXTRA));
    assert_snapshot!(machine.plan(&database).await, @r#"
    create /lib/modules/6.8.0-31-generic/modules.order
    create /lib/modules/6.8.0-31-generic/modules.builtin
    get apt's package lists: apt-get update -o 'DPkg::Lock::Timeout=600' -o 'Acquire::Retries=0' -o 'Acquire::http::Timeout=10' -o 'Acquire::https::Timeout=10'
    fetch the kernel's other modules (linux-modules-extra-6.8.0-31-generic): apt-get install -y -o 'DPkg::Lock::Timeout=600' -o 'Dpkg::Options::=--force-confdef' -o 'Dpkg::Options::=--force-confold' -o 'Acquire::Retries=0' -o 'Acquire::http::Timeout=10' -o 'Acquire::https::Timeout=10' --download-only linux-modules-extra-6.8.0-31-generic
    install the kernel's other modules (linux-modules-extra-6.8.0-31-generic): apt-get install -y -o 'DPkg::Lock::Timeout=600' -o 'Dpkg::Options::=--force-confdef' -o 'Dpkg::Options::=--force-confold' --no-download linux-modules-extra-6.8.0-31-generic
    install Debian packages: apt-get install -y -o 'DPkg::Lock::Timeout=600' -o 'Dpkg::Options::=--force-confdef' -o 'Dpkg::Options::=--force-confold' --allow-downgrades /packages/mlnx-ofed-kernel-modules_25.10.OFED.25.10.1.2.8.1-1.kver.6.8.0-31-generic_amd64.deb /packages/mlnx-ofed-kernel-utils_25.10.OFED.25.10.1.2.8.1-1.kver.6.8.0-31-generic_amd64.deb
    build the module index of the kernel 6.8.0-31-generic: depmod 6.8.0-31-generic
    "#);
}

#[tokio::test]
async fn the_kernels_other_modules_are_asked_for_where_they_are_not_installed_and_the_system_is_not_debian() {
    let machine = ubuntu().with_indexes();
    let unpacked = THE_EXTRA.replace("ii ", "iU ");
    for (extra, wanted) in [
        (captured(1, "", NO_EXTRA), true),
        (Captured::success(THE_EXTRA), false),
        // Half installed is not installed.
        (Captured::success(unpacked), true),
    ] {
        let plan = machine.plan(&machine.database(1, "", NONE_OF_DEB).answer(EXTRA_QUERY, extra)).await;
        assert_eq!(plan.steps.contains(&InstallStep::AptUpdate), wanted, "{plan}");
    }
    machine.host().write_durably("/etc/os-release", b"ID=debian\n").unwrap();
    let plan = machine.plan(&machine.database(1, "", NONE_OF_DEB)).await;
    assert!(!plan.to_string().contains("linux-modules-extra"), "{plan}");
}

#[tokio::test]
async fn the_kernels_other_modules_fail_no_installation() {
    let machine = ubuntu().with_indexes().with_file(UBUNTU_MODULE);
    let database = machine.database(1, "", NONE_OF_DEB).answer(EXTRA_QUERY, captured(1, "", NO_EXTRA));
    let plan = machine.plan(&database).await;
    let commands: Vec<String> =
        plan.steps.iter().filter_map(InstallStep::invocation).map(|command| command.to_string()).collect();
    let [update, fetch, extra, install, depmod] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!(plan.steps.iter().filter(|step| step.may_fail()).count(), 3);
    // An air-gapped node: apt fails for want of a network, then of the package.
    let air_gapped = machine
        .database(0, ALL_OF_DEB, "")
        .answer(update, captured(100, "", "E: Failed to fetch the index\n"))
        .answer(fetch, captured(100, "", "E: Unable to locate package\n"))
        .answer(extra, captured(100, "", "E: Unable to locate package\n"))
        .answer(install, Captured::success(""))
        .answer(depmod, Captured::success(""));
    plan.apply(&machine.host().with_replay(air_gapped.clone())).await.unwrap();
    assert_eq!(air_gapped.asked(), [update, fetch, extra, install, depmod, DEB_QUERY]);
    // What the driver's own packages fail with is the installation's failure.
    let failing = air_gapped.answer(install, captured(100, "", "E: Unmet dependencies\n"));
    let error = plan.apply(&machine.host().with_replay(failing)).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot install Debian packages");
}

#[tokio::test]
async fn debs_that_are_damaged_are_installed_again() {
    let machine = ubuntu().with_indexes();
    let extra = Captured::success(THE_EXTRA);
    // The utilities are unpacked and not configured; the modules are configured, and their module is gone.
    let (modules, utilities) = ALL_OF_DEB.split_once('\n').unwrap();
    let database = machine
        .database(0, &format!("{modules}\n{}", utilities.replace("ii ", "iU ")), "")
        .answer(EXTRA_QUERY, extra.clone());
    assert_snapshot!(machine.plan(&database).await, @r#"
    install Debian packages again: apt-get install -y -o 'DPkg::Lock::Timeout=600' -o 'Dpkg::Options::=--force-confdef' -o 'Dpkg::Options::=--force-confold' --allow-downgrades --reinstall /packages/mlnx-ofed-kernel-modules_25.10.OFED.25.10.1.2.8.1-1.kver.6.8.0-31-generic_amd64.deb /packages/mlnx-ofed-kernel-utils_25.10.OFED.25.10.1.2.8.1-1.kver.6.8.0-31-generic_amd64.deb
    build the module index of the kernel 6.8.0-31-generic: depmod 6.8.0-31-generic
    "#);

    let machine = machine.with_file(UBUNTU_MODULE);
    let whole = machine.database(0, ALL_OF_DEB, "").answer(EXTRA_QUERY, extra.clone());
    assert!(!machine.plan(&whole).await.installs_packages());

    // Only the configuration is left of them, and another version of the utilities is there.
    let other = machine
        .database(
            0,
            "mlnx-ofed-kernel-modules\t25.07\tamd64\trc \nmlnx-ofed-kernel-utils\t25.07\tamd64\tii \n",
            "",
        )
        .answer(EXTRA_QUERY, extra);
    assert_snapshot!(machine.plan(&other).await, @r#"
    install Debian packages: apt-get install -y -o 'DPkg::Lock::Timeout=600' -o 'Dpkg::Options::=--force-confdef' -o 'Dpkg::Options::=--force-confold' --allow-downgrades /packages/mlnx-ofed-kernel-modules_25.10.OFED.25.10.1.2.8.1-1.kver.6.8.0-31-generic_amd64.deb /packages/mlnx-ofed-kernel-utils_25.10.OFED.25.10.1.2.8.1-1.kver.6.8.0-31-generic_amd64.deb
    build the module index of the kernel 6.8.0-31-generic: depmod 6.8.0-31-generic
    "#);
}

#[tokio::test]
async fn a_plan_is_data() {
    let machine = ubuntu();
    let database = machine.database(1, "", NONE_OF_DEB).answer(EXTRA_QUERY, Captured::success(THE_EXTRA));
    let plan = machine.plan(&database).await;
    assert_snapshot!(serde_json::to_string_pretty(&plan).unwrap(), @r#"
    {
      "steps": [
        {
          "step": "create-index",
          "path": "/lib/modules/6.8.0-31-generic/modules.order"
        },
        {
          "step": "create-index",
          "path": "/lib/modules/6.8.0-31-generic/modules.builtin"
        },
        {
          "step": "apt-install",
          "files": [
            "/packages/mlnx-ofed-kernel-modules_25.10.OFED.25.10.1.2.8.1-1.kver.6.8.0-31-generic_amd64.deb",
            "/packages/mlnx-ofed-kernel-utils_25.10.OFED.25.10.1.2.8.1-1.kver.6.8.0-31-generic_amd64.deb"
          ]
        },
        {
          "step": "depmod",
          "kernel": "6.8.0-31-generic"
        }
      ],
      "record": {
        "format": "deb",
        "packages": [
          {
            "name": "mlnx-ofed-kernel-modules",
            "version": "25.10.OFED.25.10.1.2.8.1-1.kver.6.8.0-31-generic"
          },
          {
            "name": "mlnx-ofed-kernel-utils",
            "version": "25.10.OFED.25.10.1.2.8.1-1.kver.6.8.0-31-generic"
          }
        ],
        "kernel": "6.8.0-31-generic",
        "files": [
          "/lib/modules/6.8.0-31-generic/updates/dkms/mlx5_core.ko.zst"
        ]
      }
    }
    "#);
    let record: InstallRecord = serde_json::from_str(&serde_json::to_string(&plan.record).unwrap()).unwrap();
    assert_eq!(record, plan.record);
}

#[tokio::test]
async fn a_package_database_that_cannot_be_read_is_not_an_empty_one() {
    let host = |answer| {
        let query = RPM_QUERY.split(" mlnx-ofa_kernel ").next().unwrap();
        Host::at("/nonexistent").with_replay(Replay::default().answer(format!("{query} mlnx-tools"), answer))
    };
    let ask = async |answer| installed(&host(answer), PackageFormat::Rpm, ["mlnx-tools"]).await;
    let absent = "package mlnx-tools is not installed\n";

    assert_eq!(ask(captured(1, absent, "")).await.unwrap(), []);
    // Where rpm complains on the other stream, and warns beside it.
    let stderr = format!("warning: Found BDB Packages database\n{absent}");
    assert_eq!(ask(captured(1, "", &stderr)).await.unwrap(), []);

    for broken in [
        captured(1, absent, "error: cannot open Packages database in /var/lib/rpm\n"),
        captured(1, "", "error: rpmdb: BDB0113 Thread/process failed\n"),
        captured(127, "", ""),
    ] {
        let error = ask(broken).await.unwrap_err();
        assert!(matches!(error, InstalledError::Query(_)), "{error}");
    }
    let error = ask(captured(0, "mlnx-tools 25.10\n", "")).await.unwrap_err();
    assert!(matches!(&error, InstalledError::Record { line, .. } if line == "mlnx-tools 25.10"), "{error}");
    // Nothing asked, nothing executed.
    assert_eq!(installed(&host(captured(1, "", "")), PackageFormat::Rpm, [""; 0]).await.unwrap(), []);
}

#[tokio::test]
async fn a_plan_is_carried_out_step_by_step_and_verified() {
    let machine = red_hat();
    let plan = machine.plan(&machine.database(3, NONE_OF_RPM, "")).await;
    let commands: Vec<String> =
        plan.steps.iter().filter_map(InstallStep::invocation).map(|command| command.to_string()).collect();
    let [rpm, depmod] = commands.as_slice() else { panic!("{commands:?}") };
    let success =
        |database: Replay| database.answer(rpm, Captured::success("")).answer(depmod, Captured::success(""));
    let apply = async |replay: &Replay| plan.apply(&machine.host().with_replay(replay.clone())).await;

    // rpm fails: nothing after it is done.
    let replay = machine.database(0, ALL_OF_RPM, "").answer(rpm, captured(1, "", "disk full\n"));
    let error = apply(&replay).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot install rpm packages");
    assert!(matches!(&error, InstallError::Step { source, .. } if source.to_string().ends_with("disk full")));
    assert_eq!(replay.asked(), [rpm.as_str()]);
    assert!(machine.host().exists("/lib/modules/5.14.0-570.73.1.el9_6.x86_64/modules.builtin"));

    // So does depmod.
    let replay = success(machine.database(0, ALL_OF_RPM, "")).answer(depmod, captured(1, "", "disk full\n"));
    let error = apply(&replay).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot build the module index of the kernel {}", machine.kernel));
    assert_eq!(replay.asked(), [rpm.as_str(), depmod.as_str()]);

    // rpm succeeds, and a package is not there.
    let error = apply(&success(machine.database(3, NONE_OF_RPM, ""))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the package manager reported success, and yet mlnx-ofa_kernel 25.10-OFED.25.10.1.2.8.1 is not installed"
    );
    let other = ALL_OF_RPM.replace("25.10-0.2510028", "25.07-0.2507001");
    let error = apply(&success(machine.database(0, &other, ""))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the package manager reported success, and yet mlnx-tools 25.10-0.2510028 is not installed, \
         but 25.07-0.2507001"
    );

    // All packages are there, and a module is not.
    let error = apply(&success(machine.database(0, ALL_OF_RPM, ""))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the package manager reported success, and yet there is no {MODULE}")
    );

    let machine = machine.with_file(MODULE);
    let replay = success(machine.database(0, ALL_OF_RPM, ""));
    let record = plan.apply(&machine.host().with_replay(replay.clone())).await.unwrap();
    assert_eq!(replay.asked(), [rpm, depmod, RPM_QUERY]);
    assert_eq!(record, plan.record);
    assert_eq!(record.files, [Path::new(MODULE)]);
}

fn record(format: PackageFormat, packages: &[(&str, &str)]) -> InstallRecord {
    let packages: Vec<_> = packages
        .iter()
        .map(|(name, version)| serde_json::json!({ "name": name, "version": version }))
        .collect();
    serde_json::from_value(serde_json::json!({
        "format": format, "packages": packages, "kernel": "6.8.0-31-generic", "files": [],
    }))
    .unwrap()
}

async fn removal(host: &Host, record: &InstallRecord) -> RemovalPlan {
    RemovalPlan::observe(host, record).await.unwrap()
}

#[tokio::test]
async fn only_the_recorded_versions_are_removed() {
    let versions = "mlnx-ofa_kernel\t1\t25.10-1\tx86_64\nmlnx-ofa_kernel\t0\t24.10-1\tx86_64\n\
         mlnx-ofa_kernel-modules\t0\t25.07-1\tx86_64\nmlnx-tools\t0\t25.10-0\tnoarch\n";
    let host = Host::at("/nonexistent")
        .with_replay(Replay::default().answer(RPM_QUERY, Captured::success(versions)));
    let recorded = record(
        PackageFormat::Rpm,
        &[
            ("mlnx-ofa_kernel", "1:25.10-1"),
            ("mlnx-ofa_kernel-modules", "25.10-1"),
            ("mlnx-tools", "25.10-0"),
        ],
    );
    assert_snapshot!(removal(&host, &recorded).await, @r#"
    erase rpm packages: rpm -e --nodeps -- mlnx-ofa_kernel-25.10-1 mlnx-tools-25.10-0
    build the module index of the kernel 6.8.0-31-generic: depmod 6.8.0-31-generic
    "#);

    let recorded = record(
        PackageFormat::Deb,
        &[("mlnx-ofed-kernel-modules", "25.10"), ("mlnx-ofed-kernel-utils", "25.10")],
    );
    let answer = |stdout| {
        Host::at("/nonexistent").with_replay(Replay::default().answer(DEB_QUERY, captured(0, stdout, "")))
    };
    // A package that is not wholly installed has files on the machine, too.
    let half = "mlnx-ofed-kernel-modules\t25.10\tamd64\tiF \nmlnx-ofed-kernel-utils\t25.10\tamd64\tii \n";
    assert_snapshot!(removal(&answer(half), &recorded).await, @r#"
    purge Debian packages: dpkg --purge --force-depends -- mlnx-ofed-kernel-modules mlnx-ofed-kernel-utils
    build the module index of the kernel 6.8.0-31-generic: depmod 6.8.0-31-generic
    "#);
    let gone = "mlnx-ofed-kernel-modules\t25.10\tamd64\trc \nmlnx-ofed-kernel-utils\t25.12\tamd64\tii \n";
    assert_snapshot!(removal(&answer(gone), &recorded).await, @r#"
    build the module index of the kernel 6.8.0-31-generic: depmod 6.8.0-31-generic
    "#);
}

#[tokio::test]
async fn a_removal_is_verified() {
    let recorded = record(
        PackageFormat::Deb,
        &[("mlnx-ofed-kernel-modules", "25.10"), ("mlnx-ofed-kernel-utils", "25.10")],
    );
    let there = "mlnx-ofed-kernel-modules\t25.10\tamd64\tii \nmlnx-ofed-kernel-utils\t25.10\tamd64\tii \n";
    let database = |answer| Replay::default().answer(DEB_QUERY, answer);
    let at = |replay: &Replay| Host::at("/nonexistent").with_replay(replay.clone());
    let plan = removal(&at(&database(captured(0, there, ""))), &recorded).await;
    let purge = "dpkg --purge --force-depends -- mlnx-ofed-kernel-modules mlnx-ofed-kernel-utils";
    let depmod = "depmod 6.8.0-31-generic";

    let failing = Replay::default().answer(purge, captured(1, "", "dpkg: error: frontend lock is held\n"));
    let error = plan.apply(&at(&failing)).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot purge Debian packages");
    assert_eq!(failing.asked(), [purge]);

    let success = |database: Replay| {
        database.answer(purge, Captured::success("")).answer(depmod, Captured::success(""))
    };
    let error = plan.apply(&at(&success(database(captured(0, there, ""))))).await.unwrap_err();
    assert!(matches!(error, RemovalError::StillInstalled { .. }));
    assert_eq!(
        error.to_string(),
        "the package manager reported success, and yet mlnx-ofed-kernel-modules 25.10 is still installed"
    );
    plan.apply(&at(&success(database(captured(1, "", NONE_OF_DEB))))).await.unwrap();
}
