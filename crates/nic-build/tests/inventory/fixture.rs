//! An inventory with an entry, and the incumbent's view of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nic_build::{
    BuildInputs, BuildKey, Inventory, InventoryEntry, InventoryLock, NotedSettings, Stored, Trust,
};
use nic_host::Host;

pub(crate) const KERNEL: &str = "5.14.0-570.73.1.el9_6.aarch64+64k";
pub(crate) const VERSION: &str = "25.10-1.2.8.0";
pub(crate) const INVENTORY: &str = "/mnt/drivers-inventory";
pub(crate) const KERNEL_FOLDER: &str = "/mnt/drivers-inventory/5.14.0-570.73.1.el9_6.aarch64+64k";
pub(crate) const FOLDER: &str = "/mnt/drivers-inventory/5.14.0-570.73.1.el9_6.aarch64+64k/25.10-1.2.8.0";

pub(crate) struct Fixture {
    pub(crate) host: Host,
    pub(crate) inventory: Inventory,
    pub(crate) entry: InventoryEntry,
    pub(crate) packages: Vec<PathBuf>,
    _dir: Option<tempfile::TempDir>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        Self { _dir: Some(dir), ..Self::at(host) }
    }

    /// In a root that somebody else keeps.
    pub(crate) fn at(host: Host) -> Self {
        fs::create_dir_all(host.path(INVENTORY)).unwrap();
        let inventory = Inventory::open(&host, INVENTORY).unwrap();
        let entry = inventory.entry(&KERNEL.parse().unwrap(), &VERSION.parse().unwrap());
        let packages = ["/build/b.rpm", "/build/a.rpm"].map(PathBuf::from).to_vec();
        for package in &packages {
            host.write_durably(package, package.to_string_lossy().as_bytes()).unwrap();
        }
        Self { host, inventory, entry, packages, _dir: None }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.host.path(path)
    }

    pub(crate) async fn lock(&self) -> InventoryLock {
        InventoryLock::acquire(&self.host, &self.entry, "the test", Duration::ZERO).await.unwrap()
    }

    pub(crate) async fn store(&self, key: &BuildKey) {
        self.entry.store(&self.host, &self.lock().await, &self.packages, key).unwrap();
    }

    pub(crate) fn look_up(&self, key: &BuildKey) -> Stored {
        self.entry.look_up(&self.host, key).unwrap()
    }

    /// By what the entry was found to be valid.
    pub(crate) fn trust(&self, key: &BuildKey) -> Option<Trust> {
        match self.look_up(key) {
            Stored::Valid { trust, .. } => Some(trust),
            Stored::Absent | Stored::Outdated(_) => None,
        }
    }

    /// Why what is stored must not be used, without the root.
    pub(crate) fn outdated(&self, key: &BuildKey) -> String {
        match self.look_up(key) {
            Stored::Outdated(reason) => reason.to_string().replace(self.host.root().to_str().unwrap(), ""),
            other => panic!("{other:?}"),
        }
    }

    /// Stores the files of the folder as the incumbent does.
    pub(crate) fn store_as_incumbent(&self, settings: &NotedSettings, files: &[(&str, &str)]) {
        let folder = self.path(FOLDER);
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
        fs::write(self.host.path(&self.entry.checksum), incumbents_sum(&folder)).unwrap();
        fs::write(self.host.path(&self.entry.build_config), settings.to_string()).unwrap();
    }

    /// Whether the incumbent, by the contract's words, uses what is stored.
    pub(crate) fn incumbent_reuses(&self, settings: &NotedSettings) -> bool {
        let read = |path: &Path| fs::read_to_string(self.host.path(path)).ok();
        let (Some(sum), Some(stored)) = (read(&self.entry.checksum), read(&self.entry.build_config)) else {
            return false;
        };
        let folder = self.path(FOLDER);
        folder.is_dir()
            && sum.trim() == incumbents_sum(&folder).trim()
            && stored.trim() == settings.to_string().trim()
    }
}

/// By the programs that the incumbent runs.
fn incumbents_sum(folder: &Path) -> String {
    let pipeline =
        format!("find {} -type f -exec md5sum {{}} + | md5sum | cut -d ' ' -f 1", folder.display());
    let printed = Command::new("sh").args(["-c", &pipeline]).output().unwrap();
    String::from_utf8(printed.stdout).unwrap()
}

pub(crate) fn key(flags: &str) -> BuildKey {
    BuildKey {
        settings: NotedSettings { append_flags: flags.to_owned(), ..NotedSettings::default() },
        inputs: BuildInputs {
            kernel: KERNEL.parse().unwrap(),
            sources: "sha256:5eed".to_owned(),
            compiler: "gcc (GCC) 11.5.0".to_owned(),
            flags: ["--kernel-only", "--build-only", flags].map(str::to_owned).to_vec(),
        },
    }
}
