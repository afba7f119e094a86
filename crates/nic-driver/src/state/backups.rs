use std::path::PathBuf;

use jiff::Timestamp;
use nic_host::{BootId, KernelRelease, ReadError, WriteError};
use nic_kmod::{BuildId, LoadedModule, ModuleName, SrcVersion};
use serde::{Deserialize, Serialize};

use super::store::StateStore;

/// The version of the forms of both records.
const SCHEMA: u32 = 1;

/// The modules that ran before a driver was exchanged, with their files where those were found: the way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleBackups {
    /// The version of the file's form.
    pub schema: u32,
    /// When they were kept.
    pub kept_at: Timestamp,
    /// In which boot they ran.
    pub boot_id: BootId,
    /// Under which kernel.
    pub kernel: KernelRelease,
    /// The modules, in the order in which they were loaded.
    pub modules: Vec<ModuleBackup>,
}

/// One module that ran before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleBackup {
    /// The module.
    pub module: ModuleName,
    /// Its srcversion, where it has one.
    pub srcversion: Option<SrcVersion>,
    /// Its build-id, where the kernel shows one.
    pub build_id: Option<BuildId>,
    /// The name of its file, unpacked, in the folder of this record; `None` where no file was found that is known to
    /// be the loaded one.
    pub file: Option<String>,
    /// Where that file was found.
    pub found_at: Option<PathBuf>,
}

impl ModuleBackup {
    /// Whether the loaded module is this one. What has no identity is never known to be.
    #[must_use]
    pub fn is_same_build(&self, loaded: &LoadedModule) -> bool {
        self.module == loaded.name
            && match (&self.srcversion, &loaded.srcversion) {
                (Some(one), Some(other)) => one == other,
                (None, None) => self.build_id.is_some() && self.build_id == loaded.build_id,
                _ => false,
            }
    }
}

/// A driver that did not come up and was taken back. It is not tried again until something of the attempt changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolledBack {
    /// The version of the file's form.
    pub schema: u32,
    /// When.
    pub at: Timestamp,
    /// In which boot.
    pub boot_id: BootId,
    /// What was tried.
    pub attempt: Attempt,
    /// Why it was taken back.
    pub reason: String,
}

/// All that an attempt's outcome can depend on. One that is equal is not worth taking the NIC down for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// SHA-256 of the NIC family's description.
    pub family: String,
    /// The base deadline in seconds: with a longer one slow PFs may come up.
    pub timeout_s: u64,
    /// The modules on the disk whose identity decides a reload.
    pub modules: Vec<AttemptedModule>,
}

/// A module on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptedModule {
    /// The module.
    pub module: ModuleName,
    /// SHA-256 of its file; `None` where there is none.
    pub sha256: Option<String>,
}

impl RolledBack {
    /// The record of an attempt that failed now.
    #[must_use]
    pub fn now(boot_id: BootId, attempt: Attempt, reason: String) -> Self {
        Self { schema: SCHEMA, at: Timestamp::now(), boot_id, attempt, reason }
    }

    /// Whether an attempt in this boot would be the same again.
    #[must_use]
    pub fn refuses(&self, boot_id: &BootId, attempt: &Attempt) -> bool {
        self.boot_id == *boot_id && self.attempt == *attempt
    }
}

impl ModuleBackups {
    /// The record of modules that run now.
    #[must_use]
    pub fn now(boot_id: BootId, kernel: KernelRelease, modules: Vec<ModuleBackup>) -> Self {
        Self { schema: SCHEMA, kept_at: Timestamp::now(), boot_id, kernel, modules }
    }
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file is damaged, or of another version of this program.
    #[error("{} cannot be read", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

impl StateStore {
    /// The folder of the kept files.
    #[must_use]
    pub fn backup_folder(&self) -> PathBuf {
        self.family_folder().join("previous-modules")
    }

    fn previous_path(&self) -> PathBuf {
        self.backup_folder().join("manifest.json")
    }

    fn rolled_back_path(&self) -> PathBuf {
        self.family_folder().join("rolled-back.json")
    }

    /// The modules that ran before, when they were kept in this boot.
    pub fn module_backups(&self, boot_id: &BootId) -> Result<Option<ModuleBackups>, RecordError> {
        let record: Option<ModuleBackups> = self.record(self.previous_path())?;
        Ok(record.filter(|record| record.boot_id == *boot_id))
    }

    /// Keeps a module's file, durably, and returns its name in the folder of kept files.
    ///
    /// The name tells the content, so that no file is ever replaced by another while the manifest still means the
    /// first.
    pub fn write_module_file(&self, module: &ModuleName, content: &[u8]) -> Result<String, WriteError> {
        let digest = sha256(content);
        let name = format!("{module}-{}.ko", digest.get(..16).unwrap_or(&digest));
        self.files().write_durably(self.backup_folder().join(&name), content)?;
        Ok(name)
    }

    /// Records which modules run, and removes the kept files that belong to none of them.
    pub fn write_module_backups(&self, record: &ModuleBackups) -> Result<(), WriteError> {
        self.put(&self.previous_path(), record)?;
        let folder = self.backup_folder();
        for name in self.files().list(&folder).unwrap_or_default() {
            let wanted = record.modules.iter().any(|module| module.file.as_deref() == Some(name.as_str()));
            if !wanted && name != "manifest.json" {
                self.files().remove_file(folder.join(name))?;
            }
        }
        Ok(())
    }

    /// Drops the kept files: the new modules have proved themselves.
    pub fn remove_module_backups(&self) -> Result<(), WriteError> {
        // The manifest first: without it nothing is promised.
        self.files().remove_file(self.previous_path())?;
        let folder = self.backup_folder();
        match std::fs::remove_dir_all(&folder) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(WriteError { path: folder, action: "remove".to_owned(), source })
            }
            _ => Ok(()),
        }
    }

    /// The driver that was taken back last, if one was.
    pub fn rolled_back(&self) -> Result<Option<RolledBack>, RecordError> {
        self.record(self.rolled_back_path())
    }

    /// Records a driver that is taken back.
    pub fn write_rolled_back(&self, record: &RolledBack) -> Result<(), WriteError> {
        self.put(&self.rolled_back_path(), record)
    }

    /// Forgets it: another one has come up, or it is to be tried again.
    pub fn remove_rolled_back(&self) -> Result<bool, WriteError> {
        self.files().remove_file(self.rolled_back_path())
    }

    fn record<T: serde::de::DeserializeOwned>(&self, path: PathBuf) -> Result<Option<T>, RecordError> {
        let Some(text) = self.files().read_if_exists(&path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|source| RecordError::Parse { path, source })
    }
}

/// In hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "1BC29B36F623BA82AAF6724";

    fn previous(srcversion: Option<&str>, build_id: Option<&str>) -> ModuleBackup {
        ModuleBackup {
            module: "igb".parse().unwrap(),
            srcversion: srcversion.map(|text| text.parse().unwrap()),
            build_id: build_id.map(|text| text.parse().unwrap()),
            file: None,
            found_at: None,
        }
    }

    #[test]
    fn a_loaded_module_is_known_by_its_identity_alone() {
        let loaded = |srcversion: Option<&str>, build_id: Option<&str>| LoadedModule {
            srcversion: srcversion.map(|text| text.parse().unwrap()),
            build_id: build_id.map(|text| text.parse().unwrap()),
            ..LoadedModule::new("igb".parse().unwrap(), Vec::new())
        };
        let id = "07".repeat(20);
        for (kept, running, same) in [
            ((Some(ONE), None), (Some(ONE), None), true),
            ((Some(ONE), None), (None, Some(id.as_str())), false),
            ((None, Some(id.as_str())), (None, Some(id.as_str())), true),
            ((None, None), (None, None), false),
        ] {
            assert_eq!(
                previous(kept.0, kept.1).is_same_build(&loaded(running.0, running.1)),
                same,
                "{kept:?} {running:?}"
            );
        }
    }

    #[test]
    fn the_same_attempt_is_refused_and_any_other_is_not() {
        let boot = BootId("boot-1".into());
        let attempt = Attempt {
            family: "f".into(),
            timeout_s: 60,
            modules: vec![AttemptedModule { module: "igb".parse().unwrap(), sha256: Some("a".into()) }],
        };
        let record = RolledBack::now(boot.clone(), attempt.clone(), "no PF came".into());
        assert!(record.refuses(&boot, &attempt));
        assert!(!record.refuses(&BootId("boot-2".into()), &attempt));
        for other in [
            Attempt { family: "g".into(), ..attempt.clone() },
            Attempt { timeout_s: 120, ..attempt.clone() },
            Attempt { modules: Vec::new(), ..attempt.clone() },
        ] {
            assert!(!record.refuses(&boot, &other), "{other:?}");
        }
    }

    #[test]
    fn kept_files_are_found_again_until_they_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path());
        let boot = BootId("boot-1".into());
        assert_eq!(store.module_backups(&boot).unwrap(), None);
        let old = store.write_module_file(&"igb".parse().unwrap(), b"old").unwrap();
        let new = store.write_module_file(&"igb".parse().unwrap(), b"new").unwrap();
        assert_ne!(old, new);
        let module = ModuleBackup { file: Some(new.clone()), ..previous(Some(ONE), None) };
        let record = ModuleBackups::now(boot.clone(), "6.12.1".parse().unwrap(), vec![module]);
        store.write_module_backups(&record).unwrap();
        assert_eq!(store.module_backups(&boot).unwrap(), Some(record));
        assert_eq!(store.module_backups(&BootId("boot-2".into())).unwrap(), None);
        assert_eq!(std::fs::read(store.backup_folder().join(&new)).unwrap(), b"new");
        assert!(!store.backup_folder().join(&old).exists(), "what no record means is removed");
        store.remove_module_backups().unwrap();
        store.remove_module_backups().unwrap();
        assert!(!store.backup_folder().exists());

        std::fs::write(folder.path().join("rolled-back.json"), "{").unwrap();
        let error = store.rolled_back().unwrap_err();
        assert!(error.to_string().contains("rolled-back.json"), "{error}");
    }
}
