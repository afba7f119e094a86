//! The plan of a reload beside what the reload then does.

use anyhow::{Context as _, ensure};
use nic_driver::Exit;
use nic_driver::state::{Entry, Phase, Step};

use crate::journal;
use crate::program::NicDriver;

/// What `plan reload` has said right before a reload.
#[derive(Debug)]
pub(crate) struct Planned {
    steps: Vec<Step>,
    /// How many lines the journal had.
    lines: usize,
}

impl Planned {
    /// Asks for it; `with` gives the program the options that the reload will have.
    pub(crate) fn ask(with: impl Fn(&[&str]) -> NicDriver) -> anyhow::Result<Self> {
        let lines = if journal::path().exists() { journal::lines()?.len() } else { 0 };
        let told = with(&["plan", "reload", "--output", "json"]).quietly().run()?.expect(Exit::Success)?;
        let json: serde_json::Value =
            serde_json::from_str(&told.stdout).context("the plan's JSON does not parse")?;
        let steps =
            json.get("steps").and_then(serde_json::Value::as_array).context("the plan has no steps")?;
        let step = |step: &serde_json::Value| serde_json::from_value(step["does"].clone());
        let steps =
            steps.iter().map(step).collect::<Result<_, _>>().context("a step is none of the journal")?;
        Ok(Self { steps, lines })
    }

    /// Compares it with what has been done since. Nobody was to disturb that: a module that comes up in between is unloaded in a second
    /// round, and loaded again as a latecomer, which no plan knows.
    pub(crate) fn expect_done(&self) -> anyhow::Result<()> {
        let done: Vec<Step> = journal::lines()?
            .into_iter()
            .skip(self.lines)
            .filter_map(|line| match line.entry {
                Entry::StepBegan { phase, step } if phase.known() == Some(&Phase::Reload) => {
                    step.known().cloned()
                }
                _ => None,
            })
            .collect();
        ensure!(!done.is_empty(), "the reload has left no step");
        ensure!(done == self.steps, "planned was {:#?}, and done was {done:#?}", self.steps);
        Ok(())
    }
}
