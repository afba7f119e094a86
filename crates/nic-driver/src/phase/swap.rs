//! The critical part of a reload: from here until the restore has ended, the node is without its NIC.

use std::path::PathBuf;
use std::time::Duration;

use nic_host::{CommandError, Invocation};
use nic_kmod::{IdentityError, IdentityReport, IdentityVerdict, LoadedModules, ModuleIndex, ReadLoadedError};
use nic_sriov::{DeviceAddress, remove_vfs};

use super::hooks::{Hook, run_hook};
use super::modules::{Part, PreparedLoads, load_latecomers, unload_stack};
use super::reload::{ModuleTree, ReloadError};
use super::{Context, ReloadWith};
use crate::report::NIC_GOES;
use crate::state::{PhaseRecord, Snapshot};

/// The init script unloads and loads one module after the other, and sleeps in between.
const OPERATIONS_OF_INIT_SCRIPT: u32 = 5;

/// What is exchanged for what.
pub(super) struct Swap<'a> {
    pub(super) tree: &'a ModuleTree,
    pub(super) index: &'a ModuleIndex,
    pub(super) snapshot: &'a Snapshot,
    /// What one operation may take.
    pub(super) deadline: Duration,
}

/// The init script did not exchange the modules.
#[derive(Debug, thiserror::Error)]
pub enum InitScriptError {
    /// There is none.
    #[error("the NIC family {family} has no init script")]
    NoScript {
        /// The family.
        family: String,
    },
    /// It failed, or did not end in time.
    #[error("the init script failed")]
    Run(#[from] CommandError),
    /// It said that all is well, and others than the installed modules run.
    #[error("{} said that all is well, and yet these are not the installed ones: {}", script.display(), modules.join(", "))]
    NotExchanged {
        /// The script.
        script: PathBuf,
        /// The modules, each with how it differs.
        modules: Vec<String>,
    },
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// What it did could not be compared.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Takes the VFs and the loaded modules away, and loads the installed ones.
pub(super) async fn swap(
    context: &Context,
    phase: &PhaseRecord,
    swap: &Swap<'_>,
    loads: PreparedLoads,
) -> Result<(), ReloadError> {
    let host = &context.host;
    let Swap { tree, index, snapshot, deadline } = *swap;
    let pfs: Vec<DeviceAddress> = snapshot.nics.pfs.iter().map(|pf| pf.address.clone()).collect();
    let step = phase.step(NIC_GOES);
    if let Some(error) = remove_vfs(host, &pfs, context.settings.jobs, deadline).await.into_iter().next() {
        step.failed(&error);
        return Err(error.into());
    }
    step.ok(None);
    let gone = match context.settings.reload_with {
        ReloadWith::Native => {
            run_hook(context, phase, Hook::PreStop, deadline).await;
            let gone = unload_stack(context, phase, Part::Whole, deadline).await?;
            run_hook(context, phase, Hook::PostStop, deadline).await;
            run_hook(context, phase, Hook::PreStart, deadline).await;
            loads.load(context, phase, deadline).await?;
            run_hook(context, phase, Hook::PostStart, deadline).await;
            gone
        }
        ReloadWith::Openibd => {
            // The script refuses to stop with most of these loaded, and knows nothing of the others.
            let gone = unload_stack(context, phase, Part::OnTop, deadline).await?;
            restart_by_init_script(context, phase, deadline).await?;
            // It loads what its configuration names, and nothing of what was loaded besides.
            let loaded = LoadedModules::read_graph(host)?;
            loads.without_loaded(&loaded).load(context, phase, deadline).await?;
            ensure_exchanged(context, index)?;
            gone
        }
    };
    let latecomers = gone.iter().filter(|module| !snapshot.modules.contains(module));
    load_latecomers(context, phase, tree, index, latecomers, deadline).await;
    Ok(())
}

/// Unloads and loads the stack with the vendor's init script. It runs the hooks itself.
async fn restart_by_init_script(
    context: &Context,
    phase: &PhaseRecord,
    deadline: Duration,
) -> Result<(), InitScriptError> {
    let script = init_script(context)?;
    let restart =
        Invocation::new(script).arg("restart").deadline(deadline.saturating_mul(OPERATIONS_OF_INIT_SCRIPT));
    let step = phase.step(format!("run {restart}"));
    step.record(context.host.run(&restart).await)?;
    Ok(())
}

/// The script exits with 0 also when it has done nothing, such as without its configuration.
fn ensure_exchanged(context: &Context, index: &ModuleIndex) -> Result<(), InitScriptError> {
    let identity = IdentityReport::read(&context.host, index, &context.family.modules.identity)?;
    let differs = |verdict: &IdentityVerdict| matches!(verdict, IdentityVerdict::Different(_));
    let others = identity.modules.iter().filter(|module| differs(&module.verdict));
    let modules: Vec<String> =
        others.map(|module| format!("{} ({})", module.module, module.verdict)).collect();
    if modules.is_empty() {
        return Ok(());
    }
    Err(InitScriptError::NotExchanged { script: init_script(context)?.clone(), modules })
}

fn init_script(context: &Context) -> Result<&PathBuf, InitScriptError> {
    let script = context.family.scripts.init.as_ref();
    script.ok_or_else(|| InitScriptError::NoScript { family: context.family.name.clone() })
}
