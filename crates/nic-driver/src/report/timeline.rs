//! What took how long: phases, their steps, and the stages of restores.

use jiff::Timestamp;
use nic_sriov::{DeviceAddress, RestoreEvent, Stage};
use schemars::JsonSchema;
use serde::Serialize;

use crate::Exit;
use crate::state::{Entry, JournalEvent, Named, Phase, Step, StepForm, StepOutcome};

/// A row of the timeline: a phase, a step of one, or a stage of a PF's restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TimelineRow {
    /// When it began.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The phase.
    pub phase: String,
    /// The step, as people read it; `None` for the phase as a whole.
    pub step: Option<String>,
    /// The step as data, where it is one of a phase that this version knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub does: Option<serde_json::Value>,
    /// The stage, where it is one of a PF's restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<PfStage>,
    /// How long it took, in milliseconds; `None` when its end is not in the journal.
    pub took_ms: Option<u64>,
    /// How it ended.
    pub ended: Ended,
    /// The same, in a sentence.
    pub outcome: String,
    /// The exit code, of a phase that has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
    /// The exit code's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_name: Option<String>,
    /// The run that it is of; `None` where an earlier version did not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The process.
    pub pid: u32,
    /// The version of this program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
}

/// How something has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Well.
    Ok,
    /// It has failed.
    Failed,
    /// Something stood in the way, and nothing was changed.
    Blocked,
    /// It was cut off: a process has died, or the machine was booted.
    CutOff,
    /// It is under way, or was cut off and nothing has come after it.
    NotOver,
}

/// A stage of a PF's restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PfStage {
    /// The PF.
    pub pf: String,
    /// The stage.
    pub stage: String,
}

/// The rows, each with the position of the event that begins it, in order.
pub(super) fn rows(events: &[JournalEvent]) -> Vec<(usize, TimelineRow)> {
    let mut open = OpenRows::default();
    for (position, event) in events.iter().enumerate() {
        open.cut_off_by_boot(event);
        match &event.entry {
            Entry::PhaseBegan { phase, .. } => open.begin(position, event, phase, None),
            Entry::StepBegan { phase, step } => {
                open.begin(position, event, phase, Some(Within::Step(step.clone())));
            }
            Entry::PhaseEnded { phase, outcome, exit } => {
                let exit_name = Exit::of(*exit).map(|exit| format!("{exit:?}"));
                let ended = match Exit::of(*exit) {
                    Some(Exit::Success) => Ended::Ok,
                    Some(Exit::Blocked) => Ended::Blocked,
                    _ => Ended::Failed,
                };
                let row = open.end(event, phase, None, ended, outcome.clone());
                if let Some(row) = row {
                    (row.exit, row.exit_name) = (Some(*exit), exit_name);
                }
            }
            Entry::StepEnded { phase, step, outcome, detail, blockers, .. } => {
                let failed = if blockers.is_empty() { Ended::Failed } else { Ended::Blocked };
                let (ended, text) = match (outcome, detail) {
                    (StepOutcome::Ok, None) => (Ended::Ok, "ok".to_owned()),
                    (StepOutcome::Ok, Some(detail)) => (Ended::Ok, detail.clone()),
                    (StepOutcome::Failed, detail) => {
                        (failed, detail.clone().unwrap_or_else(|| "no reason given".to_owned()))
                    }
                };
                open.end(event, phase, Some(&Within::Step(step.clone())), ended, text);
            }
            Entry::Restore { restore } => open.stage(position, event, restore),
            Entry::Checkpoint { .. }
            | Entry::RestoreResult { .. }
            | Entry::SettingsResult { .. }
            | Entry::NetworkResult { .. }
            | Entry::Unknown(_) => {}
        }
    }
    open.end_of_journal();
    open.done
}

/// What a row within a phase is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Within {
    Step(Named<Step>),
    Stage { pf: DeviceAddress, stage: Stage },
}

/// The rows, and those of them whose end has not been read yet.
#[derive(Default)]
struct OpenRows<'a> {
    done: Vec<(usize, TimelineRow)>,
    open: Vec<OpenRow<'a>>,
}

struct OpenRow<'a> {
    /// What its end is known by, beside the process.
    phase: Named<Phase>,
    within: Option<Within>,
    began: &'a JournalEvent,
    /// Where it stands among the rows.
    place: usize,
}

impl OpenRow<'_> {
    fn is(&self, event: &JournalEvent, phase: &Named<Phase>, within: Option<&Within>) -> bool {
        is_same_process(self.began, event) && self.phase == *phase && self.within.as_ref() == within
    }
}

fn is_same_process(one: &JournalEvent, other: &JournalEvent) -> bool {
    one.pid == other.pid && one.origin.run == other.origin.run
}

impl<'a> OpenRows<'a> {
    /// What was open in an earlier boot than the event's was cut off by it.
    fn cut_off_by_boot(&mut self, event: &JournalEvent) {
        let done = &mut self.done;
        self.open.retain(|open| {
            let is_of_this_boot = open.began.boot_id == event.boot_id;
            if let (false, Some((_, row))) = (is_of_this_boot, done.get_mut(open.place)) {
                row.outcome = "CUT OFF: the machine was booted".to_owned();
            }
            is_of_this_boot
        });
    }

    fn begin(
        &mut self,
        position: usize,
        event: &'a JournalEvent,
        phase: &Named<Phase>,
        within: Option<Within>,
    ) {
        let known = self.open.len();
        self.open.retain(|open| !open.is(event, phase, within.as_ref()));
        // One process at a time changes the machine: where another one begins, the one before it has ended.
        let is_of_another =
            || self.open.len() < known || self.open.iter().all(|open| !is_same_process(open.began, event));
        if within.is_none() && is_of_another() {
            self.open.clear();
        }
        let (step, does, stage) = match &within {
            None => (None, None, None),
            Some(Within::Step(step)) => (Some(step.to_string()), StepForm::of(step).data(), None),
            Some(Within::Stage { pf, stage }) => {
                let (pf, stage) = (pf.to_string(), stage_text(*stage).to_owned());
                (Some(format!("{pf}: {stage}")), None, Some(PfStage { pf, stage }))
            }
        };
        let row = TimelineRow {
            at: event.at,
            phase: phase.to_string(),
            step,
            does,
            stage,
            took_ms: None,
            ended: Ended::CutOff,
            outcome: "CUT OFF: its end is not in the journal".to_owned(),
            exit: None,
            exit_name: None,
            run: event.origin.run.as_ref().map(ToString::to_string),
            pid: event.pid,
            writer: event.origin.writer.clone(),
        };
        self.open.push(OpenRow { phase: phase.clone(), within, began: event, place: self.done.len() });
        self.done.push((position, row));
    }

    /// What is open at the end of the journal may still be under way.
    fn end_of_journal(&mut self) {
        for open in &self.open {
            if let Some((_, row)) = self.done.get_mut(open.place) {
                row.ended = Ended::NotOver;
                row.outcome = "not over, or cut off: its end is not in the journal".to_owned();
            }
        }
    }

    fn end(
        &mut self,
        event: &JournalEvent,
        phase: &Named<Phase>,
        within: Option<&Within>,
        ended: Ended,
        outcome: String,
    ) -> Option<&mut TimelineRow> {
        let open = self.open.iter().position(|open| open.is(event, phase, within))?;
        let open = self.open.remove(open);
        let (_, row) = self.done.get_mut(open.place)?;
        row.took_ms = Some(open.began.ms_until(event));
        row.ended = ended;
        row.outcome = outcome;
        Some(row)
    }

    /// What a restore tells of a PF's stages.
    fn stage(&mut self, position: usize, event: &'a JournalEvent, restore: &RestoreEvent) {
        let phase = Named::Known(Phase::RestoreSriov);
        let within = |pf: &DeviceAddress, stage: &Stage| Within::Stage { pf: pf.clone(), stage: *stage };
        match restore {
            RestoreEvent::StageBegan { pf, stage } => {
                self.begin(position, event, &phase, Some(within(pf, stage)));
            }
            RestoreEvent::StageEnded { pf, stage } => {
                self.end(event, &phase, Some(&within(pf, stage)), Ended::Ok, "ok".to_owned());
            }
            RestoreEvent::PfStepBegan { .. }
            | RestoreEvent::PfStep { .. }
            | RestoreEvent::VfBound { .. }
            | RestoreEvent::VfArrived { .. }
            | RestoreEvent::VfDone { .. } => {}
        }
    }
}

fn stage_text(stage: Stage) -> &'static str {
    match stage {
        Stage::Prepare => "PF prepared, VFs created",
        Stage::Admin => "admin attributes",
        Stage::Eswitch => "eswitch and representors",
        Stage::Bonds => "bonds over eswitches",
        Stage::Vfs => "VFs bound and configured",
        Stage::Finish => "PF finished",
        Stage::Names => "names given back",
    }
}
