//! The steps of a reload as data. A plan has them with all that they are about; they are carried out, and told, from there.

use std::path::PathBuf;

use nic_kmod::{LoadRequest, ModuleName};
use nic_sriov::DeviceAddress;
use serde::Serialize;

use crate::state::{Step, StepForm};
use crate::swap::{Leaving, Loads, Restart, UnloadScope, step_of_script};

/// A step of a reload. Most are one step of the journal; an unload and a load are one for each module; a look that leaves no trace is none.
#[derive(Debug, Clone)]
pub(super) enum PlannedStep {
    /// A blacklist that a killed process has left behind is removed. The plan is made after that.
    RemoveLeftoverBlacklist,
    /// Everything in the way is looked for. What a plan prints goes by that.
    FindBlockers,
    /// The files of the running modules are kept.
    BackUpModules,
    /// The node is observed, for the snapshot; the plan that is carried out is made of that.
    Observe,
    /// Space for what is to come is made sure of.
    EnsureSpace,
    /// What the driver needs of the kernel's own is loaded beforehand.
    LoadNeeded(Vec<LoadRequest>),
    /// The files to be loaded are read ahead.
    ReadAhead(Loads),
    /// What can come up in between is looked for once more.
    FindBlockersAgain,
    /// The first change: the blacklist is written.
    WriteBlacklist,
    /// The node is not ready any more.
    TakeReadinessAway,
    /// The snapshot becomes the truth.
    ArmSnapshot,
    /// All VFs go.
    RemoveVfs(Vec<GoingVfs>),
    /// A hook is run.
    RunHook(PathBuf),
    /// Modules are unloaded, in this order. It is made anew of what is loaded by then, and whenever one is held.
    Unload {
        /// How much of the stack goes.
        scope: UnloadScope,
        /// Which modules that is now.
        modules: Vec<ModuleName>,
    },
    /// The init script unloads and loads.
    Restart(Restart),
    /// Modules are loaded, in this order.
    Load(Loads),
    /// The same of what the init script has not loaded.
    LoadWhatScriptHasNot(Loads),
    /// What came up after the snapshot and was unloaded is loaded again. Nobody can plan for it.
    LoadLatecomers,
    /// The blacklist is removed.
    RemoveBlacklist,
    /// The PFs are waited for.
    AwaitPfs(Vec<DeviceAddress>),
}

/// The VFs of a PF, which go with its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GoingVfs {
    pub(super) pf: DeviceAddress,
    /// How many.
    pub(super) vfs: usize,
}

/// A step of the journal as a plan's JSON has it.
#[derive(Debug, Serialize)]
pub(super) struct ToldStep {
    #[serde(flatten)]
    form: StepForm,
    /// What makes it needless.
    #[serde(skip_serializing_if = "Option::is_none")]
    unless: Option<&'static str>,
}

/// What makes a load needless after the init script.
pub(super) const SCRIPT_HAS_LOADED_IT: &str = "the init script has loaded it";

impl PlannedStep {
    /// The steps of the journal that it is.
    pub(super) fn in_journal(&self) -> Vec<Step> {
        let loads =
            |loads: &Loads| loads.modules().map(|module| Step::Load { module: module.clone() }).collect();
        match self {
            Self::RemoveLeftoverBlacklist => vec![Step::RemoveLeftoverBlacklist],
            Self::FindBlockers | Self::FindBlockersAgain => vec![Step::FindBlockers],
            Self::BackUpModules => vec![Step::BackUpModules],
            Self::Observe | Self::ReadAhead(_) | Self::LoadLatecomers => Vec::new(),
            Self::EnsureSpace => vec![Step::EnsureSpace],
            Self::LoadNeeded(needed) => {
                let needed = needed.iter();
                needed.map(|request| Step::LoadNeeded { module: request.module.clone() }).collect()
            }
            Self::WriteBlacklist => vec![Step::WriteBlacklist],
            Self::TakeReadinessAway => vec![Step::TakeReadinessAway],
            Self::ArmSnapshot => vec![Step::ArmSnapshot],
            Self::RemoveVfs(going) => vec![Leaving::Running.remove_vfs(&pfs(going))],
            Self::RunHook(script) => vec![step_of_script(script)],
            Self::Unload { modules, .. } => {
                modules.iter().map(|module| Leaving::Running.unload(module.clone())).collect()
            }
            Self::Restart(restart) => restart.steps(),
            Self::Load(planned) | Self::LoadWhatScriptHasNot(planned) => loads(planned),
            Self::RemoveBlacklist => vec![Step::RemoveBlacklist],
            Self::AwaitPfs(pfs) => vec![Step::AwaitPfs { pfs: pfs.clone() }],
        }
    }

    /// The same for JSON.
    pub(super) fn told(&self) -> Vec<ToldStep> {
        let unless = matches!(self, Self::LoadWhatScriptHasNot(_)).then_some(SCRIPT_HAS_LOADED_IT);
        let form = |step: Step| StepForm::of(&step.into());
        self.in_journal().into_iter().map(|step| ToldStep { form: form(step), unless }).collect()
    }
}

/// The PFs of these.
pub(super) fn pfs(going: &[GoingVfs]) -> Vec<DeviceAddress> {
    going.iter().map(|going| going.pf.clone()).collect()
}
