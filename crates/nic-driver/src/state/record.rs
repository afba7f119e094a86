//! Records in the state directory: JSON with the version of its form, which is looked at before all else.

use std::path::PathBuf;

use nic_host::ReadError;

use super::schema::{LONGEST_RECORD, Schema};
use super::store::StateStore;

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file is damaged, or something else.
    #[error("{} cannot be read", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The file is of another version of this program.
    #[error("{} has schema {found}; this program reads schemas 1 to {newest}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The file's schema.
        found: String,
        /// The newest one that is read.
        newest: u32,
    },
}

impl StateStore {
    /// The record at `path`, of a form from the first to the `newest`; `None` where there is none.
    pub(super) fn record<T: serde::de::DeserializeOwned>(
        &self,
        path: PathBuf,
        newest: u32,
    ) -> Result<Option<T>, RecordError> {
        let Some(text) = self.files().read_up_to_if_exists(&path, LONGEST_RECORD)? else { return Ok(None) };
        let parse_error = |source| RecordError::Parse { path: path.clone(), source };
        // Another version's fields would otherwise read like damage, or be taken for something else.
        if let Some(found) = Schema::of(&text).map_err(parse_error)?.unreadable(1, newest) {
            return Err(RecordError::Schema { path, found, newest });
        }
        serde_json::from_str(&text).map(Some).map_err(parse_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Record {
        schema: u32,
    }

    #[test]
    fn only_forms_that_are_known_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path());
        let path = folder.path().join("record.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            store.record::<Record>(path.clone(), 2)
        };
        for schema in [1, 2] {
            assert_eq!(read(&format!("{{\"schema\":{schema}}}")).unwrap(), Some(Record { schema }));
        }
        for schema in [0, 3, 9] {
            let error = read(&format!("{{\"schema\":{schema},\"new\":true}}")).unwrap_err();
            assert!(matches!(error, RecordError::Schema { .. }), "{error}");
            assert!(error.to_string().contains(&format!("record.json has schema {schema};")), "{error}");
        }
        for (schema, shown) in [("\"2\"", "\"2\""), ("-2", "-2"), ("2.5", "\"2.5\""), ("null", "\"null\"")] {
            let error = read(&format!("{{\"schema\":{schema}}}")).unwrap_err().to_string();
            assert!(error.contains(&format!("has schema {shown};")), "{error}");
        }
        for text in ["{}", "{", "[]"] {
            let error = read(text).unwrap_err();
            assert!(matches!(error, RecordError::Parse { .. }), "{text}: {error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(store.record::<Record>(path, 2).unwrap(), None);
    }
}
