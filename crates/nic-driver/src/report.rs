//! What the journal tells: the timeline, the modules' identities at each checkpoint, the VFs, and how long the NIC
//! was away. Pure: events in, text out.

mod handover;
mod timeline;

use std::fmt;

use comfy_table::{Table, presets};
use jiff::Timestamp;
use nic_settings::SettingDifference;
use nic_sriov::{Difference, RestoreOutcome, VfOutcome};
use serde::Serialize;

pub use handover::Handover;
pub use timeline::{RowStep, TimelineRow};

use crate::state::{Effect, Entry, JournalEvent, ModuleCheckpoint, Moment, Named, Step, StepOutcome};
use timeline::OpenRows;

/// All that an operator wants to know of what happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What happened, in order.
    pub timeline: Vec<TimelineRow>,
    /// The modules' identities, moment by moment.
    pub checkpoints: Vec<Checkpoint>,
    /// Each time that one driver container handed the node over to another.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub handovers: Vec<Handover>,
    /// Each time the NIC was away.
    pub outages: Vec<Outage>,
    /// The VFs after the last restore that changed something, or after the last one.
    pub vfs: Vec<VfOutcome>,
    /// What was different from the snapshot after it.
    pub differences: Vec<Difference>,
    /// What of that which was set of the NICs is different after the last time it was given back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub setting_differences: Vec<SettingDifference>,
    /// What of that which stands on the NICs is different after the last restore of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub network_differences: Vec<nic_topology::Difference>,
}

/// The modules' identities at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checkpoint {
    /// The time of the moment.
    pub at: Timestamp,
    /// Which moment.
    pub label: Named<Moment>,
    /// The modules.
    pub modules: Vec<ModuleCheckpoint>,
}

/// One time the NIC was away: from the first VF's removal until the last VF was back and verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outage {
    /// From.
    pub from: Timestamp,
    /// How long in milliseconds; `None` when it has not ended.
    pub took_ms: Option<u64>,
}

impl Report {
    /// Reads the journal's events.
    #[must_use]
    pub fn of(events: &[JournalEvent]) -> Self {
        let mut report = Self {
            timeline: Vec::new(),
            checkpoints: Vec::new(),
            handovers: handover::of(events),
            outages: Vec::new(),
            vfs: Vec::new(),
            differences: Vec::new(),
            setting_differences: Vec::new(),
            network_differences: Vec::new(),
        };
        let mut open = OpenRows::default();
        let mut away_since: Option<&JournalEvent> = None;
        for event in events {
            open.cut_off_by_boot(&mut report.timeline, event);
            match &event.entry {
                Entry::PhaseBegan { phase } => open.begin(&mut report.timeline, event, phase, None),
                Entry::StepBegan { phase, step } => {
                    let takes_nics_away = step.known().map(Step::effect) == Some(Effect::TakesNicsAway);
                    if takes_nics_away && away_since.is_none() {
                        away_since = Some(event);
                    }
                    open.begin(&mut report.timeline, event, phase, Some(step.clone().into()));
                }
                Entry::PhaseEnded { phase, outcome, exit } => {
                    let outcome = match exit {
                        0 => outcome.clone(),
                        exit => format!("{outcome} (exit code {exit})"),
                    };
                    open.end(&mut report.timeline, event, phase, None, outcome);
                }
                Entry::StepEnded { phase, step, outcome, detail, .. } => {
                    let text = match (outcome, detail) {
                        (StepOutcome::Ok, None) => "ok".to_owned(),
                        (StepOutcome::Ok, Some(detail)) => detail.clone(),
                        (StepOutcome::Failed, detail) => {
                            format!("FAILED: {}", detail.as_deref().unwrap_or("no reason given"))
                        }
                    };
                    open.end(&mut report.timeline, event, phase, Some(&step.clone().into()), text);
                }
                Entry::Checkpoint { label, modules } => report.checkpoints.push(Checkpoint {
                    at: event.at,
                    label: label.clone(),
                    modules: modules.clone(),
                }),
                Entry::Restore { restore } => open.stage(&mut report.timeline, event, restore),
                Entry::RestoreResult { result, .. } => {
                    report.note_result(result);
                    if let Some(from) = away_since.take_if(|_| result.is_verified()) {
                        report.outages.push(outage(from, Some(event)));
                    }
                }
                Entry::SettingsResult { result } => {
                    report.setting_differences.clone_from(&result.differences);
                }
                Entry::NetworkResult { result } => {
                    report.network_differences.clone_from(&result.differences);
                }
                Entry::Unknown(_) => {}
            }
        }
        open.end_of_journal(&mut report.timeline);
        report.outages.extend(away_since.map(|from| outage(from, None)));
        report
    }

    fn note_result(&mut self, result: &RestoreOutcome) {
        if result.steps > 0 || self.vfs.is_empty() {
            self.vfs.clone_from(&result.vfs);
        }
        self.differences.clone_from(&result.differences);
    }
}

fn outage(from: &JournalEvent, until: Option<&JournalEvent>) -> Outage {
    let took_ms = until.map(|until| from.ms_until(until));
    Outage { from: from.at, took_ms }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.timeline.is_empty() {
            return writeln!(f, "The journal is empty: nothing has happened yet.");
        }
        writeln!(f, "Timeline")?;
        writeln!(f, "{}", self.timeline_table())?;
        if !self.checkpoints.is_empty() {
            writeln!(f, "\nModules (srcversion, else build-id)")?;
            writeln!(f, "{}", self.checkpoint_table())?;
        }
        if !self.vfs.is_empty() {
            let verified = self.vfs.iter().filter(|vf| vf.verified).count();
            writeln!(
                f,
                "\nVirtual functions after the last restore: {verified} of {} verified",
                self.vfs.len()
            )?;
            writeln!(f, "{}", self.vf_table())?;
        }
        for difference in &self.differences {
            writeln!(f, "differs: {difference}")?;
        }
        for difference in &self.setting_differences {
            writeln!(f, "{difference}")?;
        }
        for difference in &self.network_differences {
            writeln!(f, "differs: {difference}")?;
        }
        if !self.handovers.is_empty() {
            writeln!(f, "\nFrom one driver container's request to stop to readiness under the next")?;
            writeln!(f, "{}", self.handover_table())?;
        }
        if !self.outages.is_empty() {
            writeln!(f, "\nThe NIC was away")?;
        }
        for outage in &self.outages {
            match outage.took_ms {
                Some(took) => writeln!(f, "  from {} for {}", clock(outage.from), seconds(took))?,
                None => writeln!(f, "  from {}: its VFs have not been restored yet", clock(outage.from))?,
            }
        }
        Ok(())
    }
}

impl Report {
    fn timeline_table(&self) -> Table {
        let mut table = table(&["time", "phase", "step", "took", "outcome"]);
        for row in &self.timeline {
            table.add_row([
                clock(row.at),
                if row.step.is_none() { row.phase.to_string() } else { String::new() },
                row.step.as_ref().map(ToString::to_string).unwrap_or_default(),
                row.took_ms.map(seconds).unwrap_or_default(),
                row.outcome.clone(),
            ]);
        }
        table
    }

    fn handover_table(&self) -> Table {
        let mut table = table(&["from", "took", "build", "install", "swap", "restore", "the rest"]);
        for handover in &self.handovers {
            table.add_row([
                clock(handover.from),
                seconds(handover.took_ms),
                seconds(handover.build_ms),
                seconds(handover.install_ms),
                seconds(handover.swap_ms),
                seconds(handover.restore_ms),
                seconds(handover.rest_ms()),
            ]);
        }
        table
    }

    fn checkpoint_table(&self) -> Table {
        let mut table = table(&["time", "checkpoint", "module", "version", "identity"]);
        for checkpoint in &self.checkpoints {
            for (position, module) in checkpoint.modules.iter().enumerate() {
                let identity = match (&module.srcversion, &module.build_id) {
                    (Some(srcversion), _) => srcversion.clone(),
                    (None, Some(build_id)) => format!("build-id {build_id}"),
                    (None, None) if module.loaded => "unknown".to_owned(),
                    (None, None) => "not loaded".to_owned(),
                };
                let first = position == 0;
                table.add_row([
                    if first { clock(checkpoint.at) } else { String::new() },
                    if first { checkpoint.label.to_string() } else { String::new() },
                    module.module.to_string(),
                    module.version.clone().unwrap_or_else(|| "-".to_owned()),
                    identity,
                ]);
            }
        }
        table
    }

    fn vf_table(&self) -> Table {
        let mut table = table(&["virtual function", "name", "first seen as", "waited", "steps", "result"]);
        for vf in &self.vfs {
            table.add_row([
                vf.component.to_string(),
                vf.name.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                vf.first_seen_as.clone().unwrap_or_default(),
                vf.waited_ms.map(seconds).unwrap_or_default(),
                vf.steps.to_string(),
                match (vf.verified, vf.retried) {
                    (true, false) => "verified",
                    (true, true) => "verified, bound twice",
                    (false, _) => "WRONG",
                }
                .to_owned(),
            ]);
        }
        table
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    table
}

fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S%.3f").to_string()
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03} s", milliseconds / 1000, milliseconds % 1000)
}

#[cfg(test)]
mod tests;
