//! What a driver container has on the node, and leaves there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use nic_driver::default_paths::LOCK_FILE;

use crate::drivers;
use crate::pods::headers_mounts;
use crate::readiness::READY;

pub(super) const BLACKLIST: &str = "/etc/modprobe.d/blacklist-ofed-modules.conf";
const RULES: &str = "/etc/udev/rules.d";
/// Where the operator's manifest has the inventory.
pub(super) const INVENTORY: &str = "/var/opt/mofed-container/inventory";

/// The only rule for names.
pub(super) fn rule() -> anyhow::Result<PathBuf> {
    let of_names = |path: &PathBuf| path.to_string_lossy().contains("mlnx-net-names");
    let mut found: Vec<_> = list(Path::new(RULES))?.into_iter().filter(of_names).collect();
    match (found.pop(), found.is_empty()) {
        (Some(rule), true) => Ok(rule),
        (rule, _) => bail!("there are other rules for names than one: {rule:?}, {found:?}"),
    }
}

fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .with_context(|| format!("cannot list {}", folder.display()))
}

/// The lock of all driver containers, open.
pub(super) fn lock() -> anyhow::Result<File> {
    File::open(LOCK_FILE).with_context(|| format!("cannot open {LOCK_FILE}"))
}

/// What of a driver container is on the node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Found {
    pub(super) readiness: bool,
    pub(super) rules: usize,
    pub(super) blacklist: bool,
    /// Mounts of headers, one on the other.
    pub(super) headers: usize,
    pub(super) is_locked: bool,
}

impl Found {
    /// With a container that is ready.
    pub(super) const OF_READY: Self =
        Self { readiness: true, rules: 1, blacklist: false, headers: 1, is_locked: true };

    fn now() -> anyhow::Result<Self> {
        let rules = list(Path::new(RULES))?;
        Ok(Self {
            readiness: Path::new(READY).exists(),
            rules: rules.iter().filter(|path| path.to_string_lossy().contains("mlnx-net-names")).count(),
            // A link that leads nowhere counts, too.
            blacklist: fs::symlink_metadata(BLACKLIST).is_ok(),
            headers: headers_mounts()?,
            is_locked: lock()?.try_lock().is_err(),
        })
    }

    pub(super) fn expect(&self, when: &str) -> anyhow::Result<()> {
        let now = Self::now()?;
        ensure!(now == *self, "when {when}, there is {now:?}, not {self:?}");
        Ok(())
    }
}

/// What stays on the node.
#[derive(Debug)]
pub(super) struct Places<'a> {
    pub(super) kernel: &'a str,
}

impl Places<'_> {
    pub(super) fn host_tree(&self) -> PathBuf {
        Path::new("/lib/modules").join(self.kernel).join("extra/mlnx-ofa_kernel")
    }

    /// By what ours knows its own files there.
    pub(super) fn note(&self) -> PathBuf {
        self.host_tree().join(".nic-driver.json")
    }

    pub(super) fn entry(&self, letter: &str) -> PathBuf {
        let version = drivers::version(letter).map(|version| version.version).unwrap_or_default();
        Path::new(INVENTORY).join(self.kernel).join(version)
    }

    /// An error unless exactly these files are beside an entry's folder.
    pub(super) fn expect_entry(&self, letter: &str, ends: &[&str]) -> anyhow::Result<()> {
        let folder = self.entry(letter);
        for end in ["checksum", "buildconfig", "sha256"] {
            // Versions have dots: what follows the name is no extension.
            let file = PathBuf::from(format!("{}.{end}", folder.display()));
            let expected = ends.contains(&end);
            ensure!(file.exists() == expected, "{} is there: {}", file.display(), file.exists());
        }
        Ok(())
    }
}
