//! What packages have registered with DKMS is taken out before they go.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use insta::assert_snapshot;
use nic_host::{Captured, Host, Replay};
use nic_packages::{
    InstallPlan, InstallRecord, InstallState, PackageFormat, PackageSet, RemovalError, RemovalPlan,
};

use crate::sample::Sample;

const QUERY: &str = r"dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\t${db:Status-Abbrev}\n' mlnx-ofed-kernel-dkms";
const REMOVE: &str = "dkms remove -m mlnx-ofed-kernel -v 25.10 --all";
const PURGE: &str = "dpkg --purge --force-depends mlnx-ofed-kernel-dkms";
const DEPMOD: &str = "depmod 6.8.0-31-generic";
const THERE: &str = "mlnx-ofed-kernel-dkms\t25.10\tall\tii \n";
const STATUS: &str = "mlnx-ofed-kernel/25.10, 6.8.0-31-generic, x86_64: installed\n\
     mlnx-ofed-kernel/25.10, 6.5.0-18-generic, x86_64: built\nnvidia/550.54, 6.8.0-31-generic, x86_64: installed\n\
     mlnx-ofed-kernel/24.04, 6.8.0-31-generic, x86_64: added\n";

/// A machine with DKMS, or without.
fn machine(has_dkms: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    if has_dkms {
        let program = dir.path().join("usr/sbin/dkms");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

/// What installing such a package leaves to be undone.
fn record() -> InstallRecord {
    let dir = tempfile::tempdir().unwrap();
    let files = &["/usr/src/mlnx-ofed-kernel-25.10/dkms.conf", "/usr/src/mlnx-ofed-kernel-25.10/Makefile"];
    Sample { name: "mlnx-ofed-kernel-dkms", architecture: "all", files, ..Sample::default() }
        .write_deb(&dir.path().join("packages"));
    let set = PackageSet::read(&Host::at(dir.path()), "/packages", PackageFormat::Deb).unwrap();
    let state = InstallState {
        installed: Vec::new(),
        missing_modules: Default::default(),
        missing_indexes: Vec::new(),
        modules_extra: None,
    };
    InstallPlan::new(&set, &"6.8.0-31-generic".parse().unwrap(), &state).record
}

fn database(status: &str) -> Replay {
    Replay::default().answer(QUERY, Captured::success(THERE)).answer("dkms status", Captured::success(status))
}

#[tokio::test]
async fn only_what_the_packages_have_registered_is_taken_out_and_that_first() {
    let record = record();
    assert_eq!(record.dkms_sources, [std::path::Path::new("/usr/src/mlnx-ofed-kernel-25.10")]);
    let dir = machine(true);
    let host = Host::at(dir.path()).with_replay(database(STATUS));
    assert_snapshot!(RemovalPlan::observe(&host, &record).await.unwrap(), @r"
    take mlnx-ofed-kernel/25.10 out of DKMS: dkms remove -m mlnx-ofed-kernel -v 25.10 --all
    purge Debian packages: dpkg --purge --force-depends mlnx-ofed-kernel-dkms
    build the module index of the kernel 6.8.0-31-generic: depmod 6.8.0-31-generic
    ");
    let without = machine(false);
    let host = Host::at(without.path()).with_replay(database(STATUS));
    assert_snapshot!(RemovalPlan::observe(&host, &record).await.unwrap(), @r"
    purge Debian packages: dpkg --purge --force-depends mlnx-ofed-kernel-dkms
    build the module index of the kernel 6.8.0-31-generic: depmod 6.8.0-31-generic
    ");
}

#[tokio::test]
async fn dkms_is_not_believed() {
    let dir = machine(true);
    let plan =
        RemovalPlan::observe(&Host::at(dir.path()).with_replay(database(STATUS)), &record()).await.unwrap();
    let after = |status: &str| {
        Replay::default()
            .answer(REMOVE, Captured::success(""))
            .answer(PURGE, Captured::success(""))
            .answer(DEPMOD, Captured::success(""))
            .answer(QUERY, Captured::success(""))
            .answer("dkms status", Captured::success(status))
    };
    let still = after(STATUS);
    let error = plan.apply(&Host::at(dir.path()).with_replay(still.clone())).await.unwrap_err();
    assert!(matches!(error, RemovalError::StillRegistered { .. }), "{error}");
    assert_eq!(still.asked(), [REMOVE, PURGE, DEPMOD, QUERY, "dkms status"]);
    let gone = after("nvidia/550.54, 6.8.0-31-generic, x86_64: installed\n");
    plan.apply(&Host::at(dir.path()).with_replay(gone)).await.unwrap();
}
