use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;

use serde::{Deserialize, Serialize};

use super::*;
use crate::report::Report;
use crate::state::step::tests::examples;
use crate::state::{ModuleCheckpoint, Moment, Named};

fn journal() -> (tempfile::TempDir, StateStore, Journal) {
    let folder = tempfile::tempdir().unwrap();
    let store = StateStore::new(folder.path());
    let journal = Journal::open(&store, &BootId("boot".into()));
    (folder, store, journal)
}

#[test]
fn phases_and_steps_are_read_back_in_order() {
    let (_folder, store, journal) = journal();
    let phase = journal.phase(Phase::Reload);
    phase.step(Step::Unload { module: "igb".parse().unwrap() }).ok(None);
    phase.step(Step::Load { module: "igb".parse().unwrap() }).failed(&io::Error::other("no such module"));
    phase.end("degraded", crate::Exit::Degraded);
    let entries: Vec<Entry> = Journal::read(&store).unwrap().into_iter().map(|event| event.entry).collect();
    assert_eq!(entries.len(), 6);
    assert_eq!(entries[0], Entry::PhaseBegan { phase: Phase::Reload.into(), node: None });
    let begins: Vec<bool> = entries.iter().map(Entry::begins_any_step).collect();
    assert_eq!(begins, [false, true, false, true, false, false]);
    let load = Step::Load { module: "igb".parse().unwrap() };
    assert_eq!(entries.iter().position(|entry| entry.begins(|step| *step == load)), Some(3));
    assert!(
        matches!(&entries[4], Entry::StepEnded { outcome: StepOutcome::Failed, detail: Some(detail), .. }
        if detail == "no such module")
    );
    assert!(matches!(&entries[5], Entry::PhaseEnded { exit: 5, .. }));
}

#[test]
fn trial_w7_a_byte_that_is_not_utf_8_is_damage_of_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let store = StateStore::new(folder.path());
    std::fs::write(store.journal_path(), b"\xff\n").unwrap();
    let error = Journal::read(&store).unwrap_err();
    assert!(matches!(error, JournalError::Parse { line: 1, .. }), "{error}");
    let aside = Journal::repair(&store, || None, Timestamp::now()).unwrap().unwrap();
    assert_eq!(std::fs::read(aside).unwrap(), b"\xff\n");
    // Cut off within a character.
    std::fs::write(store.journal_path(), b"{\"phase\":\"\xc3").unwrap();
    assert_eq!(Journal::read(&store).unwrap(), []);
    assert_eq!(Journal::repair(&store, || None, Timestamp::now()).unwrap(), None);
    assert_eq!(std::fs::read(store.journal_path()).unwrap(), b"");
}

#[test]
fn a_torn_last_line_is_passed_over_and_other_damage_is_not() {
    let (_folder, store, journal) = journal();
    drop(journal.phase(Phase::Reload));
    drop(journal.phase(Phase::Terminate));
    let whole = std::fs::read_to_string(store.journal_path()).unwrap();
    std::fs::write(store.journal_path(), &whole[..whole.len() - 9]).unwrap();
    assert_eq!(Journal::read(&store).unwrap().len(), 1);
    std::fs::write(store.journal_path(), format!("{{}}\n{whole}")).unwrap();
    assert!(matches!(Journal::read(&store), Err(JournalError::Parse { line: 1, .. })));
}

#[test]
fn a_journal_that_a_crash_has_cut_off_is_gone_on_with() {
    let (_folder, store, journal) = journal();
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    assert_eq!(Journal::repair(&store, || None, now).unwrap(), None);
    drop(journal.phase(Phase::Reload));
    let whole = std::fs::read_to_string(store.journal_path()).unwrap();
    std::fs::write(store.journal_path(), format!("{whole}{}", &whole[..20])).unwrap();
    assert_eq!(Journal::repair(&store, || None, now).unwrap(), None);
    drop(journal.phase(Phase::Terminate));
    assert_eq!(Journal::read(&store).unwrap().len(), 2);

    std::fs::write(store.journal_path(), format!("nonsense\n{whole}")).unwrap();
    let aside = Journal::repair(&store, || None, now).unwrap().unwrap();
    assert!(std::fs::read_to_string(aside).unwrap().starts_with("nonsense"));
    assert_eq!(Journal::read(&store).unwrap(), []);
}

/// One line of each step and its end, and one of what only another version knows.
fn all_entries() -> Vec<Entry> {
    let told: Named<Step> = Named::Told("teleport igb".into());
    let steps = examples().into_iter().map(Named::Known).chain([told]);
    let entries = steps.flat_map(|step| {
        let phase = Phase::RestoreSriov.into();
        let detail = Some("2 PFs".to_owned());
        let (began, outcome) = (step.clone(), StepOutcome::Failed);
        [
            Entry::StepBegan { phase: Named::Told("levitate".into()), step: began },
            Entry::StepEnded { phase, step, outcome, detail, blockers: Vec::new(), took_ms: u64::MAX },
        ]
    });
    let module = "igb".parse().unwrap();
    let module = ModuleCheckpoint { module, loaded: false, version: None, srcversion: None, build_id: None };
    let others = [
        Entry::PhaseBegan { phase: Named::Told("levitate".into()), node: None },
        Entry::PhaseEnded { phase: Phase::Run.into(), outcome: "done".into(), exit: 7 },
        Entry::Checkpoint { label: Moment::AfterReload.into(), modules: vec![module], nics: Vec::new() },
        Entry::Checkpoint { label: Named::Told("meanwhile".into()), modules: Vec::new(), nics: Vec::new() },
    ];
    entries.chain(others).collect()
}

#[test]
fn whatever_is_written_is_read_back() {
    let (_folder, store, journal) = journal();
    let mut entries = all_entries();
    // A kind that the version before does not know.
    entries.push(Entry::SettingsResult { result: Box::default() });
    entries.iter().for_each(|entry| journal.write(entry.clone()));
    let read: Vec<Entry> = Journal::read(&store).unwrap().into_iter().map(|event| event.entry).collect();
    assert_eq!(read, entries);
}

#[test]
fn an_earlier_version_reads_what_is_written_now() {
    /// What it reads of a line, and would write.
    #[derive(Debug, Serialize, Deserialize)]
    struct Event {
        #[serde(flatten)]
        entry: Earlier,
    }
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "kind", rename_all = "snake_case")]
    enum Earlier {
        PhaseBegan {
            phase: String,
        },
        PhaseEnded {
            phase: String,
            outcome: String,
            exit: u8,
        },
        StepBegan {
            phase: String,
            step: String,
        },
        StepEnded {
            phase: String,
            step: String,
            outcome: StepOutcome,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            detail: Option<String>,
            took_ms: u64,
        },
        Checkpoint {
            label: String,
            modules: Vec<serde_json::Value>,
        },
    }
    let (_folder, store, journal) = journal();
    all_entries().into_iter().for_each(|entry| journal.write(entry));
    let text = std::fs::read_to_string(store.journal_path()).unwrap();
    for line in text.lines() {
        let event: Event = serde_json::from_str(line).unwrap();
        let mut line: serde_json::Map<_, _> = serde_json::from_str(line).unwrap();
        for later in ["at", "uptime_ms", "boot_id", "pid", "schema", "writer", "run", "seq", "does"] {
            line.remove(later);
        }
        assert_eq!(serde_json::to_value(event).unwrap(), serde_json::Value::Object(line));
    }
}

#[test]
fn what_a_later_version_wrote_is_told_and_no_damage() {
    let (_folder, store, _) = journal();
    let line = |rest: &str| {
        format!("{{\"at\":\"2026-01-02T03:04:05Z\",\"uptime_ms\":1,\"boot_id\":\"boot\",\"pid\":7,{rest}}}\n")
    };
    let lines = [
        r#""kind":"phase_began","phase":"levitate""#,
        // A text that an earlier version had for something else: the data says what it is.
        r#""kind":"step_began","phase":"levitate","step":"remove the VFs","does":{"teleport":{"to":["mars"]}}"#,
        r#""kind":"step_ended","phase":"reload","step":"remove them","does":{"remove_vfs":{"vfs":[7]}},"outcome":"ok","took_ms":3"#,
        r#""kind":"step_began","phase":"reload","step":"unload it","does":{"unload":{"module":"igb","by":"force"}}"#,
        r#""kind":"step_began","phase":"reload","step":"run it","does":{"run":{"command":"it","purpose":"fun"}}"#,
        r#""kind":"checkpoint","label":"meanwhile","modules":[{"module":"igb","loaded":true}]"#,
    ];
    let text: String = lines.into_iter().map(line).collect();
    std::fs::write(store.journal_path(), &text).unwrap();
    assert_eq!(Journal::repair(&store, || None, Timestamp::now()).unwrap(), None);
    let events = Journal::read(&store).unwrap();
    let steps: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.entry {
            Entry::StepBegan { step, .. } | Entry::StepEnded { step, .. } => Some(step.clone()),
            _ => None,
        })
        .collect();
    let expected = [
        Named::Told("remove the VFs".into()),
        Named::Known(Step::RemoveVfs { pfs: Vec::new() }),
        Named::Known(Step::Unload { module: "igb".parse().unwrap() }),
        Named::Told("run it".into()),
    ];
    assert_eq!(steps, expected);
    let report = Report::of(&events);
    assert_eq!(report.nights[0].swaps, []);
    for told in ["levitate", "remove the VFs", "unload igb", "run it", "meanwhile"] {
        assert!(report.to_string().contains(told), "{told}: {report}");
    }
}

#[test]
fn a_known_kind_that_cannot_be_read_is_damage_unless_another_version_wrote_it() {
    let (_folder, store, _) = journal();
    let line = |rest: &str| {
        let common = "\"at\":\"2026-01-02T03:04:05Z\",\"uptime_ms\":1,\"boot_id\":\"boot\",\"pid\":7";
        format!("{{{common},{rest}}}\n")
    };
    let ours = format!("\"schema\":2,\"writer\":\"{}\",", env!("CARGO_PKG_VERSION"));
    for (line, is_damage) in [
        (line("\"kind\":\"phase_began\""), true),
        (line(&format!("{ours}\"kind\":\"phase_began\"")), true),
        (line("\"writer\":\"7.0.0\",\"kind\":\"phase_began\""), false),
        (line("\"schema\":3,\"kind\":\"phase_began\""), false),
        (line("\"kind\":\"levitated\",\"height\":3"), false),
        (line("\"phase\":\"reload\""), true),
        ("{\"kind\":\"levitated\"}\n".to_owned(), true),
    ] {
        std::fs::write(store.journal_path(), &line).unwrap();
        let read = Journal::read(&store);
        assert_eq!(read.is_err(), is_damage, "{line}");
        if let Ok(events) = read {
            // What is kept of it is all of it.
            let written: serde_json::Value = serde_json::from_str(&line).unwrap();
            let mut kept = serde_json::to_value(&events[0]).unwrap();
            if written.get("schema").is_none() {
                kept.as_object_mut().unwrap().remove("schema");
            }
            assert_eq!(kept, written);
        }
    }
}

#[test]
fn the_kinds_are_those_that_are_written() {
    let (_folder, store, journal) = journal();
    all_entries().into_iter().for_each(|entry| journal.write(entry));
    let text = std::fs::read_to_string(store.journal_path()).unwrap();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(Entry::KINDS.contains(&line["kind"].as_str().unwrap()), "{line}");
    }
}

#[test]
fn a_line_that_cannot_be_written_leaves_a_gap_in_the_numbers() {
    let (_folder, store, journal) = journal();
    journal.write(Entry::PhaseBegan { phase: Phase::Run.into(), node: None });
    let path = store.journal_path();
    let kept = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    journal.write(Entry::PhaseBegan { phase: Phase::Reload.into(), node: None });
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, kept).unwrap();
    journal.write(Entry::PhaseBegan { phase: Phase::Install.into(), node: None });
    let numbers: Vec<_> = Journal::read(&store).unwrap().iter().map(|event| event.origin.seq).collect();
    assert_eq!(numbers, [Some(1), Some(3)]);
}

#[test]
fn a_path_that_is_no_utf_8_loses_no_line() {
    let (_folder, store, journal) = journal();
    let folder = PathBuf::from(OsStr::from_bytes(b"/sr\xffc"));
    journal.phase(Phase::Build).step(Step::BuildPackages { sources: folder }).ok(None);
    let steps: Vec<_> = Journal::read(&store)
        .unwrap()
        .into_iter()
        .filter_map(|event| match event.entry {
            Entry::StepBegan { step, .. } | Entry::StepEnded { step, .. } => Some(step),
            _ => None,
        })
        .collect();
    let known = Named::Known(Step::BuildPackages { sources: "/sr\u{fffd}c".into() });
    assert_eq!(steps, [known.clone(), known]);
}
