//! Packages laid out as files, with real packages and the real depmod(8).
//!
//! Only what stands below `cfg(test)` counts as test code for clippy.

#[cfg(test)]
mod sample;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::path::{Path, PathBuf};

    use nic_build::{LaidOut, Layout, LayoutError, lay_out, write_archive};
    use nic_host::{Host, KernelRelease, error_chain};
    use nic_packages::{PackageFormat, PackageSet};

    use crate::sample::{module, package};

    const KERNEL: &str = "5.14.0-570.73.1.el9_6.x86_64";
    const MODIFIED: u32 = 1_700_000_000;

    /// Paths with what the files hold.
    type Files = Vec<(String, Vec<u8>)>;

    /// A folder of packages, and beside it what is made of them.
    struct Fixture {
        dir: tempfile::TempDir,
        host: Host,
        set: PackageSet,
    }

    fn kernel() -> KernelRelease {
        KERNEL.parse().unwrap()
    }

    fn lib(path: &str) -> String {
        format!("/lib/modules/{KERNEL}/{path}")
    }

    /// depmod(8), without which none of this can be shown. In CI that is a failure.
    fn has_depmod() -> bool {
        let found = Host::running().find_program("depmod").is_some();
        if !found {
            assert!(std::env::var_os("CI").is_none(), "there is no depmod");
            writeln!(std::io::stderr(), "SKIPPED: there is no depmod").unwrap();
        }
        found
    }

    fn driver() -> Files {
        vec![
            (lib("extra/mlnx-ofa_kernel/core/mlx5_core.ko"), module("mlx5_core", "", &["mlx5_attach"], &[])),
            (
                lib("extra/mlnx-ofa_kernel/ib/mlx5_ib.ko"),
                module("mlx5_ib", "mlx5_core", &[], &["mlx5_attach"]),
            ),
            (lib("extra/mlnx-ofa_kernel/a.ko"), module("a", "", &[], &[])),
        ]
    }

    fn fixture(packages: &[(&str, Files)]) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("packages");
        fs::create_dir(&folder).unwrap();
        for (name, files) in packages {
            package(&folder, name, files);
        }
        let host = Host::running();
        let set = PackageSet::read(&host, &folder, PackageFormat::Rpm).unwrap();
        Fixture { dir, host, set }
    }

    fn usual() -> Fixture {
        let tools = vec![
            ("/usr/sbin/mlnx_tune".to_owned(), b"#!/usr/bin/python3\n".to_vec()),
            ("/lib/firmware/mellanox/x.bin".to_owned(), b"firmware".to_vec()),
            ("/etc/infiniband/openib.conf".to_owned(), b"ONBOOT=yes\n".to_vec()),
        ];
        fixture(&[("kmod-mlnx-ofa_kernel", driver()), ("mlnx-tools", tools)])
    }

    impl Fixture {
        fn folder(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        async fn lay_out(&self, layout: &Layout, name: &str) -> Result<LaidOut, LayoutError> {
            lay_out(&self.host, &self.set, &kernel(), layout, &self.folder(name), MODIFIED).await
        }

        fn archive(&self, name: &str) -> Vec<u8> {
            let mut archive = Vec::new();
            write_archive(&self.host, &self.folder(name), MODIFIED, &mut archive).unwrap();
            archive
        }
    }

    fn names(root: &Path) -> Vec<String> {
        walkdir::WalkDir::new(root)
            .sort_by_file_name()
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| !entry.file_type().is_dir())
            .map(|entry| entry.path().strip_prefix(root).unwrap().display().to_string())
            .filter(|name| !name.contains("/modules."))
            .collect()
    }

    #[tokio::test]
    async fn the_layer_of_a_precompiled_image() {
        if !has_depmod() {
            return;
        }
        let fixture = usual();
        let modules = ["a.ko", "core/mlx5_core.ko", "ib/mlx5_ib.ko"];
        for (merged_usr, usr) in [(true, "usr/"), (false, "")] {
            let name = format!("layer-{merged_usr}");
            let laid_out = fixture.lay_out(&Layout::ImageLayer { merged_usr }, &name).await.unwrap();
            let placed =
                modules.map(|module| format!("{usr}lib/modules/{KERNEL}/extra/mlnx-ofa_kernel/{module}"));
            assert_eq!(laid_out.modules, placed.each_ref().map(PathBuf::from));
            assert!(!laid_out.knows_own_modules);
            let root = fixture.folder(&name);
            let mut expected = placed.to_vec();
            expected.extend(["etc/infiniband/openib.conf", "usr/sbin/mlnx_tune"].map(str::to_owned));
            expected.push(format!("{usr}lib/firmware/mellanox/x.bin"));
            expected.sort();
            assert_eq!(names(&root), expected);
            let index =
                fs::read_to_string(root.join(format!("{usr}lib/modules/{KERNEL}/modules.dep"))).unwrap();
            let dependency = "extra/mlnx-ofa_kernel/ib/mlx5_ib.ko: extra/mlnx-ofa_kernel/core/mlx5_core.ko\n";
            assert!(index.contains(dependency), "{index}");
            assert!(!root.join(format!("{usr}lib/modules/{KERNEL}/depmod.conf.nic-driver")).exists());
        }
    }

    #[tokio::test]
    async fn what_the_operators_loader_takes() {
        if !has_depmod() {
            return;
        }
        let fixture = usual();
        fixture.lay_out(&Layout::ModuleLoader, "kmm").await.unwrap();
        let root = fixture.folder("kmm");
        let folder = format!("opt/lib/modules/{KERNEL}");
        let mut expected = [
            "extra/mlnx-ofa_kernel/a.ko",
            "extra/mlnx-ofa_kernel/core/mlx5_core.ko",
            "extra/mlnx-ofa_kernel/ib/mlx5_ib.ko",
            "host",
        ]
        .map(|name| format!("{folder}/{name}"))
        .to_vec();
        expected.insert(0, "opt/lib/firmware/mellanox/x.bin".to_owned());
        assert_eq!(names(&root), expected);
        assert_eq!(
            fs::read_link(root.join(&folder).join("host")).unwrap(),
            Path::new("/lib/modules").join(KERNEL)
        );
        // As the worker asks, on a copy elsewhere.
        let copy = fixture.folder("copy");
        fs::rename(root.join("opt"), &copy).unwrap();
        let shown = std::process::Command::new("modprobe")
            .args(["--show-depends", "--ignore-install", "-C", "/dev/null", "-S", KERNEL, "-d"])
            .arg(&copy)
            .arg("mlx5_ib")
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).replace(copy.to_str().unwrap(), "");
        let lines = ["core/mlx5_core", "ib/mlx5_ib"]
            .map(|name| format!("insmod /lib/modules/{KERNEL}/extra/mlnx-ofa_kernel/{name}.ko"));
        assert_eq!(shown.lines().map(str::trim).collect::<Vec<_>>(), lines);
    }

    #[tokio::test]
    async fn the_same_packages_give_the_same_bytes() {
        if !has_depmod() {
            return;
        }
        let mut many = driver();
        // Enough that a file system does not list them in the order in which they were made.
        many.extend(
            (0..60).map(|index| {
                (lib(&format!("extra/x/m{index}.ko")), module(&format!("m{index}"), "", &[], &[]))
            }),
        );
        for layout in [Layout::ImageLayer { merged_usr: true }, Layout::ModuleLoader] {
            let first =
                fixture(&[("kmod-x", many.clone()), ("a", vec![("/usr/bin/a".to_owned(), b"a".to_vec())])]);
            first.lay_out(&layout, "tree").await.unwrap();
            let archive = first.archive("tree");

            // The same files, in another order, in a folder of another name, in memory, by somebody with another umask.
            let mut second = fixture(&[
                ("kmod-x", many.iter().rev().cloned().collect()),
                ("a", vec![("/usr/bin/a".to_owned(), b"a".to_vec())]),
            ]);
            let in_memory = tempfile::tempdir_in("/dev/shm").unwrap();
            second.set.packages.reverse();
            let folder = in_memory.path().join("another-name");
            lay_out(&second.host, &second.set, &kernel(), &layout, &folder, MODIFIED).await.unwrap();
            let mut other = Vec::new();
            write_archive(&second.host, &folder, MODIFIED, &mut other).unwrap();
            assert!(archive == other, "{layout:?}: {} and {} bytes", archive.len(), other.len());

            let mut later = Vec::new();
            write_archive(&second.host, &folder, MODIFIED + 1, &mut later).unwrap();
            assert!(archive != later);
        }
    }

    #[tokio::test]
    async fn modes_and_times_are_not_the_builders() {
        if !has_depmod() {
            return;
        }
        let fixture = usual();
        fixture.lay_out(&Layout::ModuleLoader, "kmm").await.unwrap();
        for entry in walkdir::WalkDir::new(fixture.folder("kmm")).into_iter().map(Result::unwrap) {
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            assert_eq!(metadata.mtime(), i64::from(MODIFIED), "{}", entry.path().display());
            let mode = metadata.permissions().mode() & 0o7777;
            let expected = if metadata.is_dir() { 0o755 } else { 0o644 };
            assert!(metadata.is_symlink() || mode == expected, "{} {mode:o}", entry.path().display());
        }
        let archive = fixture.archive("kmm");
        let mut archive = tar::Archive::new(archive.as_slice());
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                assert_eq!(
                    (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()),
                    (0, 0, u64::from(MODIFIED))
                );
                entry.path().unwrap().display().to_string()
            })
            .collect();
        assert!(entries.is_sorted_by_key(|name| Path::new(name).to_path_buf()), "{entries:?}");
        assert!(entries.len() > 12, "{entries:?}");
    }

    #[tokio::test]
    async fn what_cannot_be_laid_out_is_named() {
        let refused = async |packages: &[(&str, Files)]| {
            let fixture = fixture(packages);
            let error = fixture.lay_out(&Layout::ImageLayer { merged_usr: true }, "tree").await.unwrap_err();
            error_chain(&error).replace(fixture.dir.path().to_str().unwrap(), "")
        };
        let other = vec![("/lib/modules/5.14.0/extra/a.ko".to_owned(), Vec::new())];
        assert_eq!(
            refused(&[("x", other)]).await,
            format!("no package in /packages holds a module for the kernel {KERNEL}")
        );
        let twice =
            refused(&[("x", driver()), ("y", vec![(lib("extra/mlnx-ofa_kernel/a.ko"), b"other".to_vec())])])
                .await;
        assert!(
            twice.contains("two packages have the file /tree/.nic-driver-tree/usr/lib/modules/"),
            "{twice}"
        );
        // A file where another package has a folder: nothing is written beside the tree.
        let below =
            refused(&[("x", driver()), ("a", vec![("/usr/lib/modules".to_owned(), b"a file".to_vec())])])
                .await;
        assert!(
            below.contains(
                "/tree/.nic-driver-tree/usr/lib/modules is no folder, and a package has a file in it"
            ),
            "{below}"
        );

        let fixture = usual();
        fs::create_dir(fixture.folder("tree")).unwrap();
        fs::write(fixture.folder("tree").join("x"), "").unwrap();
        for name in ["tree", "tree/x"] {
            let error = fixture.lay_out(&Layout::ModuleLoader, name).await.unwrap_err();
            assert!(matches!(error, LayoutError::NotEmpty { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_was_left_unfinished_is_begun_anew_and_nobody_elses_file_is_taken() {
        if !has_depmod() {
            return;
        }
        let fixture = usual();
        let layout = Layout::ImageLayer { merged_usr: false };
        fixture.lay_out(&layout, "whole").await.unwrap();
        let whole = fixture.archive("whole");
        // What a process leaves that is killed: before the tree is made, in it, when its names are noted, and while they are moved.
        for (mark, tree, moved, other) in [
            ("", None, None, None),
            ("", Some("lib/half"), None, None),
            ("lib\nsb", Some("lib/half"), None, None),
            ("lib\nsbin\n.\n", Some("sbin/x"), Some("lib/x"), None),
            ("lib\nsbin\n.\n", None, Some("lib/x"), None),
            ("lib\n.\n", None, Some("lib/x"), Some("notes")),
            ("lib\nsb", None, Some("lib/x"), None),
            ("", None, None, Some(".hidden")),
        ] {
            let folder = fixture.folder("cut-off");
            let write = |below: PathBuf, text: &str| {
                fs::create_dir_all(below.parent().unwrap()).unwrap();
                fs::write(below, text).unwrap();
            };
            write(folder.join(".nic-driver-unfinished"), mark);
            if let Some(half) = tree {
                write(folder.join(".nic-driver-tree").join(half), "half");
            }
            moved.into_iter().chain(other).for_each(|file| write(folder.join(file), "left"));
            // Names that were not noted to the end were not moved.
            let is_foreign = other.is_some() || (moved.is_some() && !mark.ends_with(".\n"));
            let laid_out = fixture.lay_out(&layout, "cut-off").await;
            if is_foreign {
                assert!(matches!(laid_out, Err(LayoutError::NotEmpty { .. })), "{mark:?}");
                assert!(moved.into_iter().chain(other).all(|file| folder.join(file).exists()), "{mark:?}");
            } else {
                laid_out.unwrap();
                assert_eq!(fixture.archive("cut-off"), whole, "{mark:?}");
                assert_eq!(fs::metadata(&folder).unwrap().mtime(), i64::from(MODIFIED));
            }
            fs::remove_dir_all(&folder).unwrap();
        }
    }
}
