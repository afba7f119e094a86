//! The version of a record's form, which is looked at before all else.

use std::fmt;

use nic_host::Foreign;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::schema_error::{Readable, SchemaError};

/// The longest record of this program that is read, in bytes: a snapshot of some thousand VFs has a few MiB.
pub(super) const LONGEST_RECORD: u64 = 16 << 20;

/// The schema of a record, and who wrote it.
pub(super) struct Schema {
    told: Told,
    writer: Told,
}

impl Schema {
    /// Reads it. Nothing else of the text is kept in memory.
    ///
    /// # Errors
    /// The text is no JSON.
    pub(super) fn of(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<Head>(text).map(|head| Self { told: head.schema, writer: head.writer })
    }

    /// Whether it is this one.
    pub(super) fn is(&self, version: u64) -> bool {
        matches!(self.told, Told::Version(found) if found == version)
    }

    /// Whether the record is of a form that is read. One without a schema is none of this program's, or older than schemas are, and is left
    /// to its parser.
    ///
    /// # Errors
    /// It is too old or too new.
    pub(super) fn ensure_readable(self, readable: Readable) -> Result<(), SchemaError> {
        let writer = match self.writer {
            Told::Text(text) => Some(text),
            Told::Nothing | Told::Version(_) => None,
        };
        match self.told {
            Told::Nothing => Ok(()),
            Told::Version(found) if found > u64::from(readable.newest) => {
                Err(SchemaError::TooNew { found, writer, readable })
            }
            Told::Version(found) if found < u64::from(readable.oldest) => {
                Err(SchemaError::TooOld { found, writer, readable })
            }
            Told::Version(_) => Ok(()),
            Told::Text(found) => Err(SchemaError::NoVersion { found, readable }),
        }
    }
}

/// The schema and the writer alone, of a record of whatever form.
#[derive(Deserialize)]
#[serde(expecting = "a record")]
struct Head {
    #[serde(default)]
    schema: Told,
    #[serde(default)]
    writer: Told,
}

/// What a record says of its schema.
#[derive(Default)]
enum Told {
    #[default]
    Nothing,
    /// A number, as it should be.
    Version(u64),
    /// Anything else, as a message shows it.
    Text(String),
}

impl Told {
    fn foreign(text: &str) -> Self {
        Self::Text(Foreign(text).to_string())
    }
}

impl<'de> Deserialize<'de> for Told {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ToldVisitor)
    }
}

struct ToldVisitor;

impl<'de> Visitor<'de> for ToldVisitor {
    type Value = Told;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a schema")
    }

    fn visit_u64<E>(self, version: u64) -> Result<Told, E> {
        Ok(Told::Version(version))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Told, E> {
        Ok(Told::Text(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Told, E> {
        Ok(Told::foreign(&number.to_string()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Told, E> {
        Ok(Told::foreign(if value { "true" } else { "false" }))
    }

    fn visit_str<E>(self, text: &str) -> Result<Told, E> {
        Ok(Told::foreign(text))
    }

    fn visit_unit<E>(self) -> Result<Told, E> {
        Ok(Told::foreign("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Told, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Told::foreign("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Told, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Told::foreign("an object"))
    }
}
