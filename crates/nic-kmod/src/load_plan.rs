use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ModuleIndex, ModuleName, Resolution};

/// Which modules modprobe is asked for, and in what order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadPlan {
    /// The modules to ask for, in order: dependencies first.
    pub load: Vec<LoadStep>,
    /// Modules that were loaded before and need not be asked for: modprobe loads them for those in `load`.
    pub pulled_in: Vec<ModuleName>,
    /// Modules that are part of the kernel's image.
    pub builtin: Vec<ModuleName>,
    /// Modules that the tree does not have. What was loaded before and is listed here is lost.
    pub missing: Vec<LoadStep>,
}

/// One module to ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadStep {
    /// The module.
    pub module: ModuleName,
    /// Why it is asked for.
    pub because: LoadReason,
}

/// Why a module is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadReason {
    /// The family's list names it.
    Listed,
    /// It was loaded before.
    WasLoaded,
}

impl fmt::Display for LoadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listed => "listed",
            Self::WasLoaded => "was loaded before",
        })
    }
}

impl LoadPlan {
    /// Plans to load the `listed` modules, and those that were loaded before (`previously`) and that the tree has.
    ///
    /// Each listed module is asked for by name, because it may get parameters, and those go only to the module
    /// modprobe is asked for. Of the others only those that no module of the plan depends on: modprobe loads
    /// dependencies itself. Soft dependencies are not relied on, since modprobe ignores their failure: where a module
    /// of the plan names another of the plan, this gives the order of the two, as far as the hard dependencies
    /// allow. Otherwise the listed modules come first, in the list's order.
    #[must_use]
    pub fn compute(previously: &[ModuleName], listed: &[ModuleName], index: &ModuleIndex) -> Self {
        let mut plan = Self::default();
        let mut seen = BTreeSet::new();
        let wanted = listed
            .iter()
            .map(|module| (module, LoadReason::Listed))
            .chain(previously.iter().map(|module| (module, LoadReason::WasLoaded)));
        let mut steps: Vec<LoadStep> = Vec::new();
        for (module, because) in wanted.filter(|(module, _)| seen.insert(*module)) {
            let step = LoadStep { module: module.clone(), because };
            match index.resolve(module) {
                Resolution::File(_) => steps.push(step),
                Resolution::Builtin => plan.builtin.push(step.module),
                Resolution::Absent => plan.missing.push(step),
            }
        }

        let pulled_in: BTreeSet<ModuleName> =
            steps.iter().flat_map(|step| index.dependencies(&step.module)).cloned().collect();
        let (pulled_in, mut remaining): (Vec<LoadStep>, Vec<LoadStep>) = steps
            .into_iter()
            .partition(|step| step.because == LoadReason::WasLoaded && pulled_in.contains(&step.module));
        plan.pulled_in = pulled_in.into_iter().map(|step| step.module).collect();

        while !remaining.is_empty() {
            let blocked = |step: &LoadStep, by: &dyn Fn(&ModuleName, &ModuleName) -> bool| {
                remaining.iter().any(|other| other.module != step.module && by(&other.module, &step.module))
            };
            let hard = |first: &ModuleName, then: &ModuleName| index.dependencies(then).contains(first);
            let any = |first: &ModuleName, then: &ModuleName| hard(first, then) || soft(index, first, then);
            // Soft dependencies can form cycles, among themselves and with the hard ones; then they are ignored.
            // Hard ones cannot: depmod leaves modules in a cycle out. Should it fail to, the plan's first comes.
            let next = remaining
                .iter()
                .position(|step| !blocked(step, &any))
                .or_else(|| remaining.iter().position(|step| !blocked(step, &hard)))
                .unwrap_or(0);
            plan.load.push(remaining.remove(next));
        }
        plan
    }

    /// Whether there is nothing to load.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.load.is_empty()
    }
}

/// Whether a soft dependency asks for `first` to be loaded before `then`.
fn soft(index: &ModuleIndex, first: &ModuleName, then: &ModuleName) -> bool {
    index.softdeps(then).is_some_and(|deps| deps.pre.contains(first))
        || index.softdeps(first).is_some_and(|deps| deps.post.contains(then))
}

/// One line for each module.
impl fmt::Display for LoadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.load {
            writeln!(f, "load {} ({})", step.module, step.because)?;
        }
        for module in &self.pulled_in {
            writeln!(f, "  comes with them: {module}")?;
        }
        for module in &self.builtin {
            writeln!(f, "  built in: {module}")?;
        }
        for step in &self.missing {
            writeln!(f, "  not on disk: {} ({})", step.module, step.because)?;
        }
        Ok(())
    }
}
