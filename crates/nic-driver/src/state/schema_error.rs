//! A record of a form that this program does not read.

/// The version of this program, as it stands in what it writes.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A record of a form that this program does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// A later version of this program wrote it.
    #[error(
        "schema {found} is too new for nic-driver {VERSION}, which reads {readable}: {} wrote it, and that version or a later one reads it",
        writer_text(writer.as_ref())
    )]
    TooNew {
        /// The record's schema.
        found: u64,
        /// The version that wrote it, where it says so.
        writer: Option<String>,
        /// What is read.
        readable: Readable,
    },
    /// An earlier version of this program wrote it.
    #[error("schema {found} is too old for nic-driver {VERSION}, which reads {readable}: {} wrote it", writer_text(writer.as_ref()))]
    TooOld {
        /// The record's schema.
        found: u64,
        /// The version that wrote it, where it says so.
        writer: Option<String>,
        /// What is read.
        readable: Readable,
    },
    /// What stands in the place of the schema is none.
    #[error("schema {found} is none; nic-driver {VERSION} reads {readable}")]
    NoVersion {
        /// What stands there, as a message shows it.
        found: String,
        /// What is read.
        readable: Readable,
    },
}

/// The schemas that are read of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readable {
    /// The oldest.
    pub oldest: u32,
    /// The newest, which is also the one that is written.
    pub newest: u32,
}

impl std::fmt::Display for Readable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { oldest, newest } if oldest == newest => write!(f, "schema {newest}"),
            Self { oldest, newest } => write!(f, "schemas {oldest} to {newest}"),
        }
    }
}

fn writer_text(writer: Option<&String>) -> String {
    writer.map_or_else(
        || "a version that does not tell its name".to_owned(),
        |version| format!("nic-driver {version}"),
    )
}
