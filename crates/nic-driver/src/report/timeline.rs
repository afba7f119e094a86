//! What took how long: phases, their steps, and the stages of restores.

use std::fmt;

use jiff::Timestamp;
use nic_sriov::{DeviceAddress, RestoreEvent, Stage};
use serde::{Serialize, Serializer};

use crate::state::{JournalEvent, Named, Phase, Step, StepForm};

/// A row of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineRow {
    /// When it began.
    pub at: Timestamp,
    /// The phase.
    pub phase: Named<Phase>,
    /// The step; `None` for the phase as a whole. In JSON its text, and beside it, as `does`, what a step of a phase is as data.
    #[serde(flatten, serialize_with = "step_form")]
    pub step: Option<RowStep>,
    /// How long it took, in milliseconds; `None` when its end is not in the journal.
    pub took_ms: Option<u64>,
    /// How it ended.
    pub outcome: String,
}

/// What a row within a phase is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowStep {
    /// A step of the phase.
    Step(Named<Step>),
    /// A stage of a PF's restore.
    Stage {
        /// The PF.
        pf: DeviceAddress,
        /// The stage.
        stage: Stage,
    },
}

impl From<Named<Step>> for RowStep {
    fn from(step: Named<Step>) -> Self {
        Self::Step(step)
    }
}

impl fmt::Display for RowStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(step) => step.fmt(f),
            Self::Stage { pf, stage } => write!(f, "  {pf} {}", stage_text(*stage)),
        }
    }
}

fn step_form<S: Serializer>(step: &Option<RowStep>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct TextAlone {
        step: Option<String>,
    }
    match step {
        Some(RowStep::Step(step)) => StepForm::of(step).serialize(serializer),
        Some(stage @ RowStep::Stage { .. }) => {
            TextAlone { step: Some(stage.to_string()) }.serialize(serializer)
        }
        None => TextAlone { step: None }.serialize(serializer),
    }
}

/// The rows whose end has not been read yet.
#[derive(Default)]
pub(super) struct OpenRows<'a> {
    rows: Vec<OpenRow<'a>>,
}

struct OpenRow<'a> {
    /// What its end is known by, beside the process.
    phase: Named<Phase>,
    step: Option<RowStep>,
    began: &'a JournalEvent,
    /// Where it stands in the timeline.
    position: usize,
}

impl OpenRow<'_> {
    fn is(&self, pid: u32, phase: &Named<Phase>, step: Option<&RowStep>) -> bool {
        self.began.pid == pid && self.phase == *phase && self.step.as_ref() == step
    }
}

impl<'a> OpenRows<'a> {
    /// What was open in an earlier boot than the event's was cut off by it.
    pub(super) fn cut_off_by_boot(&mut self, timeline: &mut [TimelineRow], event: &JournalEvent) {
        self.rows.retain(|open| {
            let is_of_this_boot = open.began.boot_id == event.boot_id;
            if let (false, Some(row)) = (is_of_this_boot, timeline.get_mut(open.position)) {
                row.outcome = "CUT OFF: the machine was booted".to_owned();
            }
            is_of_this_boot
        });
    }

    pub(super) fn begin(
        &mut self,
        timeline: &mut Vec<TimelineRow>,
        event: &'a JournalEvent,
        phase: &Named<Phase>,
        step: Option<RowStep>,
    ) {
        let (pid, known) = (event.pid, self.rows.len());
        self.rows.retain(|open| !open.is(pid, phase, step.as_ref()));
        // One process at a time changes the machine: where another one begins, the one before it has ended.
        let is_of_another = || self.rows.len() < known || self.rows.iter().all(|open| open.began.pid != pid);
        if step.is_none() && is_of_another() {
            self.rows.clear();
        }
        let (phase, position) = (phase.clone(), timeline.len());
        self.rows.push(OpenRow { phase: phase.clone(), step: step.clone(), began: event, position });
        timeline.push(TimelineRow {
            at: event.at,
            phase,
            step,
            took_ms: None,
            outcome: "CUT OFF: its end is not in the journal".to_owned(),
        });
    }

    /// What is open at the end of the journal may still be under way.
    pub(super) fn end_of_journal(&self, timeline: &mut [TimelineRow]) {
        for open in &self.rows {
            if let Some(row) = timeline.get_mut(open.position) {
                row.outcome = "not over, or cut off: its end is not in the journal".to_owned();
            }
        }
    }

    pub(super) fn end(
        &mut self,
        timeline: &mut [TimelineRow],
        event: &JournalEvent,
        phase: &Named<Phase>,
        step: Option<&RowStep>,
        outcome: String,
    ) {
        let Some(open) = self.rows.iter().position(|open| open.is(event.pid, phase, step)) else { return };
        let open = self.rows.remove(open);
        if let Some(row) = timeline.get_mut(open.position) {
            row.took_ms = Some(open.began.ms_until(event));
            row.outcome = outcome;
        }
    }

    /// What a restore tells of a PF's stages.
    pub(super) fn stage(
        &mut self,
        timeline: &mut Vec<TimelineRow>,
        event: &'a JournalEvent,
        restore: &RestoreEvent,
    ) {
        let phase = Named::Known(Phase::RestoreSriov);
        let row = |pf: &DeviceAddress, stage: &Stage| RowStep::Stage { pf: pf.clone(), stage: *stage };
        match restore {
            RestoreEvent::StageBegan { pf, stage } => {
                self.begin(timeline, event, &phase, Some(row(pf, stage)));
            }
            RestoreEvent::StageEnded { pf, stage } => {
                self.end(timeline, event, &phase, Some(&row(pf, stage)), "ok".to_owned());
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
