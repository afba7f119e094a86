use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use nic_host::{BootId, ForeignWord, KernelRelease, ReadError};
use nic_kmod::{LoadedModules, ModuleName};
use nic_sriov::{DeviceAddress, NicState, PfState};
use nic_topology::NetworkState;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::contradiction::SnapshotContradiction;
use super::saved_settings::SavedSettings;
use super::schema_error::{Readable, SchemaError, VERSION};
use super::unique_keys;

/// The version of the snapshot file's form.
pub const SNAPSHOT_SCHEMA: u32 = 4;
/// The oldest version that is still read.
const OLDEST_SNAPSHOT_SCHEMA: u32 = 2;
/// The versions that are read.
pub(super) const READABLE: Readable = Readable { oldest: OLDEST_SNAPSHOT_SCHEMA, newest: SNAPSHOT_SCHEMA };

/// Parameters of modules, by module and name.
pub type ModuleParameters = BTreeMap<ModuleName, BTreeMap<String, String>>;

/// All that is needed to give the NICs back what they had.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The version of the file's form.
    schema: u32,
    /// The version of this program that took it. Schema 3 does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    writer: Option<String>,
    /// SHA-256 over all else: the JSON without white space, without this field, keys sorted. The store writes it and
    /// looks at it. A file edited by hand has none: then its word is taken, and a warning given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checksum: Option<String>,
    /// When it was taken.
    #[schemars(with = "String")]
    pub taken_at: Timestamp,
    /// In which boot. It is worth nothing in another.
    pub boot_id: BootId,
    /// Under which kernel.
    pub kernel: KernelRelease,
    /// The NIC family it is of.
    pub family: String,
    /// How far it has come.
    stage: SnapshotStage,
    /// The modules of the family's stack that were loaded, for loading them again.
    pub modules: Vec<ModuleName>,
    /// The parameters that these were given: those with another value than their file's default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "unique_keys::map")]
    pub parameters: ModuleParameters,
    /// Modules that were loaded before an earlier swap and that the driver which came then lacks: for loading them
    /// again when one comes that has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<ModuleName>,
    /// PFs that were lost in the swap, and that an administrator has let go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forgotten: Vec<DeviceAddress>,
    /// The NICs.
    pub nics: NicState,
    /// What was set of their netdevs.
    #[serde(default, skip_serializing_if = "SavedSettings::is_empty")]
    pub settings: SavedSettings,
    /// What stood on their netdevs.
    pub network: NetworkState,
}

/// All that a snapshot is made of.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The running boot.
    pub boot_id: BootId,
    /// The running kernel.
    pub kernel: KernelRelease,
    /// The NIC family.
    pub family: String,
    /// The modules of its stack that are loaded.
    pub modules: Vec<ModuleName>,
    /// The parameters that these were given.
    pub parameters: ModuleParameters,
    /// Modules that an earlier swap has cost.
    pub lost: Vec<ModuleName>,
    /// The NICs.
    pub nics: NicState,
    /// What is set of their netdevs.
    pub settings: SavedSettings,
    /// What stands on their netdevs.
    pub network: NetworkState,
}

impl Observed {
    /// Takes all that is not known into account: it is lost then, and that is said.
    pub(crate) fn accept_not_known(&mut self) {
        self.nics = std::mem::take(&mut self.nics).accepting_not_known();
        self.network = std::mem::take(&mut self.network).accepting_not_known();
    }
}

impl Snapshot {
    /// A snapshot that is taken now, by hand.
    #[must_use]
    pub fn by_hand(observed: Observed) -> Self {
        let Observed { boot_id, kernel, family, modules, parameters, lost, nics, settings, network } =
            observed;
        Self {
            schema: SNAPSHOT_SCHEMA,
            writer: Some(VERSION.to_owned()),
            checksum: None,
            taken_at: Timestamp::now(),
            boot_id,
            kernel,
            family,
            stage: SnapshotStage::ByHand,
            modules,
            parameters,
            lost,
            forgotten: Vec::new(),
            nics,
            settings,
            network,
        }
    }

    /// The same snapshot without a PF that is lost: nothing is owed to it, nor to its VFs and what stood on them. That it was
    /// there is kept.
    #[must_use]
    pub fn forget(mut self, pf: &DeviceAddress) -> Self {
        let gone = self.nics.pf(pf).here().map(PfState::ifindexes).unwrap_or_default();
        self.network = self.network.without_devices(&gone);
        self.settings.forget(&gone);
        self.nics.pfs.retain(|saved| saved.address != *pf);
        self.nics.unread.retain(|saved| saved.address != *pf);
        if !self.forgotten.contains(pf) {
            self.forgotten.push(pf.clone());
        }
        self
    }

    /// How far it has come.
    #[must_use]
    pub fn stage(&self) -> &SnapshotStage {
        &self.stage
    }

    /// The same snapshot in the form that is written now, and by whom.
    pub(super) fn written_now(self) -> Self {
        Self { schema: SNAPSHOT_SCHEMA, writer: Some(VERSION.to_owned()), ..self }
    }

    pub(super) fn with_checksum(self, checksum: Option<String>) -> Self {
        Self { checksum, ..self }
    }

    pub(super) fn with_stage(self, stage: SnapshotStage) -> Self {
        Self { stage, ..self }
    }

    /// The checksum that belongs to a snapshot's JSON.
    pub(super) fn checksum_of(mut value: serde_json::Value) -> String {
        if let Some(fields) = value.as_object_mut() {
            fields.remove("checksum");
        }
        // Whatever map another crate of the program makes serde_json use.
        value.sort_all_objects();
        hex::encode(Sha256::digest(value.to_string()))
    }

    /// The JSON schema of the snapshot file, as published in `docs/snapshot.schema.json`.
    #[must_use]
    pub fn json_schema() -> schemars::Schema {
        schemars::schema_for!(Self)
    }
}

/// How far a snapshot has come. Its transitions are [`Snapshot::by_hand`], [`Snapshot::arm`] and [`Snapshot::verify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum SnapshotStage {
    /// Taken by hand. The machine may rightly change after it.
    #[serde(alias = "stored")]
    ByHand,
    /// A destructive step follows or has followed. It is the truth until a restore from it has been verified.
    Armed {
        /// Since when.
        #[schemars(with = "String")]
        at: Timestamp,
    },
    /// A restore from it was verified: the machine was read back and equalled it.
    #[serde(alias = "verified")]
    Record {
        /// Since when.
        #[schemars(with = "String")]
        at: Timestamp,
    },
}

impl fmt::Display for SnapshotStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByHand => f.write_str("taken by hand"),
            Self::Armed { at } => write!(f, "armed at {at:.0}"),
            Self::Record { at } => write!(f, "a record, verified at {at:.0}"),
        }
    }
}

impl Snapshot {
    /// Whether the machine is to be restored from it before anything else is done.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        matches!(self.stage, SnapshotStage::Armed { .. })
    }

    /// The modules that are to be loaded again, the one loaded last first.
    #[must_use]
    pub fn wanted_modules(&self) -> Vec<ModuleName> {
        self.modules.iter().chain(&self.lost).cloned().collect()
    }

    /// Those of them that are not loaded.
    #[must_use]
    pub fn lost_under(&self, loaded: &LoadedModules) -> Vec<ModuleName> {
        self.wanted_modules().into_iter().filter(|module| !loaded.contains(module)).collect()
    }
}

/// A stored snapshot that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file is damaged, or something else.
    #[error("{} is not a snapshot that can be read", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A field is missing, unknown, there twice, or holds something else than it may.
    #[error("{} is not a snapshot that can be read", path.display())]
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
        /// Which component or field, and why.
        #[source]
        source: Box<SnapshotContradiction>,
    },
    /// The content is not what was written.
    #[error("{} is damaged: its content does not fit its checksum", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
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
    /// The file is of another NIC family.
    #[error("{} is of the NIC family {}, and {} was asked for", path.display(), ForeignWord(found), ForeignWord(asked))]
    OtherFamily {
        /// The file.
        path: PathBuf,
        /// The file's NIC family.
        found: String,
        /// The one asked for.
        asked: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_swap_has_cost_is_wanted_until_it_is_loaded_again() {
        let names = |text: &str| {
            text.split_whitespace().map(|name| name.parse().unwrap()).collect::<Vec<ModuleName>>()
        };
        let mut snapshot = crate::state::store::tests::snapshot();
        snapshot.modules = names("mlx5_dpll mlx5_core");
        snapshot.lost = names("rpcrdma");
        assert_eq!(snapshot.wanted_modules(), names("mlx5_dpll mlx5_core rpcrdma"));
        for (loaded, lost) in [
            ("mlx5_core 1 0 - Live 0x0\n", "mlx5_dpll rpcrdma"),
            ("rpcrdma 1 0 - Live 0x0\nmlx5_core 1 0 - Live 0x0\n", "mlx5_dpll"),
            ("rpcrdma 1 0 - Live 0x0\nmlx5_dpll 1 0 - Live 0x0\nmlx5_core 1 0 - Live 0x0\n", ""),
        ] {
            assert_eq!(snapshot.lost_under(&LoadedModules::parse(loaded).unwrap()), names(lost), "{loaded}");
        }
    }

    #[test]
    fn the_published_schema_is_current() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/snapshot.schema.json");
        let current = format!("{}\n", serde_json::to_string_pretty(&Snapshot::json_schema()).unwrap());
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, &current).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap();
        assert!(
            published == current,
            "docs/snapshot.schema.json is not current: run this test with UPDATE_SCHEMA=1"
        );
    }
}
