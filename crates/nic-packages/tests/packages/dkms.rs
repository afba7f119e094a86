//! What packages bring for DKMS is registered, and taken out before they go.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use nic_host::{Captured, Host, Replay};
use nic_packages::{
    Architecture, DkmsError, DkmsExtent, DkmsFacts, DkmsPlan, InstallPlan, InstallRecord, InstallState,
    ModuleOrigin, PackageFormat, PackageSet, RemovalError, RemovalPlan,
};

use crate::sample::Sample;

const QUERY: &str = r"dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\t${db:Status-Abbrev}\n' -- mlnx-ofed-kernel-dkms";
const REMOVE: &str = "dkms remove -m mlnx-ofed-kernel -v 25.10 --all";
const PURGE: &str = "dpkg --purge --force-depends -- mlnx-ofed-kernel-dkms";
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
    assert_eq!(record.dkms_sources, [Path::new("/usr/src/mlnx-ofed-kernel-25.10")]);
    let dir = machine(true);
    let host = Host::at(dir.path()).with_replay(database(STATUS));
    assert_snapshot!(RemovalPlan::observe(&host, &record).await.unwrap(), @r"
    take mlnx-ofed-kernel/25.10 out of DKMS: dkms remove -m mlnx-ofed-kernel -v 25.10 --all
    purge Debian packages: dpkg --purge --force-depends -- mlnx-ofed-kernel-dkms
    build the module index of the kernel 6.8.0-31-generic: depmod 6.8.0-31-generic
    ");
    let without = machine(false);
    let host = Host::at(without.path()).with_replay(database(STATUS));
    assert_snapshot!(RemovalPlan::observe(&host, &record).await.unwrap(), @r"
    purge Debian packages: dpkg --purge --force-depends -- mlnx-ofed-kernel-dkms
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

const KERNEL: &str = "6.8.0-31-generic";
const OFA_STATUS: &str = "mlnx-ofa_kernel/26.04, 6.8.0-31-generic, x86_64";

/// A machine with DKMS, headers, and sources in one of the layouts.
fn sources(layout: &str) -> tempfile::TempDir {
    let dir = machine(true);
    let conf = "PACKAGE_NAME=\"mlnx-ofa_kernel\"\nPACKAGE_VERSION=\"26.04\"\nAUTOINSTALL=yes\n";
    let write = |path: &str, text: &str| {
        fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
        fs::write(dir.path().join(path), text).unwrap();
    };
    write("lib/modules/6.8.0-31-generic/build/Makefile", "");
    write("usr/src/linux-headers-6.8.0-31-generic/Makefile", "");
    write("usr/src/a-driver-1.0/dkms.conf", "PACKAGE_NAME=a-driver\nPACKAGE_VERSION=1.0\n");
    let link = |target: &str| {
        let link = dir.path().join("usr/src/mlnx-ofa_kernel-26.04");
        std::os::unix::fs::symlink(target, link).unwrap();
    };
    match layout {
        "folder" => write("usr/src/mlnx-ofa_kernel-26.04/dkms.conf", conf),
        "below source" => write("usr/src/mlnx-ofa_kernel-26.04/source/dkms.conf", conf),
        "relative link" => {
            write("usr/src/ofa_kernel-26.04/source/dkms.conf", conf);
            link("ofa_kernel-26.04/source");
        }
        "absolute link" => {
            write("usr/src/ofa_kernel-26.04/source/dkms.conf", conf);
            link("/usr/src/ofa_kernel-26.04/source");
        }
        "no link" => write("usr/src/ofa_kernel-26.04/source/dkms.conf", conf),
        "none" => {}
        other => panic!("{other}"),
    }
    dir
}

async fn registration(
    dir: &tempfile::TempDir,
    extent: DkmsExtent,
    recorded: &[&str],
    status: &str,
) -> Result<DkmsPlan, DkmsError> {
    let host =
        Host::at(dir.path()).with_replay(Replay::default().answer("dkms status", Captured::success(status)));
    let recorded: Vec<PathBuf> = recorded.iter().map(PathBuf::from).collect();
    let facts = DkmsFacts::observe(&host, &KERNEL.parse().unwrap(), &recorded).await?;
    DkmsPlan::new(&KERNEL.parse().unwrap(), extent, &facts)
}

#[tokio::test]
async fn sources_in_each_layout_are_registered_built_and_installed() {
    for layout in ["folder", "relative link", "absolute link"] {
        let plan = registration(&sources(layout), DkmsExtent::Install, &[], "").await.unwrap();
        insta::allow_duplicates! {
            assert_snapshot!(plan, @r"
            register mlnx-ofa_kernel/26.04 with DKMS: dkms add -m mlnx-ofa_kernel -v 26.04
            build mlnx-ofa_kernel/26.04 with DKMS for 6.8.0-31-generic: dkms build -m mlnx-ofa_kernel -v 26.04 -k 6.8.0-31-generic
            install mlnx-ofa_kernel/26.04 with DKMS for 6.8.0-31-generic: dkms install -m mlnx-ofa_kernel -v 26.04 -k 6.8.0-31-generic
            ");
        }
    }
    let plan =
        registration(&sources("no link"), DkmsExtent::AddOnly, &["/usr/src/ofa_kernel-26.04/source"], "")
            .await;
    assert_snapshot!(plan.unwrap(), @r"
    make /usr/src/mlnx-ofa_kernel-26.04 a link to /usr/src/ofa_kernel-26.04/source
    register mlnx-ofa_kernel/26.04 with DKMS: dkms add -m mlnx-ofa_kernel -v 26.04
    ");
    // The same sources by what a package has recorded, and what lies beside them is not touched.
    let recorded = ["/usr/src/ofa_kernel-26.04/source"];
    for layout in ["relative link", "absolute link"] {
        let plan = registration(&sources(layout), DkmsExtent::AddOnly, &recorded, "").await.unwrap();
        assert_eq!(plan.sources, recorded.map(PathBuf::from));
        assert_eq!(plan.steps.len(), 1, "a sidecar's modules are only registered: {plan}");
    }
    // Without the driver's own name the first folder with a configuration is taken.
    let plan = registration(&sources("none"), DkmsExtent::AddOnly, &[], "").await.unwrap();
    assert_eq!(plan.to_string(), "register a-driver/1.0 with DKMS: dkms add -m a-driver -v 1.0\n");
}

#[tokio::test]
async fn what_dkms_has_done_is_not_done_again() {
    let dir = sources("relative link");
    for (status, extent, verbs) in [
        ("mlnx-ofa_kernel/26.04: added\n".to_owned(), DkmsExtent::Install, &["build", "install"][..]),
        (format!("{OFA_STATUS}: built\n"), DkmsExtent::Install, &["install"]),
        (format!("{OFA_STATUS}: installed (original_module exists)\n"), DkmsExtent::Install, &[]),
        // For another kernel, or of another version.
        (
            "mlnx-ofa_kernel/26.04, 6.5.0-18-generic, x86_64: installed\n".to_owned(),
            DkmsExtent::Install,
            &["build", "install"],
        ),
        (
            "mlnx-ofa_kernel/25.10, 6.8.0-31-generic, x86_64: installed\n".to_owned(),
            DkmsExtent::Install,
            &["add", "build", "install"],
        ),
        ("mlnx-ofa_kernel/26.04: added\n".to_owned(), DkmsExtent::AddOnly, &[]),
        (String::new(), DkmsExtent::AddOnly, &["add"]),
    ] {
        let plan = registration(&dir, extent, &[], &status).await.unwrap().to_string();
        let found: Vec<&str> =
            plan.lines().filter_map(|line| line.split(": dkms ").nth(1)?.split(' ').next()).collect();
        assert_eq!(found, verbs, "{extent:?} {status}");
    }
}

#[tokio::test]
async fn what_dkms_lacks_is_named() {
    let told = async |dir: &tempfile::TempDir, extent, recorded: &[&str]| {
        registration(dir, extent, recorded, "").await.unwrap_err().to_string()
    };
    assert_snapshot!(told(&machine(false), DkmsExtent::AddOnly, &[]).await, @"modules are to be registered with DKMS, and there is no program dkms");
    let none = "no sources for DKMS are below /usr/src";
    assert!(told(&machine(true), DkmsExtent::AddOnly, &[]).await.starts_with(none));
    // What others have registered is not taken for what the packages brought.
    let recorded = ["/usr/src/mlnx-ofa_kernel-26.04"];
    assert!(told(&sources("none"), DkmsExtent::AddOnly, &recorded).await.starts_with(none));
    let dir = sources("folder");
    fs::remove_dir_all(dir.path().join("lib")).unwrap();
    assert_snapshot!(told(&dir, DkmsExtent::Install, &[]).await, @"DKMS cannot build mlnx-ofa_kernel/26.04: there is no /lib/modules/6.8.0-31-generic/build");
    registration(&dir, DkmsExtent::AddOnly, &[], "").await.unwrap();
}

#[tokio::test]
async fn a_registration_is_carried_out_and_looked_at() {
    let dir = sources("no link");
    let recorded = ["/usr/src/ofa_kernel-26.04/source"];
    let plan = registration(&dir, DkmsExtent::Install, &recorded, "").await.unwrap();
    let [add, build, install] = [
        "dkms add -m mlnx-ofa_kernel -v 26.04",
        "dkms build -m mlnx-ofa_kernel -v 26.04 -k 6.8.0-31-generic",
        "dkms install -m mlnx-ofa_kernel -v 26.04 -k 6.8.0-31-generic",
    ];
    let replay = |status: &str| {
        Replay::default()
            .answer(add, Captured::success(""))
            .answer(build, Captured::success(""))
            .answer(install, Captured::success(""))
            .answer("dkms status", Captured::success(status))
    };
    let apply = async |replay: &Replay| plan.apply(&Host::at(dir.path()).with_replay(replay.clone())).await;

    // One of an older version that dangles is replaced.
    let link = dir.path().join("usr/src/mlnx-ofa_kernel-26.04");
    std::os::unix::fs::symlink("gone", &link).unwrap();
    let done = replay(&format!("{OFA_STATUS}: installed\n"));
    apply(&done).await.unwrap();
    assert_eq!(done.asked(), [add, build, install, "dkms status"]);
    assert_eq!(fs::read_link(&link).unwrap(), Path::new(recorded[0]));

    // Where a folder has that name, the sources below it cannot have it.
    let taken = sources("below source");
    let below = registration(&taken, DkmsExtent::Install, &[], "").await.unwrap();
    let error = below.apply(&Host::at(taken.path()).with_replay(replay(""))).await.unwrap_err();
    assert!(matches!(error, DkmsError::Link(_)), "{error}");

    // (In a tree an absolute link leads nowhere.)
    fs::remove_file(&link).unwrap();
    let error = apply(&replay(&format!("{OFA_STATUS}: built\n"))).await.unwrap_err();
    assert_snapshot!(error, @"dkms reported success, and yet mlnx-ofa_kernel/26.04 is not Installed for 6.8.0-31-generic");

    let log = dir.path().join("var/lib/dkms/mlnx-ofa_kernel/26.04/build/make.log");
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    fs::write(&log, format!("{}core.c:7: error: too few arguments\n", "cc\n".repeat(100))).unwrap();
    let failing = replay("").answer(
        build,
        Captured { code: Some(10), stdout: String::new(), stderr: "Error! Bad return status\n".to_owned() },
    );
    let error = apply(&failing).await.unwrap_err();
    assert_eq!(failing.asked(), [add, build], "nothing is installed after it");
    let told = error.to_string();
    assert!(told.starts_with("cannot build mlnx-ofa_kernel/26.04 with DKMS for 6.8.0-31-generic"), "{told}");
    assert!(told.ends_with("core.c:7: error: too few arguments") && told.lines().count() == 21, "{told}");
}

/// Packages of 26.04: their configuration lies below `source/`, and a link has the name by which DKMS knows it.
#[tokio::test]
async fn what_is_registered_through_a_link_or_below_source_is_taken_out() {
    for (layout, folder) in [
        ("folder", "/usr/src/mlnx-ofa_kernel-26.04"),
        ("below source", "/usr/src/mlnx-ofa_kernel-26.04/source"),
        ("relative link", "/usr/src/ofa_kernel-26.04/source"),
        ("absolute link", "/usr/src/ofa_kernel-26.04/source"),
    ] {
        let conf = format!("{folder}/dkms.conf");
        let packages = tempfile::tempdir().unwrap();
        Sample { name: "mlnx-ofed-kernel-dkms", architecture: "all", files: &[&conf], ..Sample::default() }
            .write_deb(&packages.path().join("packages"));
        let set = PackageSet::read(&Host::at(packages.path()), "/packages", PackageFormat::Deb).unwrap();
        let state = InstallState {
            installed: Vec::new(),
            missing_modules: Default::default(),
            missing_indexes: Vec::new(),
            modules_extra: None,
        };
        let record = InstallPlan::new(&set, &KERNEL.parse().unwrap(), &state).record;
        assert_eq!(record.dkms_sources, [Path::new(folder)]);
        let status = format!("{OFA_STATUS}: installed\na-driver/1.0: added\nmlnx-ofa_kernel/25.10: added\n");
        let dir = sources(layout);
        let observe = async || {
            let host = Host::at(dir.path()).with_replay(database(&status));
            RemovalPlan::observe(&host, &record).await.unwrap()
        };
        let modules: Vec<String> = observe().await.dkms_modules().map(ToString::to_string).collect();
        assert_eq!(modules, ["mlnx-ofa_kernel/26.04"], "{layout}");
        // A configuration that is gone: the name of the folder or of the link tells it, where there is one.
        fs::remove_file(dir.path().join(conf.trim_start_matches('/'))).unwrap();
        assert_eq!(observe().await.dkms_modules().count(), usize::from(layout != "below source"), "{layout}");
    }
}

#[test]
fn packages_with_nothing_but_sources_for_dkms_can_be_installed() {
    let check = |file: &str| {
        let packages = tempfile::tempdir().unwrap();
        Sample { name: "mlnx-ofed-kernel-dkms", architecture: "all", files: &[file], ..Sample::default() }
            .write_deb(&packages.path().join("packages"));
        let host = Host::at(packages.path());
        let set = PackageSet::read(&host, "/packages", PackageFormat::Deb).unwrap();
        set.check(&host, &KERNEL.parse().unwrap(), &Architecture::from_uname("x86_64")).ok()
    };
    assert!(matches!(
        check("/usr/src/ofa_kernel-26.04/source/dkms.conf"),
        Some(ModuleOrigin::Dkms { sources }) if sources.len() == 1
    ));
    assert_eq!(check("/usr/src/ofa_kernel-26.04/Makefile"), None);
}
