//! The journal's two files: the one that is appended to, and the one before it. What they hold is bounded, and a night that is under way
//! is in them from its beginning.

use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use nic_host::{ReadError, WriteError, open_own};

use super::journal::{Journal, JournalError};
use super::journal_line::{self, JournalEvent};
use super::store::StateStore;

/// The longest journal that is read, in bytes: many nights. It is read as a whole by every command that changes something, and one that
/// is longer is set aside.
const LONGEST_JOURNAL: u64 = 16 << 20;

/// From which length on, in bytes, a command begins a new journal and keeps this one as the older.
const ROTATED_FROM: u64 = 8 << 20;

/// How many journals that were set aside stay.
const JOURNALS_ASIDE: usize = 3;

/// A night begins before its snapshot is taken: with the end of the container before, or with a build.
const BEFORE_THE_SNAPSHOT: SignedDuration = SignedDuration::from_hours(4);

impl Journal {
    /// Makes the journal one that can be appended to: a last line that a crash has cut off is taken away, and a
    /// journal that is damaged elsewhere, or too long to be read, is set aside as a whole. Returns where it is then.
    ///
    /// One that is long becomes the older one, in place of the one before, which is forgotten; but not as long as that holds the beginning
    /// of a night that is under way. `under_way` tells since when the oldest of these is: when its armed snapshot was taken.
    ///
    /// # Errors
    /// It cannot be read, cut or moved. It is as it was then.
    pub fn repair(
        store: &StateStore,
        under_way: impl FnOnce() -> Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Option<PathBuf>, WriteError> {
        let path = store.journal_path();
        let failed = |source| WriteError { path: path.clone(), action: "repair".to_owned(), source };
        let bytes = match store.files().read_bytes_up_to(&path, LONGEST_JOURNAL) {
            Ok(bytes) => bytes,
            Err(error) => match error.source.kind() {
                io::ErrorKind::NotFound => return Ok(None),
                io::ErrorKind::FileTooLarge => return store.set_aside(&path, now, JOURNALS_ASIDE).map(Some),
                _ => return Err(failed(error.source)),
            },
        };
        if events(&path, &bytes).any(|event| event.is_err()) {
            return store.set_aside(&path, now, JOURNALS_ASIDE).map(Some);
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let length = u64::try_from(whole).unwrap_or(u64::MAX);
        if whole < bytes.len() {
            let file = open_own(&path, std::fs::OpenOptions::new().write(true)).map_err(failed)?;
            file.set_len(length).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        if length >= ROTATED_FROM && may_forget_older(store, under_way()) {
            let older = store.older_journal_path();
            std::fs::rename(&path, &older).map_err(failed)?;
            tracing::info!(older = %older.display(), "the journal is long: a new one is begun");
        }
        Ok(None)
    }

    /// The journal's events, those of the older file first. A last line that a crash has cut off is passed over; any other damage is an
    /// error. Of the older file, what follows a damage is passed over: no command mends that one.
    ///
    /// # Errors
    /// A file cannot be read, or is too long, or a line of the newer one is damaged.
    pub fn read(store: &StateStore) -> Result<Vec<JournalEvent>, JournalError> {
        let mut read = Vec::new();
        let older = store.older_journal_path();
        for event in events(&older, &bytes(store, &older)?) {
            match event {
                Ok(event) => read.push(event),
                Err(error) => {
                    let error = crate::error_chain(&error);
                    tracing::warn!(error, "the older journal is damaged: its other lines are passed over");
                    break;
                }
            }
        }
        let path = store.journal_path();
        for event in events(&path, &bytes(store, &path)?) {
            read.push(event?);
        }
        Ok(read)
    }
}

/// Whether nothing of a night that is under way is in the older file, by when that was last written to.
fn may_forget_older(store: &StateStore, under_way: Option<Timestamp>) -> bool {
    let Some(snapshot) = under_way else { return true };
    let began = snapshot.checked_sub(BEFORE_THE_SNAPSHOT).unwrap_or(Timestamp::MIN);
    match store.older_journal_path().symlink_metadata().and_then(|found| found.modified()) {
        Ok(written) => Timestamp::try_from(written).is_ok_and(|written| written < began),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn bytes(store: &StateStore, path: &Path) -> Result<Vec<u8>, ReadError> {
    match store.files().read_bytes_up_to(path, LONGEST_JOURNAL) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// The events of a text, in order. Goes by bytes: a line may be cut off within a character.
fn events(path: &Path, bytes: &[u8]) -> impl Iterator<Item = Result<JournalEvent, JournalError>> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
    lines.filter_map(move |(number, line)| match journal_line::parse(line) {
        Ok(event) => Some(Ok(event)),
        Err(error) if !line.ends_with(b"\n") => {
            tracing::warn!(
                path = %path.display(),
                %error,
                "the journal's last line was cut off; passed over"
            );
            None
        }
        Err(source) => Some(Err(JournalError::Parse { path: path.to_path_buf(), line: number + 1, source })),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use nic_host::BootId;

    use super::*;
    use crate::state::step::Phase;

    /// A store whose journal is longer than what is rotated, one line of which tells `name`.
    fn long(store: &StateStore, name: &str) {
        let journal = Journal::open(store, &BootId(name.to_owned()));
        drop(journal.phase(Phase::Reload));
        let path = store.journal_path();
        let line = fs::read(&path).unwrap();
        let line = line.split_inclusive(|byte| *byte == b'\n').next_back().unwrap();
        let lines = usize::try_from(ROTATED_FROM).unwrap() / line.len() + 1;
        fs::write(&path, line.repeat(lines)).unwrap();
    }

    fn boots(store: &StateStore) -> Vec<String> {
        let mut boots: Vec<_> =
            Journal::read(store).unwrap().into_iter().map(|event| event.boot_id.0).collect();
        boots.dedup();
        boots
    }

    fn repair(store: &StateStore, under_way: Option<Timestamp>) {
        assert_eq!(Journal::repair(store, || under_way, Timestamp::now()).unwrap(), None);
    }

    fn store() -> (tempfile::TempDir, StateStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path());
        (folder, store)
    }

    #[test]
    fn trial_w4_a_long_journal_becomes_the_older_one_and_both_are_read() {
        let (_folder, store) = store();
        for name in ["first", "second", "third"] {
            long(&store, name);
            repair(&store, None);
            assert!(!store.journal_path().exists());
        }
        drop(Journal::open(&store, &BootId("now".into())).phase(Phase::Run));
        repair(&store, None);
        assert_eq!(boots(&store), ["third", "now"]);
        assert!(store.older_journal_path().metadata().unwrap().len() < LONGEST_JOURNAL);
    }

    #[test]
    fn trial_w4_the_beginning_of_a_night_that_is_under_way_is_not_forgotten() {
        let (_folder, store) = store();
        let snapshot = Some(Timestamp::now());
        // What was before the night goes.
        long(&store, "days before");
        repair(&store, snapshot);
        let days = SystemTime::now() - Duration::from_hours(48);
        File::options().write(true).open(store.older_journal_path()).unwrap().set_modified(days).unwrap();
        long(&store, "the night's beginning");
        repair(&store, snapshot);
        assert_eq!(boots(&store), ["the night's beginning"]);
        // Its beginning stays, and what comes then is appended to.
        long(&store, "later");
        repair(&store, snapshot);
        assert_eq!(boots(&store), ["the night's beginning", "later"]);
        assert!(store.journal_path().exists());
        // One of which nothing can be told may have begun at any time.
        repair(&store, Some(Timestamp::MIN));
        assert_eq!(boots(&store), ["the night's beginning", "later"]);
        // When it is over they go on.
        repair(&store, None);
        assert_eq!(boots(&store), ["later"]);
    }

    #[test]
    fn trial_w4_few_journals_that_were_set_aside_stay() {
        let (folder, store) = store();
        let mut aside = Vec::new();
        for second in 0..6 {
            fs::write(store.journal_path(), format!("nonsense {second}\n")).unwrap();
            let now = Timestamp::from_second(1_700_000_000 + second).unwrap();
            aside.extend(Journal::repair(&store, || None, now).unwrap());
        }
        let mut there: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        there.sort();
        assert_eq!(there, aside[3..]);
    }

    #[test]
    fn trial_w4_a_damaged_older_journal_hides_nothing_of_the_newer() {
        let (_folder, store) = store();
        drop(Journal::open(&store, &BootId("now".into())).phase(Phase::Run));
        fs::write(store.older_journal_path(), "nonsense\n").unwrap();
        assert_eq!(boots(&store), ["now"]);
    }
}
