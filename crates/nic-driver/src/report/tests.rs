use nic_host::BootId;
use nic_kmod::ModuleName;
use nic_sriov::{Component, RestoreEvent, RestoreOutcome, Stage, VfOutcome};
use serde_json::{Value, json};

use super::*;
use crate::state::{
    BlockerSeen, Entry, JournalEvent, LineOrigin, ModuleCheckpoint, Moment, Named, Phase, Step, StepOutcome,
    Uptime,
};

pub(super) fn event(milliseconds: u64, entry: Entry) -> JournalEvent {
    let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let after = jiff::SignedDuration::from_millis(i64::try_from(milliseconds).unwrap());
    JournalEvent {
        at: start + after,
        uptime_ms: Uptime::from_ms(milliseconds),
        boot_id: BootId("boot".into()),
        pid: 7,
        origin: LineOrigin::default(),
        entry,
    }
}

pub(super) fn began(milliseconds: u64, phase: Phase, step: Option<Step>) -> JournalEvent {
    let phase = phase.into();
    event(
        milliseconds,
        match step {
            None => Entry::PhaseBegan { phase, node: None },
            Some(step) => Entry::StepBegan { phase, step: step.into() },
        },
    )
}

pub(super) fn ended(
    milliseconds: u64,
    phase: Phase,
    step: Step,
    outcome: StepOutcome,
    detail: Option<&str>,
) -> JournalEvent {
    event(
        milliseconds,
        Entry::StepEnded {
            phase: phase.into(),
            step: step.into(),
            outcome,
            detail: detail.map(str::to_owned),
            blockers: Vec::new(),
            took_ms: 0,
        },
    )
}

fn igb() -> ModuleName {
    "igb".parse().unwrap()
}

fn remove_vfs() -> Step {
    Step::RemoveVfs { pfs: vec!["0000:01:00.0".parse().unwrap()] }
}

fn unload() -> Step {
    Step::Unload { module: igb() }
}

fn night() -> Vec<JournalEvent> {
    let module = |srcversion: Option<&str>, version: Option<&str>| ModuleCheckpoint {
        module: igb(),
        loaded: true,
        version: version.map(str::to_owned),
        srcversion: srcversion.map(str::to_owned),
        build_id: Some("00ff".into()),
    };
    let vf = VfOutcome {
        component: Component::Vf {
            pf: "0000:01:00.0".parse().unwrap(),
            index: 0,
            address: "0000:01:10.0".parse().ok(),
        },
        name: "enp1s0v0".parse().ok(),
        first_seen_as: Some("eth0".into()),
        waited_ms: Some(412),
        steps: 6,
        retried: false,
        verified: true,
    };
    let result = RestoreOutcome {
        skipped: Vec::new(),
        steps: 9,
        vfs: vec![vf],
        failures: Vec::new(),
        differences: Vec::new(),
    };
    vec![
        began(0, Phase::Reload, None),
        event(
            1,
            Entry::Checkpoint {
                label: Moment::BeforeReload.into(),
                modules: vec![module(None, None)],
                nics: Vec::new(),
            },
        ),
        began(10, Phase::Reload, Some(remove_vfs())),
        ended(250, Phase::Reload, remove_vfs(), StepOutcome::Ok, None),
        event(
            900,
            Entry::Checkpoint {
                label: Moment::AfterReload.into(),
                modules: vec![module(Some("ABCDEF"), Some("25.10-1.2.8.0"))],
                nics: Vec::new(),
            },
        ),
        event(901, Entry::PhaseEnded { phase: Phase::Reload.into(), outcome: "reloaded".into(), exit: 0 }),
        began(1000, Phase::RestoreSriov, None),
        event(3010, Entry::RestoreResult { renamed_after_arrival: 1, result: Box::new(result) }),
        event(3020, Entry::PhaseEnded { phase: Phase::RestoreSriov.into(), outcome: "done".into(), exit: 0 }),
    ]
}

#[test]
fn a_night_is_told() {
    insta::assert_snapshot!(Report::of(&night()));
}

#[test]
fn the_nic_is_away_from_the_first_removal_to_the_verified_restore() {
    let report = Report::of(&night());
    let [swap] = &report.nights[0].swaps[..] else { panic!("{report:?}") };
    assert_eq!((swap.away_ms, swap.kind), (Some(3000), SwapKind::Install));
    assert_eq!((swap.pfs[0].away_ms, swap.pfs[0].critical_ms), (Some(3000), Some(3000)));
}

#[test]
fn what_was_cut_off_or_failed_is_said() {
    let events = [
        began(0, Phase::Reload, None),
        began(5, Phase::Reload, Some(remove_vfs())),
        ended(7, Phase::Reload, remove_vfs(), StepOutcome::Ok, None),
        began(8, Phase::Reload, Some(unload())),
        ended(9, Phase::Reload, unload(), StepOutcome::Failed, Some("in use")),
        began(10, Phase::Reload, Some(Step::Load { module: igb() })),
    ];
    let report = Report::of(&events);
    let swap = &report.nights[0].swaps[0];
    assert_eq!((swap.from, swap.away_ms), (events[1].at, None));
    assert_eq!(report.verdict.as_ref().unwrap().level, Level::NotOver);
    let text = report.to_string();
    assert!(text.contains("FAILED: in use"), "{text}");
    let count = |report: &Report, ended: Ended| {
        report.nights[0].timeline.iter().filter(|row| row.ended == ended).count()
    };
    assert_eq!(count(&report, Ended::NotOver), 2, "{text}");
    // The next process tells that the one before it is gone.
    let next = [&events[..], &[began(20, Phase::Reload, None)]].concat();
    let report = Report::of(&next);
    assert_eq!((count(&report, Ended::CutOff), count(&report, Ended::NotOver)), (2, 1));
}

#[test]
fn trial_w23_a_time_over_a_boot_is_the_clocks() {
    const DAY: u64 = 24 * 3600 * 1000;
    let later = |mut event: JournalEvent, boot: &str, uptime: u64| {
        event.boot_id = BootId(boot.into());
        event.uptime_ms = Uptime::from_ms(uptime);
        event
    };
    // The process has the same number in both boots.
    let events = [
        later(began(0, Phase::Reload, None), "one", 9 * DAY),
        later(began(10, Phase::Reload, Some(remove_vfs())), "one", 9 * DAY + 10),
        later(began(3 * DAY, Phase::RestoreSriov, None), "two", 5_000),
    ];
    assert_eq!(events[0].ms_until(&events[2]), 3 * DAY);
    // Nothing is owed in another boot: that is another night.
    let report = Report::of(&events);
    let outcomes: Vec<Vec<&str>> = report
        .nights
        .iter()
        .map(|night| night.timeline.iter().map(|row| row.outcome.as_str()).collect())
        .collect();
    let cut_off = "CUT OFF: the machine was booted";
    assert_eq!(
        outcomes,
        [vec![cut_off, cut_off], vec!["not over, or cut off: its end is not in the journal"]]
    );
    assert_eq!(report.nights[0].swaps[0].away_ms, None);
}

#[test]
fn a_pause_ends_a_night_unless_the_nics_are_away() {
    const HOURS: u64 = 5 * 3600 * 1000;
    let quiet = [began(0, Phase::Install, None), began(HOURS, Phase::Install, None)];
    assert_eq!(Report::of(&quiet).nights.len(), 2);
    let away = [began(0, Phase::Reload, Some(remove_vfs())), began(HOURS, Phase::RestoreSriov, None)];
    assert_eq!(Report::of(&away).nights.len(), 1);
    let report = Report::of(&quiet);
    assert_eq!(report.clone().last(1).nights[0].number, 2);
    assert_eq!(report.clone().since(quiet[1].at).nights.len(), 1);
    assert_eq!(report.compare_last().unwrap().nights, [1, 2]);
    assert_eq!(report.compare(1, 7), None);
}

#[test]
fn what_an_earlier_version_wrote_is_told_as_it_told_it() {
    let report = Report::of(&crate::fixture::earlier_journal());
    let away: Vec<_> = report
        .nights
        .iter()
        .flat_map(|night| night.swaps.iter().map(|swap| (swap.from.to_string(), swap.away_ms)))
        .collect();
    let expected = [
        ("2026-01-02T03:04:21.102Z", Some(4_619)),
        ("2026-01-02T03:05:37.767Z", Some(3_771)),
        // Cut off by the power cut.
        ("2026-01-02T03:06:11.732Z", None),
    ];
    assert_eq!(away, expected.map(|(from, took_ms)| (from.to_owned(), took_ms)));
    let handovers: Vec<_> = report
        .handovers()
        .map(|one| (one.took_ms, one.build_ms, one.install_ms, one.swap_ms, one.restore_ms))
        .collect();
    // The earlier version did not count a restore within which readiness was given: it told 0.
    assert_eq!(handovers, [(15_815, 7_000, 328, 2_351, 1_667)]);
    insta::assert_snapshot!(report);
}

#[test]
fn in_json_a_row_has_the_text_and_the_data() {
    let pf = || "0000:01:00.0".parse().unwrap();
    let stage = RestoreEvent::StageBegan { pf: pf(), stage: Stage::Admin };
    let events = [
        began(0, Phase::Reload, None),
        began(5, Phase::Reload, Some(remove_vfs())),
        event(6, Entry::StepBegan { phase: Phase::Reload.into(), step: Named::Told("teleport igb".into()) }),
        event(7, Entry::Restore { restore: stage }),
    ];
    let rows = serde_json::to_value(&Report::of(&events).nights[0].timeline).unwrap();
    let of = |field: &str| -> Vec<Value> {
        rows.as_array().unwrap().iter().map(|row| row.get(field).cloned().unwrap_or_default()).collect()
    };
    let texts = json!([null, "remove the VFs", "teleport igb", "0000:01:00.0: admin attributes"]);
    assert_eq!(Value::Array(of("step")), texts);
    let data = json!([null, {"remove_vfs": {"pfs": ["0000:01:00.0"]}}, null, null]);
    assert_eq!(Value::Array(of("does")), data);
    assert_eq!(of("phase"), ["reload", "reload", "reload", "restore-sriov"]);
}

#[test]
fn what_is_in_the_way_is_told_from_the_first_look_to_the_first_without_it() {
    let looked = |at: u64, what: &[&str]| {
        let outcome = if what.is_empty() { StepOutcome::Ok } else { StepOutcome::Failed };
        let mut ended = ended(at, Phase::Reload, Step::FindBlockers, outcome, Some("text"));
        if let Entry::StepEnded { blockers, .. } = &mut ended.entry {
            let seen = |what: &&str| BlockerSeen { kind: Some("user".into()), what: (*what).to_owned() };
            *blockers = what.iter().map(seen).collect();
        }
        ended
    };
    let events = [looked(0, &["a", "b"]), looked(1000, &["b"]), looked(3000, &[]), looked(9000, &["a"])];
    let told: Vec<_> = Report::of(&events).nights[0]
        .blocked
        .iter()
        .map(|one| (one.what.clone(), one.took_ms, one.times, one.until.is_some()))
        .collect();
    let expected = [("a", 1000, 1, true), ("b", 3000, 2, true), ("a", 0, 1, false)];
    assert_eq!(told, expected.map(|(what, ms, times, over)| (what.to_owned(), ms, times, over)));
    // An earlier version told a sentence alone.
    let earlier = [ended(0, Phase::Reload, Step::FindBlockers, StepOutcome::Failed, Some("in use"))];
    let blocked = &Report::of(&earlier).nights[0].blocked;
    assert_eq!((blocked[0].kind.clone(), blocked[0].what.as_str()), (None, "in use"));
}

#[test]
fn the_published_schema_of_a_report_is_current() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/report.schema.json");
    let current = format!("{}\n", serde_json::to_string_pretty(&Report::json_schema()).unwrap());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap();
    assert!(
        published == current,
        "docs/report.schema.json is not current: run this test with UPDATE_SCHEMA=1"
    );
}

#[test]
fn lines_that_are_missing_and_lines_of_another_version_are_told() {
    let numbered = |mut event: JournalEvent, seq| {
        event.origin =
            LineOrigin { schema: 2, writer: Some("9.0.0".into()), run: Some("a".into()), seq: Some(seq) };
        event
    };
    let unknown = Entry::Unknown(crate::state::UnknownEntry {
        kind: "levitated".into(),
        fields: serde_json::Map::new(),
    });
    let events = [numbered(began(0, Phase::Reload, None), 4), numbered(event(9, unknown), 7)];
    let report = Report::of(&events);
    assert_eq!(report.nights[0].lost_lines, 2);
    let text = report.to_string();
    assert!(text.contains("2 lines could not be written") && text.contains("levitated"), "{text}");
}

/// What came of a restore of settings and of the network belongs to the restore before it, and that to its swap.
#[test]
fn each_restore_is_told_with_its_swap() {
    let night = include_str!("../../../../fixtures/documented-night/state/journal.jsonl");
    let events: Vec<JournalEvent> = night.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let night = Report::of(&events).nights.remove(0);
    let told: Vec<_> = night
        .restores
        .iter()
        .map(|restore| {
            let gravities: Vec<&str> = restore.settings.iter().map(|one| one.gravity.as_str()).collect();
            (
                restore.swap,
                restore.verified,
                restore.settings_given_back.len(),
                restore.network_given_back.len(),
                gravities,
            )
        })
        .collect();
    let one = |swap| (Some(swap), true, 3, 4, vec!["stated", "unsupported"]);
    assert_eq!(told, [one(1), one(2)]);
}

#[test]
fn a_restore_after_a_verified_one_belongs_to_no_swap() {
    let mut events = night();
    let again = events[7].clone();
    let mut failed = again.clone();
    if let Entry::RestoreResult { result, .. } = &mut failed.entry {
        result.skipped.push(nic_sriov::SkippedPf {
            pf: "0000:01:00.1".parse().unwrap(),
            reasons: vec!["it has another driver".to_owned()],
        });
    }
    // The first does not give all back: what comes after it still belongs to the swap.
    events.insert(7, failed);
    events.push(again);
    let restores = &Report::of(&events).nights[0].restores;
    let told: Vec<_> = restores.iter().map(|restore| (restore.swap, restore.verified)).collect();
    assert_eq!(told, [(Some(1), false), (Some(1), true), (None, true)]);
    assert_eq!(restores[0].failures[0].cause, "left alone: it has another driver");
}

#[test]
fn blocked_is_not_failed() {
    let mut looked = ended(90, Phase::Reload, Step::FindBlockers, StepOutcome::Failed, Some("in use"));
    if let Entry::StepEnded { blockers, .. } = &mut looked.entry {
        blockers.push(BlockerSeen { kind: None, what: "in use".to_owned() });
    }
    let ended = Entry::PhaseEnded { phase: Phase::Reload.into(), outcome: "in use".into(), exit: 3 };
    let events = [
        began(0, Phase::Reload, None),
        began(5, Phase::Reload, Some(Step::FindBlockers)),
        looked,
        event(91, ended),
    ];
    let report = Report::of(&events);
    assert!(report.nights[0].timeline.iter().all(|row| row.ended == Ended::Blocked), "{report}");
    let verdict = report.verdict.as_ref().unwrap();
    assert_eq!((verdict.level, verdict.text.as_str()), (Level::Blocked, "reload: in use"));
    assert!(!report.to_string().contains("FAILED"), "{report}");
}
