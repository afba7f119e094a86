use nic_host::BootId;
use nic_kmod::ModuleName;
use nic_sriov::{Component, RestoreEvent, RestoreOutcome, Stage, VfOutcome};
use serde_json::{Value, json};

use super::*;
use crate::state::{LineOrigin, Moment, Phase, Uptime};

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
            None => Entry::PhaseBegan { phase },
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
        event(1, Entry::Checkpoint { label: Moment::BeforeReload.into(), modules: vec![module(None, None)] }),
        began(10, Phase::Reload, Some(remove_vfs())),
        ended(250, Phase::Reload, remove_vfs(), StepOutcome::Ok, None),
        event(
            900,
            Entry::Checkpoint {
                label: Moment::AfterReload.into(),
                modules: vec![module(Some("ABCDEF"), Some("25.10-1.2.8.0"))],
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
    assert_eq!(report.outages.len(), 1);
    assert_eq!(report.outages[0].took_ms, Some(3000));
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
    assert_eq!(report.outages, [Outage { from: events[1].at, took_ms: None }]);
    let text = report.to_string();
    assert!(text.contains("FAILED: in use"), "{text}");
    assert_eq!(text.matches("not over, or cut off").count(), 2, "{text}");
    // The next process tells that the one before it is gone.
    let next = [&events[..], &[began(20, Phase::Reload, None)]].concat();
    let text = Report::of(&next).to_string();
    assert_eq!(text.matches("CUT OFF").count(), 2, "{text}");
    assert_eq!(text.matches("not over, or cut off").count(), 1, "{text}");
}

#[test]
fn trial_w23_a_time_over_a_boot_is_the_clocks() {
    const DAY: u64 = 24 * 3600 * 1000;
    let later = |mut event: JournalEvent, boot: &str, uptime: u64| {
        event.boot_id = BootId(boot.into());
        event.uptime_ms = Uptime::from_ms(uptime);
        event
    };
    let (skipped, vfs, failures, differences) = Default::default();
    let restored = RestoreOutcome { skipped, steps: 0, vfs, failures, differences };
    // The process has the same number in both boots.
    let events = [
        later(began(0, Phase::Reload, None), "one", 9 * DAY),
        later(began(10, Phase::Reload, Some(remove_vfs())), "one", 9 * DAY + 10),
        later(began(3 * DAY, Phase::RestoreSriov, None), "two", 5_000),
        later(
            event(
                3 * DAY + 10,
                Entry::RestoreResult { renamed_after_arrival: 0, result: Box::new(restored) },
            ),
            "two",
            5_010,
        ),
    ];
    let report = Report::of(&events);
    assert_eq!(report.outages.iter().map(|outage| outage.took_ms).collect::<Vec<_>>(), [Some(3 * DAY)]);
    let outcomes: Vec<&str> = report.timeline.iter().map(|row| row.outcome.as_str()).collect();
    let cut_off = "CUT OFF: the machine was booted";
    assert_eq!(outcomes, [cut_off, cut_off, "not over, or cut off: its end is not in the journal"]);
}

#[test]
fn what_an_earlier_version_wrote_is_told_as_it_told_it() {
    let report = Report::of(&crate::fixture::earlier_journal());
    let away: Vec<_> =
        report.outages.iter().map(|outage| (outage.from.to_string(), outage.took_ms)).collect();
    let expected = [
        ("2026-01-02T03:04:21.102Z", Some(4_619)),
        ("2026-01-02T03:05:37.767Z", Some(3_771)),
        // Cut off by the power cut.
        ("2026-01-02T03:06:11.732Z", None),
    ];
    assert_eq!(away, expected.map(|(from, took_ms)| (from.to_owned(), took_ms)));
    let handovers: Vec<_> = report
        .handovers
        .iter()
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
    let rows = serde_json::to_value(Report::of(&events).timeline).unwrap();
    let of = |field: &str| -> Vec<Value> {
        rows.as_array().unwrap().iter().map(|row| row.get(field).cloned().unwrap_or_default()).collect()
    };
    let texts = json!([null, "remove the VFs", "teleport igb", "  0000:01:00.0 admin attributes"]);
    assert_eq!(Value::Array(of("step")), texts);
    let data = json!([null, {"remove_vfs": {"pfs": ["0000:01:00.0"]}}, null, null]);
    assert_eq!(Value::Array(of("does")), data);
    assert_eq!(of("phase"), ["reload", "reload", "reload", "restore-sriov"]);
}
