//! The sidecar's sign of life, with what it is doing: a small file that is written over and over.
//!
//! It is written in place into one block that is allocated at the start, so that a full disk does not look like a dead
//! sidecar. What proves life is a number that changes, and the reader's own monotonic clock: the times of files would
//! follow a clock that is set.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::beneath::{Folder, FolderError, absent_is_none};
use crate::request::{AttemptId, SCHEMA, Schema};
use crate::shared_folder::STATUS_FILE;
use crate::text::printable;

/// The size of the file: a block of any file system.
const BLOCK: usize = 4096;
/// Characters of the last line, so that all of it fits into the block whatever they are.
const LONGEST_LINE: usize = 250;

/// What the sidecar is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SidecarState {
    /// Waits for a start flag.
    Waiting,
    /// Compares the sources with what was asked for.
    Checking,
    /// Installs what the build needs, or builds.
    Building,
    /// The packages are built.
    Built,
    /// The build failed.
    Failed,
    /// Was told to stop, and has.
    Stopped,
}

/// How far a build is, as far as the one who builds tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildProgress {
    /// Packages that are built.
    pub packages_done: u32,
    /// Packages that there will be, where that is known.
    pub packages_known: Option<u32>,
    /// The last line of the build's output.
    pub last_line: String,
}

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) schema: Schema,
    /// The process that writes it.
    pub(crate) instance: AttemptId,
    /// One more each time it is written.
    pub(crate) beat: u64,
    pub(crate) state: SidecarState,
    /// The attempt that the state is about.
    pub(crate) attempt: Option<AttemptId>,
    pub(crate) progress: BuildProgress,
}

/// Writes the file.
#[derive(Debug)]
pub(crate) struct StatusWriter {
    file: File,
    status: Status,
}

impl StatusWriter {
    /// Opens or creates the file in `own`, this crate's folder.
    pub(crate) fn open(own: &Folder, instance: AttemptId) -> Result<Self, FolderError> {
        let status = Status {
            schema: SCHEMA,
            instance,
            beat: 0,
            state: SidecarState::Waiting,
            attempt: None,
            progress: BuildProgress::default(),
        };
        let mut writer = Self { file: own.open_in_place(STATUS_FILE)?, status };
        writer.write(own)?;
        Ok(writer)
    }

    /// Says that something else is done from now on.
    pub(crate) fn enter(
        &mut self,
        own: &Folder,
        state: SidecarState,
        attempt: Option<&AttemptId>,
        progress: &BuildProgress,
    ) -> Result<(), FolderError> {
        self.status.state = state;
        self.status.attempt = attempt.cloned();
        self.beat(own, Some(progress))
    }

    /// A sign of life, with how far it is where that has changed.
    pub(crate) fn beat(&mut self, own: &Folder, progress: Option<&BuildProgress>) -> Result<(), FolderError> {
        if let Some(progress) = progress {
            let last_line = printable(&progress.last_line, LONGEST_LINE);
            self.status.progress = BuildProgress { last_line, ..progress.clone() };
        }
        self.write(own)
    }

    fn write(&mut self, own: &Folder) -> Result<(), FolderError> {
        let failed = |source| FolderError::Io { action: "write", path: own.path().join(STATUS_FILE), source };
        // Somebody may have removed the file, or the whole folder: then nobody reads this one any more.
        if self.file.metadata().map_err(failed)?.nlink() == 0 {
            self.file = own.open_in_place(STATUS_FILE)?;
        }
        self.status.beat += 1;
        let mut block = serde_json::to_vec(&self.status).map_err(|source| failed(source.into()))?;
        block.resize(BLOCK, b' ');
        self.file.write_all_at(&block, 0).map_err(failed)
    }
}

/// What the file says, or `None` where there is none, or where it is just being written.
pub(crate) fn read(own: &Folder) -> Result<Option<Status>, FolderError> {
    let limit = u64::try_from(BLOCK).unwrap_or(u64::MAX);
    let content = absent_is_none(own.read(STATUS_FILE, limit))?;
    // A write in place may be seen half way. A file that stays so shows no life, which is what is said then.
    let status = content.and_then(|content| serde_json::from_slice::<Status>(&content).ok());
    Ok(status.map(|mut status| {
        status.progress.last_line = printable(&status.progress.last_line, LONGEST_LINE);
        status
    }))
}

/// Whether the sidecar lives, as seen from the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignOfLife {
    /// None was ever seen changing. The incumbent's sidecar gives none.
    Never,
    /// Its number has changed lately.
    Alive,
    /// Its number has not changed for this long.
    Silent(Duration),
}

/// Watches the number.
#[derive(Debug)]
pub(crate) struct Pulse {
    silent_after: Duration,
    last: Option<(AttemptId, u64)>,
    /// When it was first seen as it is now.
    since: Option<Instant>,
    has_changed: bool,
}

impl Pulse {
    pub(crate) fn new(silent_after: Duration) -> Self {
        Self { silent_after, last: None, since: None, has_changed: false }
    }

    /// What follows from the file as it is at `now`, on the monotonic clock.
    pub(crate) fn feel(&mut self, status: Option<&Status>, now: Instant) -> SignOfLife {
        if let Some(status) = status {
            let found = (status.instance.clone(), status.beat);
            if self.last.as_ref() != Some(&found) {
                // The first that is seen may have been left behind long ago.
                self.has_changed |= self.last.is_some();
                self.last = Some(found);
                self.since = Some(now);
            }
        }
        let Some(since) = self.since else { return SignOfLife::Never };
        let silence = now.saturating_duration_since(since);
        match (silence >= self.silent_after, self.has_changed) {
            (true, _) => SignOfLife::Silent(silence),
            (false, true) => SignOfLife::Alive,
            (false, false) => SignOfLife::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use nic_host::Host;

    use super::*;

    fn status(instance: &AttemptId, beat: u64) -> Status {
        Status {
            schema: SCHEMA,
            instance: instance.clone(),
            beat,
            state: SidecarState::Building,
            attempt: None,
            progress: BuildProgress::default(),
        }
    }

    #[test]
    fn life_is_a_number_that_changes() {
        let (one, other) = (AttemptId::new().unwrap(), AttemptId::new().unwrap());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = Pulse::new(Duration::from_secs(10));
        assert_eq!(pulse.feel(None, at(0)), SignOfLife::Never);
        // Left behind, or alive? That shows later.
        assert_eq!(pulse.feel(Some(&status(&one, 70)), at(1)), SignOfLife::Never);
        assert_eq!(pulse.feel(Some(&status(&one, 70)), at(5)), SignOfLife::Never);
        assert_eq!(pulse.feel(Some(&status(&one, 71)), at(6)), SignOfLife::Alive);
        assert_eq!(pulse.feel(None, at(7)), SignOfLife::Alive);
        assert_eq!(pulse.feel(Some(&status(&one, 71)), at(15)), SignOfLife::Alive);
        let ten = Duration::from_secs(10);
        assert_eq!(pulse.feel(Some(&status(&one, 71)), at(16)), SignOfLife::Silent(ten));
        // Started anew, its number is smaller.
        assert_eq!(pulse.feel(Some(&status(&other, 1)), at(40)), SignOfLife::Alive);
        // And the same number of another process is a change, too.
        assert_eq!(pulse.feel(Some(&status(&one, 1)), at(60)), SignOfLife::Alive);
    }

    #[test]
    fn the_file_keeps_its_size_and_comes_back_when_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let own = Folder::open(&Host::running(), dir.path()).unwrap();
        let mut writer = StatusWriter::open(&own, AttemptId::new().unwrap()).unwrap();
        let path = dir.path().join(STATUS_FILE);
        let progress = BuildProgress {
            packages_done: u32::MAX,
            packages_known: Some(u32::MAX),
            last_line: "\u{1f9ea}\"\\\u{1b}".repeat(500),
        };
        let attempt = AttemptId::new().unwrap();
        writer.enter(&own, SidecarState::Building, Some(&attempt), &BuildProgress::default()).unwrap();
        writer.beat(&own, Some(&progress)).unwrap();
        assert_eq!(path.metadata().unwrap().len(), 4096);
        let found = read(&own).unwrap().unwrap();
        assert_eq!((found.beat, found.state), (3, SidecarState::Building));
        assert!(found.progress.last_line.starts_with("\u{1f9ea}\"\\\u{fffd}"));
        std::fs::remove_file(&path).unwrap();
        writer.beat(&own, None).unwrap();
        let found = read(&own).unwrap().unwrap();
        assert_eq!((found.beat, found.progress.packages_done), (4, u32::MAX));
        // Half written.
        std::fs::write(&path, "{\"schema\":1,").unwrap();
        assert_eq!(read(&own).unwrap(), None);
    }
}
