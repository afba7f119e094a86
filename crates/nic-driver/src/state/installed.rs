//! What was installed, as it is kept.

use nic_host::WriteError;
use nic_packages::InstallRecord;

use super::contradiction::{Checked, Contradiction, below};
use super::record::RecordError;
use super::schema_error::VERSION;
use super::store::StateStore;

/// The version of the form of what was installed. The first form does not tell it.
const INSTALLED_SCHEMA: u32 = 2;

/// What was installed, as it is written.
#[derive(serde::Serialize)]
struct WrittenInstallRecord<'a> {
    schema: u32,
    writer: &'static str,
    #[serde(flatten)]
    record: &'a InstallRecord,
}

impl Checked for InstallRecord {
    fn check(&self) -> Result<(), Contradiction> {
        for (place, file) in self.files.iter().enumerate() {
            below(&format!("files[{place}]"), file, "/")?;
        }
        for (place, folder) in self.dkms_sources.iter().enumerate() {
            below(&format!("dkms_sources[{place}]"), folder, "/")?;
        }
        Ok(())
    }
}

impl StateStore {
    /// What was installed, and not removed since.
    pub fn installed(&self) -> Result<Option<InstallRecord>, RecordError> {
        self.record(self.installed_path(), INSTALLED_SCHEMA)
    }

    /// Stores what was installed.
    pub fn write_installed(&self, record: &InstallRecord) -> Result<(), WriteError> {
        let written = WrittenInstallRecord { schema: INSTALLED_SCHEMA, writer: VERSION, record };
        self.put(&self.installed_path(), &written)
    }

    /// Forgets what was installed.
    pub fn remove_installed(&self) -> Result<(), WriteError> {
        self.files().remove_file(self.installed_path()).map(|_| ())
    }
}
