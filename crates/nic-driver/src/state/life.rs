//! The life of a snapshot: what the stored one means now, and so what is owed to the NICs.
//!
//! ```text
//!                 snapshot                          restore-sriov begins
//!      none ───────────────────► taken by hand ──────────────────────────┐
//!        │                             │                                 ▼
//!        └──── reload, before the ─────┴──────────────────────────────► armed ◄──── restore-sriov --from-record
//!              first change; also from a record                          │  ▲                  │
//!                                                                        ▼  └──────────────────┤
//!                          the machine was read back and equals it ──► record ─────────────────┘
//! ```
//!
//! Another boot's snapshot is none: the VFs that it speaks of went with that boot. All phases ask [`SnapshotState`], and
//! it decides without looking at anything else, so that its laws can be tried on every order of commands.

use std::fmt;

use jiff::Timestamp;
use nic_host::{BootId, WriteError};

use super::schema::LONGEST_RECORD;
use super::snapshot::{Snapshot, SnapshotError, SnapshotStage};
use super::store::StateStore;

/// What the stored snapshot means now.
#[derive(Debug, Clone)]
pub enum SnapshotState {
    /// Nothing is known of this boot, and nothing is owed.
    None,
    /// An administrator has taken it, for a swap that somebody else makes. A restore from it is owed when asked for.
    ByHand(Box<Snapshot>),
    /// A swap is under way. It is the truth until a restore from it was verified.
    Armed(Box<Snapshot>),
    /// A restore from it was verified: history. Whatever has changed since, somebody has changed.
    Record(Box<Snapshot>),
}

/// What `restore-sriov` has to do.
#[derive(Debug, Clone)]
pub enum RestoreDuty {
    /// Nothing is owed: nothing is compared, and nothing is changed.
    NothingOwed,
    /// The NICs are to be given back what this snapshot says. It is armed before the first change.
    Restore(Box<Snapshot>),
    /// A record was asked for, and there is none.
    NoRecord,
}

impl SnapshotState {
    /// What a stored snapshot means in this boot.
    #[must_use]
    pub fn of(stored: Option<Snapshot>, boot: &BootId) -> Self {
        let Some(snapshot) = stored.filter(|snapshot| snapshot.boot_id == *boot).map(Box::new) else {
            return Self::None;
        };
        match snapshot.stage() {
            SnapshotStage::ByHand => Self::ByHand(snapshot),
            SnapshotStage::Armed { .. } => Self::Armed(snapshot),
            SnapshotStage::Record { .. } => Self::Record(snapshot),
        }
    }

    /// The snapshot that the NICs are to be restored from before anything else: the armed one.
    #[must_use]
    pub fn armed(self) -> Option<Snapshot> {
        match self {
            Self::Armed(snapshot) => Some(*snapshot),
            Self::None | Self::ByHand(_) | Self::Record(_) => None,
        }
    }

    /// The record, where nothing has happened since it became one.
    #[must_use]
    pub fn record(self) -> Option<Snapshot> {
        match self {
            Self::Record(snapshot) => Some(*snapshot),
            Self::None | Self::ByHand(_) | Self::Armed(_) => None,
        }
    }

    /// What `restore-sriov` has to do; `from_record` is an administrator's wish for what was.
    #[must_use]
    pub fn restore_duty(self, from_record: bool) -> RestoreDuty {
        match self {
            // Half restored: what is armed comes first, whatever else is wished for.
            Self::Armed(snapshot) => RestoreDuty::Restore(snapshot),
            Self::ByHand(snapshot) if !from_record => RestoreDuty::Restore(snapshot),
            Self::Record(snapshot) if from_record => RestoreDuty::Restore(snapshot),
            Self::None | Self::ByHand(_) if from_record => RestoreDuty::NoRecord,
            Self::None | Self::ByHand(_) | Self::Record(_) => RestoreDuty::NothingOwed,
        }
    }

    /// Whether an administrator may replace it by one taken now. What runs while it is armed may be half restored.
    #[must_use]
    pub fn may_be_replaced(&self) -> bool {
        !matches!(self, Self::Armed(_))
    }
}

/// In a word or three, as in `docs/state.md`.
impl fmt::Display for SnapshotState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::ByHand(_) => "taken by hand",
            Self::Armed(_) => "armed",
            Self::Record(_) => "record",
        })
    }
}

impl StateStore {
    /// What the stored snapshot of this family means in this boot.
    pub fn snapshot_state(&self, boot: &BootId, family: &str) -> Result<SnapshotState, SnapshotError> {
        let stored = self.snapshot()?;
        match stored {
            Some(snapshot) if snapshot.boot_id == *boot && snapshot.family != family => {
                Err(SnapshotError::OtherFamily {
                    path: self.snapshot_path(),
                    found: snapshot.family,
                    asked: family.to_owned(),
                })
            }
            stored => Ok(SnapshotState::of(stored, boot)),
        }
    }

    /// When the oldest snapshot was taken that is armed in this boot, of whichever NIC family: the journal is theirs in common. One that
    /// cannot be read may be of any time.
    #[must_use]
    pub fn under_way_since(&self, boot: &BootId) -> Option<Timestamp> {
        let names = self.files().list_if_exists(self.folder()).unwrap_or_default();
        let stored = names.iter().map(|family| self.clone().of_family(family).snapshot());
        let armed = stored.filter_map(|stored| match stored {
            Ok(stored) => SnapshotState::of(stored, boot).armed().map(|snapshot| snapshot.taken_at),
            Err(_) => Some(Timestamp::MIN),
        });
        armed.min()
    }

    /// Stores an armed snapshot. Where that fails, what was stored before is stored again, so that nothing is armed.
    ///
    /// # Errors
    /// What kept the snapshot from being stored. Where what was stored before could not be put back either, that is logged.
    pub fn arm(&self, snapshot: &Snapshot) -> Result<(), WriteError> {
        let path = self.snapshot_path();
        let before = match self.files().read_bytes_up_to(&path, LONGEST_RECORD) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(WriteError { path, action: "read".to_owned(), source: error.source }),
        };
        self.write_snapshot(snapshot).inspect_err(|_| self.disarm(before.as_deref()))
    }

    /// Puts back what was stored before, where the file was replaced although its writing failed.
    fn disarm(&self, before: Option<&[u8]>) {
        let path = self.snapshot_path();
        if self.files().read_bytes_up_to(&path, LONGEST_RECORD).ok().as_deref() == before {
            return;
        }
        let undone = match before {
            Some(bytes) => self.files().write_durably(&path, bytes),
            None => self.files().remove_file(&path).map(|_| ()),
        };
        if let Err(error) = undone {
            tracing::error!(
                path = %path.display(),
                error = crate::error_chain(&error),
                "the snapshot stays armed although nothing was changed: restore-sriov will find the NICs as it says"
            );
        }
    }
}

impl Snapshot {
    /// The same snapshot, armed: a change of the NICs follows.
    #[must_use]
    pub fn arm(self) -> Self {
        let at = Timestamp::now();
        match self.stage() {
            SnapshotStage::Armed { .. } => self,
            SnapshotStage::ByHand | SnapshotStage::Record { .. } => {
                self.with_stage(SnapshotStage::Armed { at })
            }
        }
    }

    /// The same snapshot as a record: a restore from it was verified.
    #[must_use]
    pub fn verify(self) -> Self {
        self.with_stage(SnapshotStage::Record { at: Timestamp::now() })
    }
}

#[cfg(test)]
mod tests;
