//! The kept files of modules: the way back.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nic_host::{BootId, Foreign, Host, KernelRelease, ReadError, WriteError};
use nic_kmod::{BuildId, LONGEST_WHOLE, LoadedModule, ModuleFile, ModuleName, ParameterDefaults, SrcVersion};
use serde::{Deserialize, Serialize};

use super::contradiction::{Checked, Contradiction, below, digest, once, parameter};
use super::record::RecordError;
use super::schema_error::VERSION;
use super::store::StateStore;

/// The version of the manifest's form.
const SCHEMA: u32 = 3;

/// The modules that run, or ran before the swap that is under way, with their files where those were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleBackups {
    /// The version of the file's form.
    pub schema: u32,
    /// The version of this program that kept them. Forms before the third do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    /// When they were kept.
    pub kept_at: Timestamp,
    /// In which boot they ran.
    pub boot_id: BootId,
    /// Under which kernel.
    pub kernel: KernelRelease,
    /// The modules, in the order in which they were loaded.
    pub modules: Vec<ModuleBackup>,
    /// The distribution's own driver, in the order of loading, where `modules` lacks a file: the way back in its stead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inbox: Vec<ModuleBackup>,
}

/// A module of a driver, and its kept file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleBackup {
    /// The module.
    pub module: ModuleName,
    /// Its srcversion, where it has one.
    pub srcversion: Option<SrcVersion>,
    /// Its build-id, where the kernel shows one.
    pub build_id: Option<BuildId>,
    /// Its `MODULE_VERSION`, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The name of its file, unpacked, in the folder of this record; `None` where no file was found that is known to
    /// be the loaded one.
    pub file: Option<String>,
    /// SHA-256 of that file. In the first form the file's name alone tells it, in part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where that file was found.
    pub found_at: Option<PathBuf>,
    /// What the module's parameters are when nobody gives any.
    #[serde(default, skip_serializing_if = "ParameterDefaults::is_empty")]
    pub defaults: ParameterDefaults,
}

impl ModuleBackup {
    /// A loaded module whose file is not kept.
    #[must_use]
    pub fn without_file(module: &LoadedModule) -> Self {
        Self {
            module: module.name.clone(),
            srcversion: module.srcversion.clone(),
            build_id: module.build_id.clone(),
            version: module.version.clone(),
            file: None,
            sha256: None,
            found_at: None,
            defaults: ParameterDefaults::default(),
        }
    }

    /// The module of a file that is to be kept.
    #[must_use]
    pub fn of_file(file: &ModuleFile) -> Self {
        Self {
            module: file.name.clone(),
            srcversion: file.srcversion.clone(),
            build_id: file.build_id.clone(),
            version: file.version.clone(),
            file: None,
            sha256: None,
            found_at: Some(file.path.clone()),
            defaults: ParameterDefaults::default(),
        }
    }

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

    /// Whether the loaded module is known to be another build: what one of the two alone has tells them apart, as it does of a loaded
    /// module and its file ([`nic_kmod::IdentityVerdict::of`]).
    #[must_use]
    pub fn is_another_build(&self, loaded: &LoadedModule) -> bool {
        match (&self.srcversion, &loaded.srcversion) {
            (None, None) => match (&self.build_id, &loaded.build_id) {
                (Some(one), Some(other)) => one != other,
                _ => false,
            },
            (one, other) => one != other,
        }
    }
}

impl ModuleBackups {
    /// The record of modules that run now.
    #[must_use]
    pub fn now(
        boot_id: BootId,
        kernel: KernelRelease,
        modules: Vec<ModuleBackup>,
        inbox: Vec<ModuleBackup>,
    ) -> Self {
        let writer = Some(VERSION.to_owned());
        Self { schema: SCHEMA, writer, kept_at: Timestamp::now(), boot_id, kernel, modules, inbox }
    }

    fn all(&self) -> impl Iterator<Item = &ModuleBackup> {
        self.modules.iter().chain(&self.inbox)
    }
}

impl Checked for ModuleBackups {
    fn check(&self) -> Result<(), Contradiction> {
        for (list, kept) in [("modules", &self.modules), ("inbox", &self.inbox)] {
            once(list, kept.iter().map(|ModuleBackup { module, .. }| module))?;
            for (place, kept) in kept.iter().enumerate() {
                check_backup(&format!("{list}[{place}]"), kept)?;
            }
        }
        Ok(())
    }
}

fn check_backup(field: &str, kept: &ModuleBackup) -> Result<(), Contradiction> {
    if let Some(file) = &kept.file
        && Path::new(file).file_name() != Some(file.as_ref())
    {
        let what = format!("{} is no name of a file", Foreign(file));
        return Err(Contradiction { field: format!("{field}.file"), what });
    }
    digest(&format!("{field}.sha256"), kept.sha256.as_ref())?;
    if let Some(found_at) = &kept.found_at {
        below(&format!("{field}.found_at"), found_at, "/")?;
    }
    kept.defaults.names().try_for_each(|name| parameter(&format!("{field}.defaults"), name))
}

/// A kept file that is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum BackupFileError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its content is not what was kept.
    #[error("{} is damaged: its content does not fit its checksum", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

impl StateStore {
    /// The folder of the kept files.
    #[must_use]
    pub fn backup_folder(&self) -> PathBuf {
        self.family_folder().join("previous-modules")
    }

    fn manifest_path(&self) -> PathBuf {
        self.backup_folder().join("manifest.json")
    }

    /// The modules that were kept in this boot.
    pub fn module_backups(&self, boot_id: &BootId) -> Result<Option<ModuleBackups>, RecordError> {
        let record: Option<ModuleBackups> = self.record(self.manifest_path(), SCHEMA)?;
        Ok(record.filter(|record| record.boot_id == *boot_id))
    }

    /// The bytes of a module's kept file, known to be those that were kept; `None` where none was.
    pub fn read_module_file(&self, kept: &ModuleBackup) -> Result<Option<Vec<u8>>, BackupFileError> {
        let Some(file) = &kept.file else { return Ok(None) };
        let path = self.backup_folder().join(file);
        // A name that leads elsewhere is not one that was kept.
        if Path::new(file).file_name() != Some(file.as_ref()) {
            return Err(BackupFileError::Damaged { path });
        }
        let content = self.files().read_bytes_up_to(&path, LONGEST_WHOLE)?;
        let digest = sha256(&content);
        let is_whole = match &kept.sha256 {
            Some(kept) => *kept == digest,
            None => *file == file_name(&kept.module, &digest),
        };
        if is_whole { Ok(Some(content)) } else { Err(BackupFileError::Damaged { path }) }
    }

    /// Keeps a module's file, durably, and returns its name in the folder of kept files and its SHA-256.
    ///
    /// The name tells the content, so that no file is ever replaced by another while the manifest still means the
    /// first, and that the same content is kept once.
    pub fn write_module_file(
        &self,
        module: &ModuleName,
        content: &[u8],
    ) -> Result<(String, String), WriteError> {
        let digest = sha256(content);
        let name = file_name(module, &digest);
        let path = self.backup_folder().join(&name);
        if self.files().read_bytes(&path).is_ok_and(|there| there == content) {
            return Ok((name, digest));
        }
        self.files().write_durably(path, content)?;
        Ok((name, digest))
    }

    /// Records which modules run, and removes the kept files that belong to none of them.
    pub fn write_module_backups(&self, record: &ModuleBackups) -> Result<(), WriteError> {
        self.put(&self.manifest_path(), record)?;
        let folder = self.backup_folder();
        for name in self.files().list(&folder).unwrap_or_default() {
            let wanted = record.all().any(|module| module.file.as_deref() == Some(name.as_str()));
            if !wanted && name != "manifest.json" {
                self.files().remove_file(folder.join(name))?;
            }
        }
        Ok(())
    }
}

fn file_name(module: &ModuleName, digest: &str) -> String {
    format!("{module}-{}.ko", digest.get(..16).unwrap_or(digest))
}

/// In hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

/// The SHA-256 of a file's bytes, in hexadecimal digits. They are not held in memory.
pub(crate) fn sha256_of_file(host: &Host, path: &Path) -> Result<String, ReadError> {
    use sha2::Digest as _;
    let mut file = host.open(path)?;
    let (mut digest, mut bytes) = (sha2::Sha256::new(), vec![0; 64 << 10]);
    loop {
        let read = file.read(&mut bytes).map_err(|source| ReadError { path: host.path(path), source })?;
        let Some(read) = bytes.get(..read).filter(|read| !read.is_empty()) else {
            return Ok(hex::encode(digest.finalize()));
        };
        digest.update(read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::SchemaError;

    const ONE: &str = "1BC29B36F623BA82AAF6724";
    const TWO: &str = "94A1878BE64362BACAF1129";

    fn loaded(srcversion: Option<&str>, build_id: Option<&str>) -> LoadedModule {
        LoadedModule {
            srcversion: srcversion.map(|text| text.parse().unwrap()),
            build_id: build_id.map(|text| text.parse().unwrap()),
            ..LoadedModule::new("igb".parse().unwrap(), Vec::new())
        }
    }

    fn backup(srcversion: Option<&str>, build_id: Option<&str>) -> ModuleBackup {
        ModuleBackup::without_file(&loaded(srcversion, build_id))
    }

    #[test]
    fn a_loaded_module_is_known_by_its_identity_alone() {
        let id = "07".repeat(20);
        let other = "08".repeat(20);
        for (kept, running, same, another) in [
            ((Some(ONE), None), (Some(ONE), None), true, false),
            ((Some(ONE), None), (Some(TWO), None), false, true),
            ((Some(ONE), None), (None, Some(id.as_str())), false, true),
            ((None, Some(id.as_str())), (None, Some(id.as_str())), true, false),
            ((None, Some(id.as_str())), (None, Some(other.as_str())), false, true),
            ((None, Some(id.as_str())), (None, None), false, false),
            ((None, None), (None, None), false, false),
        ] {
            let (kept, running) = (backup(kept.0, kept.1), loaded(running.0, running.1));
            assert_eq!(kept.is_same_build(&running), same, "{kept:?} {running:?}");
            assert_eq!(kept.is_another_build(&running), another, "{kept:?} {running:?}");
        }
    }

    fn store_with(contents: &[&[u8]]) -> (tempfile::TempDir, StateStore, Vec<ModuleBackup>) {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path());
        let kept = contents.iter().map(|content| {
            let (file, sha256) = store.write_module_file(&"igb".parse().unwrap(), content).unwrap();
            ModuleBackup { file: Some(file), sha256: Some(sha256), ..backup(Some(ONE), None) }
        });
        let kept = kept.collect();
        (folder, store, kept)
    }

    #[test]
    fn kept_files_are_found_again_until_no_record_means_them() {
        let boot = BootId("boot-1".into());
        let (_folder, store, kept) = store_with(&[b"old", b"new", b"inbox"]);
        let [old, new, inbox] = kept.try_into().unwrap();
        assert_eq!(store.module_backups(&boot).unwrap(), None);
        assert_ne!(old.file, new.file);
        let record = ModuleBackups::now(
            boot.clone(),
            "6.12.1".parse().unwrap(),
            vec![new.clone()],
            vec![inbox.clone()],
        );
        store.write_module_backups(&record).unwrap();
        assert_eq!(store.module_backups(&boot).unwrap(), Some(record));
        assert_eq!(store.module_backups(&BootId("boot-2".into())).unwrap(), None);
        assert_eq!(store.read_module_file(&new).unwrap().as_deref(), Some(&b"new"[..]));
        assert_eq!(store.read_module_file(&inbox).unwrap().as_deref(), Some(&b"inbox"[..]));
        let error = store.read_module_file(&old).unwrap_err();
        assert!(matches!(error, BackupFileError::Read(_)), "what no record means is removed: {error}");
        assert_eq!(store.read_module_file(&backup(Some(ONE), None)).unwrap(), None);
    }

    #[test]
    fn a_changed_byte_of_a_kept_file_is_noticed() {
        let (_folder, store, kept) = store_with(&[b"module"]);
        let [kept] = kept.try_into().unwrap();
        // The first form has no checksum beside the name.
        let first = ModuleBackup { sha256: None, ..kept.clone() };
        for kept in [&kept, &first] {
            assert_eq!(store.read_module_file(kept).unwrap().as_deref(), Some(&b"module"[..]));
        }
        let path = store.backup_folder().join(kept.file.as_ref().unwrap());
        for damage in [&b"modulf"[..], b"modul", b"module\0", b""] {
            std::fs::write(&path, damage).unwrap();
            for kept in [&kept, &first] {
                let error = store.read_module_file(kept).unwrap_err();
                assert!(matches!(error, BackupFileError::Damaged { .. }), "{error}");
            }
        }
        // Kept again, it is whole again.
        store.write_module_file(&kept.module, b"module").unwrap();
        assert!(store.read_module_file(&kept).is_ok());
        let elsewhere = ModuleBackup { file: Some("../snapshot.json".into()), ..kept };
        assert!(matches!(store.read_module_file(&elsewhere), Err(BackupFileError::Damaged { .. })));
    }

    #[test]
    fn the_first_form_is_read() {
        let (_folder, store, _) = store_with(&[b"module"]);
        let first = format!(
            "{{\"schema\":1,\"kept_at\":\"2026-01-02T03:04:05Z\",\"boot_id\":\"boot-1\",\"kernel\":\"6.12.1\",\
             \"modules\":[{{\"module\":\"igb\",\"srcversion\":\"{ONE}\",\"build_id\":null,\
             \"file\":\"igb-1.ko\",\"found_at\":\"/lib/igb.ko\"}}]}}"
        );
        let path = store.backup_folder().join("manifest.json");
        std::fs::write(&path, &first).unwrap();
        let read = store.module_backups(&BootId("boot-1".into())).unwrap().unwrap();
        assert_eq!((read.modules.len(), read.inbox.len()), (1, 0));
        assert_eq!(read.modules[0].sha256, None);
        std::fs::write(&path, first.replace("\"schema\":1", "\"schema\":4")).unwrap();
        let error = store.module_backups(&BootId("boot-1".into())).unwrap_err();
        let too_new = |source: &SchemaError| matches!(source, SchemaError::TooNew { found: 4, .. });
        assert!(matches!(&error, RecordError::Schema { source, .. } if too_new(source)), "{error}");
    }
}
