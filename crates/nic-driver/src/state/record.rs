//! Records in the state directory: JSON with the version of its form, which is looked at before all else.

use std::path::PathBuf;

use nic_host::ReadError;

use super::contradiction::{Checked, Contradiction};
use super::schema::{LONGEST_RECORD, Schema};
use super::schema_error::{Readable, SchemaError};
use super::store::{StateStore, keys_are_unique};

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
    /// A field is missing, unknown, there twice, or holds something else than it may.
    #[error("{} cannot be read", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Which field, and why.
        #[source]
        source: Box<serde_path_to_error::Error<serde_json::Error>>,
    },
    /// What it tells of cannot be.
    #[error("{} contradicts itself", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// Which field, and why.
        #[source]
        source: Contradiction,
    },
    /// The file is of another version of this program.
    #[error("{} is of another version of this program", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// Which, and who wrote it.
        #[source]
        source: SchemaError,
    },
}

impl StateStore {
    /// The record at `path`, of a form from the first to the `newest`; `None` where there is none.
    pub(super) fn record<T: serde::de::DeserializeOwned + Checked>(
        &self,
        path: PathBuf,
        newest: u32,
    ) -> Result<Option<T>, RecordError> {
        let Some(text) = self.files().read_up_to_if_exists(&path, LONGEST_RECORD)? else { return Ok(None) };
        let parse_error = |source| RecordError::Parse { path: path.clone(), source };
        // Another version's fields would otherwise read like damage, or be taken for something else.
        let schema = Schema::of(&text).map_err(parse_error)?;
        if let Err(source) = schema.ensure_readable(Readable { oldest: 1, newest }) {
            return Err(RecordError::Schema { path, source });
        }
        let record: T = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(&text))
            .and_then(|record| keys_are_unique(&text).map(|()| record))
            .map_err(|source| RecordError::Field { path: path.clone(), source: Box::new(source) })?;
        match record.check() {
            Ok(()) => Ok(Some(record)),
            Err(source) => Err(RecordError::Contradiction { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Record {
        schema: u32,
    }

    impl Checked for Record {
        fn check(&self) -> Result<(), Contradiction> {
            Ok(())
        }
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
        for schema in [3, 9] {
            let error =
                read(&format!("{{\"schema\":{schema},\"new\":true,\"writer\":\"7.1.0\"}}")).unwrap_err();
            let writer = Some("\"7.1.0\"".to_owned());
            let readable = Readable { oldest: 1, newest: 2 };
            let RecordError::Schema { path, source } = &error else { panic!("{error}") };
            assert!(path.ends_with("record.json"));
            assert_eq!(*source, SchemaError::TooNew { found: schema, writer, readable });
            let told = crate::error_chain(&error);
            assert!(told.contains("nic-driver \"7.1.0\" wrote it"), "{told}");
        }
        for (schema, told) in [
            ("0", "schema 0 is too old for"),
            ("3", "a version that does not tell its name wrote it"),
            ("\"2\"", "schema \"2\" is none;"),
            ("-2", "schema -2 is none;"),
            ("2.5", "schema \"2.5\" is none;"),
            ("null", "schema \"null\" is none;"),
        ] {
            let error = crate::error_chain(&read(&format!("{{\"schema\":{schema}}}")).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
        for text in ["{}", "{", "[]"] {
            let error = read(text).unwrap_err();
            let is_damage = matches!(error, RecordError::Parse { .. } | RecordError::Field { .. });
            assert!(is_damage, "{text}: {error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(store.record::<Record>(path, 2).unwrap(), None);
    }
}
