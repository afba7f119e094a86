use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nic_host::{Host, TrustError, WriteError};

use super::schema::{LONGEST_RECORD, Schema};
use super::schema_2;
use super::snapshot::{READABLE, Snapshot, SnapshotError};
use super::unique_keys::UniqueKeys;

/// How many snapshots that could not be used stay.
const SNAPSHOTS_ASIDE: usize = 16;

/// The state directory.
///
/// It is named as this process sees it, also when the host is a tree elsewhere: the state is this program's own.
#[derive(Debug, Clone)]
pub struct StateStore {
    files: Host,
    folder: PathBuf,
    /// What is one NIC family's alone: two families on a node must not take each other's snapshot.
    family_folder: PathBuf,
}

impl StateStore {
    /// The store in `folder`, which is created with the first file.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self { files: Host::running(), family_folder: folder.clone(), folder }
    }

    /// The same store, with a folder of its own for what is this family's alone.
    #[must_use]
    pub fn of_family(self, family: &str) -> Self {
        Self { family_folder: self.folder.join(family), ..self }
    }

    /// Makes sure that nobody but root and this process's user may change what is stored and obeyed.
    ///
    /// # Errors
    /// The file or folder, or a folder above it, that somebody else may change.
    pub fn ensure_trusted(&self) -> Result<(), TrustError> {
        self.files.ensure_trusted(&self.folder)?;
        let backups = self.backup_folder();
        let obeyed = [
            self.family_folder.clone(),
            self.snapshot_path(),
            self.rolled_back_path(),
            self.installed_path(),
            backups.join("manifest.json"),
            backups,
        ];
        for path in obeyed.iter().filter(|path| self.files.exists(path)) {
            self.files.ensure_trusted(path)?;
        }
        Ok(())
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of what is one family's alone.
    #[must_use]
    pub fn family_folder(&self) -> &Path {
        &self.family_folder
    }

    /// The snapshot's file.
    #[must_use]
    pub fn snapshot_path(&self) -> PathBuf {
        self.family_folder.join("snapshot.json")
    }

    /// The journal's file.
    #[must_use]
    pub fn journal_path(&self) -> PathBuf {
        self.folder.join("journal.jsonl")
    }

    /// The file of the journal's older lines.
    #[must_use]
    pub fn older_journal_path(&self) -> PathBuf {
        self.folder.join("journal.1.jsonl")
    }

    /// The file that says what was installed.
    #[must_use]
    pub fn installed_path(&self) -> PathBuf {
        self.folder.join("installed.json")
    }

    /// The stored snapshot, whatever boot it is of; `None` where there is none.
    pub fn snapshot(&self) -> Result<Option<Snapshot>, SnapshotError> {
        let path = self.snapshot_path();
        let Some(text) = self.files.read_up_to_if_exists(&path, LONGEST_RECORD)? else { return Ok(None) };
        let parse_error = |source| SnapshotError::Parse { path: path.clone(), source };
        // The schema is looked at first: another version's fields would otherwise read like damage.
        let schema = Schema::of(&text).map_err(parse_error)?;
        let is_schema_2 = schema.is(2);
        if let Err(source) = schema.ensure_readable(READABLE) {
            return Err(SnapshotError::Schema { path, source });
        }
        let snapshot: Snapshot = if is_schema_2 {
            let value = serde_json::from_str(&text).map_err(parse_error)?;
            serde_path_to_error::deserialize(schema_2::to_schema_3(value))
        } else {
            // From the text and not from a value: that has forgotten which key stood there twice, and takes many times the text's memory
            // whatever it holds.
            serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(&text))
        }
        .and_then(|snapshot| keys_are_unique(&text).map(|()| snapshot))
        .map_err(|source| SnapshotError::Field { path: path.clone(), source: Box::new(source) })?;
        if let Err(contradiction) = snapshot.check() {
            return Err(SnapshotError::Contradiction { path, source: Box::new(contradiction) });
        }
        match &snapshot.checksum {
            Some(written) => {
                let value = serde_json::from_str(&text).map_err(parse_error)?;
                if *written != Snapshot::checksum_of(value) {
                    return Err(SnapshotError::Checksum { path });
                }
            }
            None => {
                tracing::warn!(
                    path = %path.display(),
                    "the snapshot has no checksum, as if edited by hand: taken as it is"
                );
            }
        }
        Ok(Some(snapshot.with_checksum(None)))
    }

    /// Stores a snapshot durably in place of the one that is there. One that could not be read again is not stored: what is owed by it
    /// could never be given back.
    ///
    /// # Errors
    /// It contradicts itself, or is longer than what is read, or cannot be written.
    pub fn write_snapshot(&self, snapshot: &Snapshot) -> Result<(), WriteError> {
        let path = self.snapshot_path();
        let snapshot = snapshot.clone().written_now();
        let value = serde_json::to_value(&snapshot).map_err(|error| not_serialised(&path, error))?;
        let checksum = Some(Snapshot::checksum_of(value));
        self.files.write_durably(&path, &readable_text(&path, &snapshot.with_checksum(checksum))?)
    }

    /// Makes sure that the state directory takes what is about to be written to it: writes `size` bytes durably, and
    /// takes them away again.
    ///
    /// # Errors
    /// What would otherwise be met half way: no space, a read-only file system, no permission.
    pub fn ensure_space(&self, size: usize) -> Result<(), WriteError> {
        let path = self.folder.join("probe");
        // No zeros: a file system that compresses, or that keeps holes, would not notice them.
        let mut word = 0x9e37_79b9_u32;
        let bytes = std::iter::repeat_with(|| {
            word ^= word << 13;
            word ^= word >> 17;
            word ^= word << 5;
            word.to_le_bytes()
        });
        let bytes: Vec<u8> = bytes.flatten().take(size).collect();
        let written = self.files.write_durably(&path, &bytes);
        let removed = self.files.remove_file(&path);
        written?;
        removed.map(|_| ())
    }

    /// How many bytes a snapshot takes on the disk.
    ///
    /// # Errors
    /// It could not be read again, and so cannot be stored.
    pub fn size_of(&self, snapshot: &Snapshot) -> Result<usize, WriteError> {
        readable_text(&self.snapshot_path(), snapshot).map(|text| text.len())
    }

    /// Moves a snapshot that cannot be used out of the way, under a name that says when. Returns that name.
    pub fn set_snapshot_aside(&self, now: Timestamp) -> Result<PathBuf, WriteError> {
        self.set_aside(&self.snapshot_path(), now, SNAPSHOTS_ASIDE)
    }

    /// Moves a file that cannot be used out of the way. Of those that were set aside before, the newest stay, `kept` with this one.
    pub(super) fn set_aside(&self, from: &Path, now: Timestamp, kept: usize) -> Result<PathBuf, WriteError> {
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        let to = from.with_file_name(format!("{name}.aside-{}", now.strftime("%Y%m%dT%H%M%S%.3fZ")));
        std::fs::rename(from, &to).map_err(|source| WriteError {
            path: from.to_path_buf(),
            action: format!("move to {} the file", to.display()),
            source,
        })?;
        self.forget_aside(from, &format!("{name}.aside-"), kept);
        Ok(to)
    }

    /// What was set aside is only for somebody to look at: that it cannot be removed is no reason for anything.
    fn forget_aside(&self, from: &Path, prefix: &str, kept: usize) {
        let Some(folder) = from.parent() else { return };
        let names = self.files.list_if_exists(folder).unwrap_or_default();
        // Sorted by name, and so by time.
        let aside: Vec<_> = names.iter().filter(|name| name.starts_with(prefix)).collect();
        for name in aside.iter().rev().skip(kept) {
            if let Err(error) = self.files.remove_file(folder.join(name)) {
                tracing::warn!(
                    error = crate::error_chain(&error),
                    "what was set aside before cannot be removed"
                );
            }
        }
    }

    pub(super) fn files(&self) -> &Host {
        &self.files
    }

    pub(super) fn append(&self, path: &Path, line: &[u8]) -> Result<(), WriteError> {
        self.files.append_durably(path, line)
    }

    pub(super) fn put<T: serde::Serialize>(&self, path: &Path, value: &T) -> Result<(), WriteError> {
        self.files.write_durably(path, &text_of(path, value)?)
    }
}

fn text_of<T: serde::Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, WriteError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| not_serialised(path, error))?;
    text.push(b'\n');
    Ok(text)
}

/// Makes sure that no object of the text has a key twice.
pub(super) fn keys_are_unique(text: &str) -> Result<(), serde_path_to_error::Error<serde_json::Error>> {
    let read: Result<UniqueKeys, _> =
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text));
    read.map(|UniqueKeys| ())
}

/// A snapshot's text, of which [`StateStore::snapshot`] asks no more than this.
fn readable_text(path: &Path, snapshot: &Snapshot) -> Result<Vec<u8>, WriteError> {
    let text = text_of(path, snapshot)?;
    let checked = snapshot.check().map_err(io::Error::other).and_then(|()| {
        if u64::try_from(text.len()).is_ok_and(|length| length <= LONGEST_RECORD) {
            return Ok(());
        }
        let told = format!("{} bytes are more than the {LONGEST_RECORD} that are read of it", text.len());
        Err(io::Error::new(io::ErrorKind::FileTooLarge, told))
    });
    match checked {
        Ok(()) => Ok(text),
        Err(source) => Err(WriteError {
            path: path.to_owned(),
            action: "write what cannot be read again to".to_owned(),
            source,
        }),
    }
}

fn not_serialised(path: &Path, error: serde_json::Error) -> WriteError {
    WriteError {
        path: path.to_owned(),
        action: "serialise what is to be written to".to_owned(),
        source: error.into(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use nic_host::BootId;
    use nic_sriov::NicState;

    use super::*;
    use crate::state::Observed;

    pub(in crate::state) fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::by_hand(Observed {
            settings: super::super::SavedSettings::default(),
            boot_id: BootId("boot-1".into()),
            kernel: "6.12.1".parse().unwrap(),
            family: "igb".into(),
            modules: vec!["igb".parse().unwrap()],
            lost: Vec::new(),
            parameters: crate::state::ModuleParameters::from([(
                "igb".parse().unwrap(),
                [("max_vfs".to_owned(), "7".to_owned())].into(),
            )]),
            nics: NicState::default(),
            network: nic_topology::NetworkState::default(),
        });
        snapshot.taken_at = "2026-01-02T03:04:05Z".parse().unwrap();
        snapshot
    }

    fn json(value: &impl serde::Serialize) -> serde_json::Value {
        serde_json::to_value(value).unwrap()
    }

    #[test]
    fn a_snapshot_is_read_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path().join("state"));
        assert!(store.snapshot().unwrap().is_none());
        store.write_snapshot(&snapshot()).unwrap();
        assert_eq!(json(&store.snapshot().unwrap()), json(&Some(snapshot())));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path());
        store.write_snapshot(&snapshot()).unwrap();
        let boot = BootId("boot-1".into());
        let other_family = store.snapshot_state(&boot, "mlx5").unwrap_err();
        assert!(matches!(other_family, SnapshotError::OtherFamily { .. }), "{other_family}");

        let whole = std::fs::read_to_string(store.snapshot_path()).unwrap();
        std::fs::write(store.snapshot_path(), whole.replace("\"schema\": 4", "\"schema\": 9")).unwrap();
        let error = crate::error_chain(&store.snapshot().unwrap_err());
        let writer = format!(
            "schema 9 is too new for nic-driver {}, which reads schemas 2 to 4",
            env!("CARGO_PKG_VERSION")
        );
        assert!(error.contains(&writer), "{error}");
        std::fs::write(store.snapshot_path(), &whole[..whole.len() / 2]).unwrap();
        let truncated = store.snapshot().unwrap_err();
        assert!(truncated.to_string().contains("snapshot.json"), "{truncated}");

        let aside = store.set_snapshot_aside("2026-01-02T03:04:05Z".parse().unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(aside).unwrap(), whole[..whole.len() / 2]);
        assert!(store.snapshot().unwrap().is_none());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path());
        store.write_snapshot(&snapshot()).unwrap();
        let whole = std::fs::read(store.snapshot_path()).unwrap();
        let read = |bytes: &[u8]| {
            std::fs::write(store.snapshot_path(), bytes).unwrap();
            store.snapshot()
        };
        for byte in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[byte] ^= 1 << bit;
                // What JSON does not distinguish, such as another kind of white space, is no damage.
                match read(&flipped) {
                    Err(_) => {}
                    Ok(Some(read)) => assert_eq!(json(&read), json(&snapshot()), "bit {bit} of byte {byte}"),
                    Ok(None) => panic!("bit {bit} of byte {byte} makes the snapshot disappear"),
                }
            }
        }
        for length in 0..whole.len() - 1 {
            assert!(read(&whole[..length]).is_err(), "cut to {length} bytes");
        }
        assert_eq!(json(&read(&whole).unwrap()), json(&Some(snapshot())));
    }

    #[test]
    fn trial_w12_what_cannot_be_read_again_is_not_stored() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path());
        store.write_snapshot(&snapshot()).unwrap();
        let mut contradicting = snapshot();
        contradicting.nics = serde_json::from_value(serde_json::json!({ "pfs": [{
            "address": "0000:01:00.0", "pci_id": null, "driver": "igb", "total_vfs": 7, "num_vfs": 8,
            "drivers_autoprobe": true, "eswitch": "not_there", "netdev": "not_there", "rdma": "not_there", "vfs": [],
            "representors": [],
        }] }))
        .unwrap();
        let error = store.write_snapshot(&contradicting).unwrap_err();
        assert!(crate::error_chain(&error).contains("num_vfs: 8 are more than the 7"), "{error:?}");
        // It is known before anything is changed, and arming it leaves what was there.
        store.size_of(&contradicting).unwrap_err();
        store.arm(&contradicting.arm()).unwrap_err();
        let mut long = snapshot();
        long.family = "m".repeat(usize::try_from(LONGEST_RECORD).unwrap());
        store.write_snapshot(&long).unwrap_err();
        assert_eq!(json(&store.snapshot().unwrap()), json(&Some(snapshot())));
    }

    #[test]
    fn trial_w4_a_state_file_without_measure_takes_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path());
        for path in [store.snapshot_path(), store.installed_path()] {
            std::fs::File::create(path).unwrap().set_len(LONGEST_RECORD + 1).unwrap();
        }
        let told = [
            crate::error_chain(&store.snapshot().unwrap_err()),
            crate::error_chain(&store.installed().unwrap_err()),
        ];
        assert!(told.iter().all(|told| told.contains("longer than the ")), "{told:?}");
    }

    #[test]
    fn a_snapshot_edited_by_hand_has_no_checksum() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path());
        store.write_snapshot(&snapshot()).unwrap();
        let whole = std::fs::read_to_string(store.snapshot_path()).unwrap();
        let edited = whole.replace("\"igb\"", "\"mine\"");
        std::fs::write(store.snapshot_path(), &edited).unwrap();
        let error = store.snapshot().unwrap_err();
        assert!(matches!(error, SnapshotError::Checksum { .. }), "{error}");
        let lines: Vec<&str> = edited.lines().filter(|line| !line.contains("\"checksum\"")).collect();
        std::fs::write(store.snapshot_path(), lines.join("\n")).unwrap();
        assert_eq!(store.snapshot().unwrap().unwrap().family, "mine");
    }

    #[test]
    fn a_state_directory_that_takes_nothing_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path().join("state"));
        store.ensure_space(1 << 18).unwrap();
        assert_eq!(std::fs::read_dir(store.folder()).unwrap().count(), 0, "nothing is left of the probe");
        // Below a file there can be no folder, whoever asks.
        std::fs::write(folder.path().join("file"), "").unwrap();
        let error = StateStore::new(folder.path().join("file/state")).ensure_space(1).unwrap_err();
        assert_eq!(error.errno(), Some(rustix::io::Errno::NOTDIR), "{error}");
    }

    /// A small tmpfs, gone with the value; `None` without the right to mount one.
    struct SmallDisk(tempfile::TempDir);

    impl SmallDisk {
        fn mount(read_only: bool) -> Option<Self> {
            let folder = tempfile::tempdir().unwrap();
            let flags = if read_only {
                rustix::mount::MountFlags::RDONLY
            } else {
                rustix::mount::MountFlags::empty()
            };
            let mounted = rustix::mount::mount("tmpfs", folder.path(), "tmpfs", flags, c"size=64k");
            if let Err(error) = mounted {
                // Where this must be tested, being unable to is a failure.
                assert!(std::env::var_os("CI").is_none(), "cannot mount a tmpfs: {error}");
                skipped(error);
                return None;
            }
            Some(Self(folder))
        }
    }

    fn skipped(error: rustix::io::Errno) {
        use std::io::Write as _;
        writeln!(io::stderr(), "SKIPPED: cannot mount a tmpfs: {error}").unwrap();
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
        }
    }

    #[test]
    fn a_full_and_a_read_only_state_directory_are_found_out() {
        use rustix::io::Errno;
        let Some(disk) = SmallDisk::mount(false) else { return };
        let store = StateStore::new(disk.0.path());
        store.ensure_space(16 << 10).unwrap();
        assert_eq!(store.ensure_space(256 << 10).unwrap_err().errno(), Some(Errno::NOSPC));
        assert_eq!(
            std::fs::read_dir(store.folder()).unwrap().count(),
            0,
            "a failed probe leaves nothing either"
        );
        store.write_snapshot(&snapshot()).unwrap();
        drop(disk);
        let Some(disk) = SmallDisk::mount(true) else { return };
        assert_eq!(StateStore::new(disk.0.path()).ensure_space(1).unwrap_err().errno(), Some(Errno::ROFS));
    }
}
