//! The inventory of built packages.
//!
//! Only what stands below `cfg(test)` counts as test code for clippy.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use nic_build::{Inventory, InventoryEntry, Outdated, StoreError, Stored};
    use nic_host::{Host, KernelRelease};

    const FOLDER: &str = "/mnt/drivers-inventory/5.14.0-570.73.1.el9_6.aarch64+64k/25.10-1.2.8.0";

    struct Fixture {
        dir: tempfile::TempDir,
        host: Host,
        entry: InventoryEntry,
        packages: Vec<PathBuf>,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        fs::create_dir_all(host.path("/mnt/drivers-inventory")).unwrap();
        let packages = ["/build/b.rpm", "/build/a.rpm"].map(PathBuf::from);
        for package in &packages {
            host.write_durably(package, package.to_string_lossy().as_bytes()).unwrap();
        }
        let kernel: KernelRelease = "5.14.0-570.73.1.el9_6.aarch64+64k".parse().unwrap();
        let version = "25.10-1.2.8.0".parse().unwrap();
        let entry = Inventory::open(&host, "/mnt/drivers-inventory").unwrap().entry(&kernel, &version);
        Fixture { dir, host, entry, packages: packages.to_vec() }
    }

    impl Fixture {
        fn store(&self, build_config: &str) {
            self.entry.store(&self.host, &self.packages, build_config).unwrap();
        }

        fn look_up(&self, build_config: &str) -> Stored {
            self.entry.look_up(&self.host, build_config).unwrap()
        }

        /// Why what is stored is not valid.
        fn outdated(&self) -> String {
            match self.look_up("flags") {
                Stored::Outdated(reason) => reason.to_string().replace(self.dir.path().to_str().unwrap(), ""),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_places_of_a_build() {
        let entry = fixture().entry;
        assert_eq!(entry.folder, Path::new(FOLDER));
        assert_eq!(entry.checksum, Path::new(&format!("{FOLDER}.checksum")));
        assert_eq!(entry.build_config, Path::new(&format!("{FOLDER}.buildconfig")));
    }

    #[test]
    fn an_inventory_is_a_folder() {
        let fixture = fixture();
        for path in ["/mnt/nothing", "/build/a.rpm"] {
            let error = Inventory::open(&fixture.host, path).unwrap_err();
            let seen = fixture.host.path(path);
            let message = format!("the inventory of built packages {} is not a folder", seen.display());
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn what_is_stored_is_found_again() {
        let fixture = fixture();
        assert_eq!(fixture.look_up("flags"), Stored::Absent);
        fixture.store("flags");
        assert_eq!(fixture.look_up("flags"), Stored::Valid);
        assert_eq!(fixture.host.list(FOLDER).unwrap(), ["a.rpm", "b.rpm"]);
        assert_eq!(fixture.host.read(Path::new(FOLDER).join("b.rpm")).unwrap(), "/build/b.rpm");
        let parent = Path::new(FOLDER).parent().unwrap();
        assert_eq!(
            fixture.host.list(parent).unwrap(),
            ["25.10-1.2.8.0", "25.10-1.2.8.0.buildconfig", "25.10-1.2.8.0.checksum"]
        );
    }

    #[test]
    fn the_checksum_is_one_that_sha256sum_checks() {
        let fixture = fixture();
        fixture.store("flags");
        let checked = std::process::Command::new("sha256sum")
            .args(["--check", "--strict", "../25.10-1.2.8.0.checksum"])
            .current_dir(fixture.host.path(FOLDER))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&checked.stdout), "a.rpm: OK\nb.rpm: OK\n");
        assert!(checked.status.success());
    }

    #[test]
    fn what_was_stored_before_is_replaced() {
        let fixture = fixture();
        fixture.store("old flags");
        // A process died while it stored another one.
        let partial = Path::new(FOLDER).with_file_name(".25.10-1.2.8.0.partial");
        fixture.host.write_durably(partial.join("half.rpm"), b"half").unwrap();
        fixture.entry.store(&fixture.host, &fixture.packages[..1], "flags").unwrap();
        assert_eq!(fixture.look_up("flags"), Stored::Valid);
        assert_eq!(fixture.host.list(FOLDER).unwrap(), ["b.rpm"]);
        assert!(!fixture.host.exists(partial));
    }

    #[test]
    fn what_is_not_what_was_stored_is_not_valid() {
        let fixture = fixture();
        let file = |name: &str| fixture.host.path(FOLDER).join(name);
        let differs =
            |difference: &str| format!("the files in {FOLDER} are not those of its checksum: {difference}");

        fixture.store("flags");
        fs::write(file("a.rpm"), "changed").unwrap();
        assert_eq!(fixture.outdated(), differs("a.rpm has changed"));

        fixture.store("flags");
        fs::remove_file(file("b.rpm")).unwrap();
        assert_eq!(fixture.outdated(), differs("b.rpm is missing"));

        fixture.store("flags");
        fs::write(file("c.rpm"), "").unwrap();
        assert_eq!(fixture.outdated(), differs("c.rpm was added"));

        fixture.store("flags");
        fixture.host.write_durably(&fixture.entry.checksum, b"d41d8cd98f00b204e9800998ecf8427e\n").unwrap();
        assert_eq!(
            fixture.outdated(),
            differs("\"d41d8cd98f00b204e9800998ecf8427e\" is not a line of sha256sum")
        );

        fixture.store("flags");
        fs::remove_file(fixture.host.path(&fixture.entry.checksum)).unwrap();
        assert_eq!(fixture.outdated(), format!("{FOLDER}.checksum is missing"));

        fixture.store("other flags");
        assert_eq!(
            fixture.look_up("flags"),
            Stored::Outdated(Outdated::BuildConfig { stored: "other flags".into(), wanted: "flags".into() })
        );
        fs::remove_file(fixture.host.path(&fixture.entry.build_config)).unwrap();
        assert_eq!(fixture.outdated(), "the packages were built with \"\", and now \"flags\" is asked for");
    }

    #[test]
    fn what_cannot_be_stored_leaves_what_is_stored() {
        let fixture = fixture();
        fixture.store("flags");
        let store = |packages: &[&str]| {
            let packages: Vec<PathBuf> = packages.iter().map(PathBuf::from).collect();
            fixture.entry.store(&fixture.host, &packages, "flags").unwrap_err()
        };
        assert!(matches!(store(&[]), StoreError::Nothing { .. }));
        assert!(matches!(store(&["/build/a.rpm", "/build/missing.rpm"]), StoreError::Copy { .. }));
        assert!(matches!(store(&["/build/a.rpm", "/build/a.rpm"]), StoreError::Name { .. }));
        assert!(matches!(store(&["/build/.."]), StoreError::Name { .. }));
        assert_eq!(fixture.look_up("flags"), Stored::Valid);
    }
}
