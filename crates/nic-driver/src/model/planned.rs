//! The plan of a reload beside what the reload then does.

use serde_json::Value;

use crate::Exit;
use crate::context::Context;
use crate::phase::{ReloadDuty, plan_reload};
use crate::state::{Entry, Journal, Phase, Step};

/// What `plan reload` says right before a reload.
#[derive(Debug)]
pub(super) struct Planned {
    /// The steps, as its JSON has them; or how it ends where a plan cannot be made.
    steps: Result<(ReloadDuty, Vec<Value>), Exit>,
    /// How many lines the journal has.
    lines: usize,
}

impl Planned {
    pub(super) async fn of_reload(context: &Context) -> Self {
        let steps = plan_reload(context).await.map_err(|error| error.exit()).map(|plan| {
            let json = serde_json::to_value(&plan).unwrap();
            (plan.duty, json["steps"].as_array().unwrap().iter().map(|step| step["does"].clone()).collect())
        });
        Self { steps, lines: lines(context).len() }
    }

    /// A reload that nothing disturbs does what was planned, and only that, up to where a step fails. What then comes is the way back.
    pub(super) fn compare(&self, context: &Context, exit: Exit) {
        let (duty, planned) = match &self.steps {
            Ok((duty, steps)) => (duty, steps),
            Err(planned) => {
                assert_eq!(exit, *planned, "the plan ends otherwise than the reload");
                return;
            }
        };
        let done = lines(context).split_off(self.lines);
        let is_way_back = |step: &Step| matches!(step, Step::RecordRollback);
        let forth = done.iter().position(is_way_back).unwrap_or(done.len());
        let forth: Vec<Value> =
            done[..forth].iter().map(|step| serde_json::to_value(step).unwrap()).collect();
        match exit {
            Exit::Success => assert_eq!(forth, *planned, "other steps than the planned ones"),
            // Its own steps are not of the plan of a reload.
            _ if *duty == ReloadDuty::EndRollback => assert!(forth.starts_with(planned), "{forth:#?}"),
            Exit::Blocked => assert_eq!(forth, *planned, "other steps than the planned ones"),
            // Without a driver that could be gone back to, the blacklist goes where the others are rolled back.
            _ => {
                let remove = serde_json::to_value(Step::RemoveBlacklist).unwrap();
                let upto = if forth.last() == Some(&remove) { forth.len() - 1 } else { forth.len() };
                assert!(planned.starts_with(&forth[..upto]), "{forth:#?} of {planned:#?}");
            }
        }
    }
}

/// The steps of reloads that the journal says have begun.
fn lines(context: &Context) -> Vec<Step> {
    let begun = Journal::read(&context.store).unwrap().into_iter().filter_map(|line| match line.entry {
        Entry::StepBegan { phase, step } if phase.known() == Some(&Phase::Reload) => step.known().cloned(),
        _ => None,
    });
    begun.collect()
}
