//! A swap, as it is told: what ran before and after it, and how long each thing was away.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::identity::ModuleIdentity;

/// A time without NICs: from the first VF's removal until the last VF was back and verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Swap {
    /// What became of the driver.
    pub kind: SwapKind,
    /// The driver's module before.
    pub before: Option<ModuleIdentity>,
    /// The driver's module after.
    pub after: Option<ModuleIdentity>,
    /// From when the NICs were away.
    #[schemars(with = "String")]
    pub from: Timestamp,
    /// How long, in milliseconds; `None` when that has not ended.
    pub away_ms: Option<u64>,
    /// Each PF.
    pub pfs: Vec<PfAway>,
    /// Each address that stood on one of them.
    pub addresses: Vec<AddressAway>,
    /// Each VF that a restore has told of, as it came back.
    pub vfs: Vec<VfTimes>,
}

/// What became of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SwapKind {
    /// A driver of a vendor's came in place of one without a version of its own, as inbox drivers are.
    Install,
    /// A later version came.
    Upgrade,
    /// An earlier version came.
    Downgrade,
    /// Another build of the same version came.
    Rebuild,
    /// The driver was loaded again, or none of its modules was exchanged.
    Same,
    /// The driver that came did not come up, and the one before was loaded again.
    RolledBack,
    /// The inbox driver came back.
    BackToInbox,
    /// It cannot be told.
    NotTold,
}

impl SwapKind {
    /// What became of the driver between two moments.
    pub(super) fn between(
        before: Option<&ModuleIdentity>,
        after: Option<&ModuleIdentity>,
        is_rolled_back: bool,
    ) -> Self {
        let (Some(before), Some(after)) = (before, after) else { return Self::NotTold };
        if is_rolled_back {
            return Self::RolledBack;
        }
        if before.is_same_build(after) {
            return Self::Same;
        }
        match (&before.version, &after.version) {
            _ if !before.loaded || !after.loaded => Self::NotTold,
            (None, Some(_)) => Self::Install,
            (Some(_), None) => Self::BackToInbox,
            (None, None) => Self::NotTold,
            (Some(one), Some(other)) => match numbers(one).cmp(&numbers(other)) {
                std::cmp::Ordering::Less => Self::Upgrade,
                std::cmp::Ordering::Equal => Self::Rebuild,
                std::cmp::Ordering::Greater => Self::Downgrade,
            },
        }
    }

    /// As the moments before and after it are named.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::Rebuild => "change of build",
            Self::Same | Self::NotTold => "reload",
            Self::RolledBack => "rollback",
            Self::BackToInbox => "way back to inbox",
        }
    }
}

/// How long a PF was away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PfAway {
    /// The PF.
    pub pf: String,
    /// Its netdev's name before, where it was told.
    pub netdev: Option<String>,
    /// How many VFs it had, where it was told.
    pub vfs: Option<u32>,
    /// When the critical window began: with the removal of the VFs.
    #[schemars(with = "String")]
    pub critical_from: Timestamp,
    /// How long the critical window was, in milliseconds: until its restore had ended.
    pub critical_ms: Option<u64>,
    /// When the PF itself went: with the first unload of its driver.
    #[schemars(with = "String")]
    pub from: Timestamp,
    /// Until its netdev was back, in milliseconds from then on.
    pub netdev_back_ms: Option<u64>,
    /// Until it was verified, in milliseconds from then on; `None` when it has not been.
    pub away_ms: Option<u64>,
}

/// How long an address was away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AddressAway {
    /// The address, with the length of its network.
    pub address: String,
    /// The link on which it stood.
    pub link: String,
    /// The PF that it stood on, itself, by a VF, or by a link on top.
    pub pf: String,
    /// From when what it stood on was away.
    #[schemars(with = "String")]
    pub from: Timestamp,
    /// Until it was verified to be back, in milliseconds; `None` when it has not been.
    pub away_ms: Option<u64>,
}

/// How a VF came back, in milliseconds from the swap's beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct VfTimes {
    /// Its PF.
    pub pf: String,
    /// Its index on the PF, from 0.
    pub index: u32,
    /// When its driver was bound.
    pub bound_ms: Option<u64>,
    /// When its netdev had come, and had its final name.
    pub arrived_ms: Option<u64>,
    /// When all was done that could be.
    pub done_ms: Option<u64>,
    /// What went wrong.
    pub failure: Option<String>,
}

/// The numbers of a version, for comparing it with another.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}
