//! State folders as versions of this program have left them, and as a later one may: `fixtures/state`.

use std::path::Path;

use nic_host::BootId;

use super::schema_error::VERSION;
use super::*;

/// A copy of a recorded folder: a recorded one stays as it is.
fn recorded(name: &str) -> (tempfile::TempDir, StateStore) {
    let folder = tempfile::tempdir().unwrap();
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/state").join(name);
    copy(&recorded, folder.path());
    let store = StateStore::new(folder.path()).of_family("mlx5");
    (folder, store)
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn the_night_that_an_earlier_version_has_begun_is_gone_on_with() {
    let boot = BootId("boot-1".into());
    for (name, writer) in [("schema-3", None), ("schema-4", Some("0.1.0"))] {
        let (_folder, store) = recorded(name);
        let snapshot = store.snapshot_state(&boot, "mlx5").unwrap().armed().unwrap();
        assert_eq!(snapshot.modules.len(), 4, "{name}");
        let rolled_back = store.rolled_back().unwrap().unwrap();
        assert!(rolled_back.is_of(&snapshot) && rolled_back.asked_for, "{name}");
        assert_eq!(rolled_back.writer.as_deref(), writer, "{name}");
        let backups = store.module_backups(&boot).unwrap().unwrap();
        assert_eq!((backups.modules.len(), backups.writer.as_deref()), (4, writer), "{name}");
        assert_eq!(store.installed().unwrap().unwrap().packages.len(), 1, "{name}");
        let events = Journal::read(&store).unwrap();
        assert_eq!(events.len(), 89, "{name}");
        assert!(events.iter().all(|event| event.origin.writer.as_deref() == writer), "{name}");
        assert!(!events.iter().any(|event| matches!(event.entry, Entry::Unknown(_))), "{name}");
        // Two runs, numbered each from 1.
        let firsts = events.iter().filter(|event| event.origin.seq == Some(1)).count();
        assert_eq!(firsts, if writer.is_some() { 3 } else { 0 }, "{name}");

        // What is written next is of this version, and so is what is stored again.
        Journal::open(&store, &boot).phase(Phase::Reload).end("done", crate::Exit::Success);
        let last = Journal::read(&store).unwrap().pop().unwrap();
        assert_eq!((last.origin.writer.as_deref(), last.origin.seq), (Some(VERSION), Some(2)));
        store.write_snapshot(&snapshot).unwrap();
        let text = std::fs::read_to_string(store.snapshot_path()).unwrap();
        assert!(
            text.contains("\"schema\": 4") && text.contains(&format!("\"writer\": \"{VERSION}\"")),
            "{text}"
        );
    }
}

#[test]
fn what_came_before_that_is_read_or_is_too_old_by_name() {
    let (_folder, store) = recorded("schema-2");
    let boot = BootId("0c2f7a1e-6b5d-4f3a-9e8c-d1b2a3948576".into());
    assert_eq!(store.snapshot().unwrap().unwrap().nics.vf_count(), 50);
    assert!(store.rolled_back().unwrap().unwrap().asked_for);
    assert_eq!(store.module_backups(&boot).unwrap().unwrap().modules.len(), 1);
    assert_eq!(Journal::read(&store).unwrap().len(), 242);

    let (_folder, store) = recorded("schema-1");
    let error = store.snapshot().unwrap_err();
    let is_too_old = |source: &SchemaError| matches!(source, SchemaError::TooOld { found: 1, .. });
    assert!(matches!(&error, SnapshotError::Schema { source, .. } if is_too_old(source)), "{error}");
}

#[test]
fn what_a_later_version_has_left_is_too_new_and_names_it_and_its_journal_is_kept() {
    let (_folder, store) = recorded("later");
    let boot = BootId("boot-1".into());
    let told = [
        crate::error_chain(&store.snapshot().unwrap_err()),
        crate::error_chain(&store.rolled_back().unwrap_err()),
        crate::error_chain(&store.module_backups(&boot).unwrap_err()),
        crate::error_chain(&store.installed().unwrap_err()),
    ];
    for told in told {
        assert!(
            told.contains("schema 9 is too new for nic-driver") && told.contains("\"3.2.1\" wrote it"),
            "{told}"
        );
    }
    let before = std::fs::read(store.journal_path()).unwrap();
    assert_eq!(Journal::repair(&store, || None, jiff::Timestamp::now()).unwrap(), None);
    assert_eq!(std::fs::read(store.journal_path()).unwrap(), before);
    let events = Journal::read(&store).unwrap();
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| match &event.entry {
            Entry::PhaseBegan { .. } => "phase_began",
            Entry::PhaseEnded { .. } => "phase_ended",
            Entry::Unknown(unknown) => &unknown.kind,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["phase_began", "firmware_flashed", "restore", "phase_ended"]);
    let Entry::Unknown(unknown) = &events[1].entry else { panic!() };
    assert_eq!(unknown.fields["version"]["after"], "28.40");
}
