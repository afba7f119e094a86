//! What lies in the inventory: used when it is what a build would make, by whoever it was stored, and else built anew.

use std::fs;
use std::process::Command;

use crate::chroot::Chroot;
use crate::install_run::{INVENTORY, KERNEL, PACKAGE, built, ubuntu};
use crate::node_tree::{VERSION, deb, debian_architecture};

const SETTINGS: &str = "ENABLE_NFSRDMA=false\nUSE_DKMS=false\nAPPEND_DRIVER_BUILD_FLAGS=\n";
const INSTALL: [&str; 4] = ["install", "sources", "--output", "json"];
const BY_INCUMBENT: &str = "the checksum of the earlier entrypoint";

/// Stores packages as the incumbent does, by the programs that it runs; `/inventory` is where it sees them.
fn store_as_incumbent(root: &Chroot, packages: &[(&str, &[u8])], settings: &str) {
    let entry = format!("inventory/{KERNEL}/{VERSION}");
    for (name, content) in packages {
        root.write(&format!("{entry}/{name}"), content);
    }
    let pipeline =
        "cd \"$1\" && find \"$2\" -type f -exec md5sum {} + | sed \"s|  |  /|\" | md5sum | cut -d ' ' -f 1";
    let printed =
        Command::new("sh").args(["-c", pipeline, "sh"]).arg(root.path("")).arg(&entry).output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    root.write(&format!("{entry}.checksum"), printed.stdout);
    root.write(&format!("{entry}.buildconfig"), settings);
}

/// The module package for another kernel than the running one.
fn for_another_kernel() -> Vec<u8> {
    deb(PACKAGE, "25.10", debian_architecture(), &["/lib/modules/5.0.0-1-generic/updates/mlx5_core.ko"])
}

fn is_built(root: &Chroot) -> bool {
    root.commands().iter().any(|command| command.starts_with("install.pl"))
}

#[test]
fn what_the_incumbent_has_stored_is_used_without_a_build() {
    let root = ubuntu();
    let package = built(&root);
    let other = deb("mlnx-tools", "25.10", debian_architecture(), &["/usr/sbin/mlnx_tune"]);
    root.write("installed/mlnx-tools", format!("mlnx-tools\t25.10\t{}\tii \n", debian_architecture()));
    // White space at the ends does not count.
    let settings = format!("{}\n\n", SETTINGS.trim());
    store_as_incumbent(&root, &[("modules.deb", &package), ("tools.deb", &other)], &settings);
    let result = root.run(&[INVENTORY], &INSTALL).json();
    assert_eq!((&result["from"]["is"], &result["changed"]), (&"inventory".into(), &true.into()), "{result}");
    assert_eq!(result["from"]["verified_by"], BY_INCUMBENT);
    assert!(!is_built(&root));
    let mut installed = root.installed_files();
    installed.sort_by_key(|file| *file != package);
    assert_eq!(installed, [package, other]);
    // What was stored stays as it was, so that the incumbent finds it again.
    assert!(!root.path(beside("sha256")).exists());
}

/// Changes something about an entry.
type Change = (&'static str, fn(&Chroot));

#[test]
fn what_is_not_what_a_build_would_make_or_is_damaged_is_built_anew() {
    const CHANGES: [Change; 11] = [
        ("is asked for", |root| {
            root.write(&beside("buildconfig"), SETTINGS.replace("USE_DKMS=false", "USE_DKMS=true"));
        }),
        ("buildconfig is missing", |root| root.remove(&beside("buildconfig"))),
        ("checksum is missing", |root| root.remove(&beside("checksum"))),
        ("their MD5 differs", |root| root.write(&beside("checksum"), "d41d8cd98f00b204e9800998ecf8427e\n")),
        ("their MD5 differs", |root| root.write(&beside("checksum"), "")),
        ("their MD5 differs", |root| change(root, |package| *package.last_mut().unwrap() ^= 1)),
        ("their MD5 differs", |root| change(root, |package| package.truncate(100))),
        ("their MD5 differs", |root| {
            root.write(&format!("{}/other.deb", beside_folder()), for_another_kernel());
        }),
        ("is no regular file", |root| fs::create_dir(root.entry().join("folder")).unwrap()),
        // Stored as they are, and no packages for this node.
        ("5.0.0-1-generic", |root| {
            store_as_incumbent(root, &[("modules.deb", &for_another_kernel())], SETTINGS);
        }),
        ("modules.deb", |root| store_as_incumbent(root, &[("modules.deb", b"no package")], SETTINGS)),
    ];
    let root = ubuntu();
    let (package, untouched) = (built(&root), root.paths());
    for (reason, change) in CHANGES {
        store_as_incumbent(&root, &[("modules.deb", &package)], SETTINGS);
        change(&root);
        let planned = root.run(&[INVENTORY], &["plan", "install", "sources"]);
        let told = planned.succeeded().lines().find(|line| line.contains("built anew")).unwrap_or_default();
        assert!(told.contains(reason), "{reason}: {}", planned.stdout);
        let ran = root.run(&[INVENTORY], &INSTALL);
        let result = ran.json();
        assert_eq!(result["from"]["is"], "build", "{reason}: {}", ran.text());
        assert!(
            ran.stderr.contains("the packages are built anew") && ran.stderr.contains(reason),
            "{}",
            ran.stderr
        );
        assert!(is_built(&root), "{reason}");
        assert_eq!(root.installed_files(), [&*package], "{reason}");
        // What is stored now is right, and nothing of the other is with it.
        let again = root.run(&[INVENTORY], &INSTALL).json();
        assert_eq!(again["from"]["verified_by"], "the SHA-256 of each file", "{reason}: {again}");
        assert_eq!(fs::read_dir(root.entry()).unwrap().count(), 1, "{reason}");
        root.reset(&untouched);
    }
}

fn beside_folder() -> String {
    format!("inventory/{KERNEL}/{VERSION}")
}

fn beside(suffix: &str) -> String {
    format!("{}.{suffix}", beside_folder())
}

fn change(root: &Chroot, how: impl Fn(&mut Vec<u8>)) {
    let path = root.entry().join("modules.deb");
    let mut package = fs::read(&path).unwrap();
    how(&mut package);
    fs::write(path, package).unwrap();
}

#[test]
fn what_was_stored_here_and_is_damaged_is_built_anew() {
    let root = ubuntu();
    let package = built(&root);
    root.run(&[INVENTORY], &INSTALL).succeeded();
    for (reason, damage) in [
        (
            "modules.deb has changed",
            &(|| change(&root, |package| *package.last_mut().unwrap() ^= 1)) as &dyn Fn(),
        ),
        ("modules.deb is missing", &|| {
            fs::rename(root.entry().join("modules.deb"), root.entry().join("other.deb")).unwrap();
        }),
        (".sha256 is damaged", &|| root.write(&beside("sha256"), "00  modules.deb\n")),
    ] {
        root.renew_container();
        root.remove("log/installed");
        root.commands();
        damage();
        let ran = root.run(&[INVENTORY], &INSTALL);
        assert_eq!(ran.json()["from"]["is"], "build", "{}", ran.text());
        assert!(ran.stderr.contains(reason), "{reason}: {}", ran.stderr);
        assert_eq!(root.installed_files(), [&*package], "{reason}");
    }
}
