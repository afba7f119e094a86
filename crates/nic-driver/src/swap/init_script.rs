//! The vendor's init script, which can unload and load the stack in this program's stead.

use std::path::PathBuf;
use std::time::Duration;

use nic_host::{CommandError, Invocation, ListError};
use nic_kmod::{IdentityError, IdentityReport, IdentityVerdict, ModuleIndex, ReadLoadedError};

use super::blocker::{Blocker, BlockerKind};
use crate::context::{Context, ReloadWith};
use crate::state::{PhaseRecord, Step};

/// The init script unloads and loads one module after the other, and sleeps in between.
const OPERATIONS_OF_INIT_SCRIPT: u32 = 5;

/// The init script did not swap the modules.
#[derive(Debug, thiserror::Error)]
pub enum InitScriptError {
    /// The family has no init script.
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

/// Whoever asks for the init script must have it.
pub(crate) fn init_script_missing(context: &Context) -> Option<Blocker> {
    if context.settings.reload_with == ReloadWith::Native {
        return None;
    }
    let (what, remedy) = match &context.family.scripts.init {
        Some(script) if context.host.is_executable(script) => return None,
        Some(script) => {
            let is = if context.host.exists(script) { "cannot be executed" } else { "is not there" };
            (
                format!("the init script {} {is}", script.display()),
                "install the packages that it comes with, or reload",
            )
        }
        None => (format!("the NIC family {} has no init script", context.family.name), "reload"),
    };
    let remedy = format!("{remedy} with --reload-with native");
    Some(Blocker { kind: BlockerKind::InitScript, what, modules: Vec::new(), remedy, user: None })
}

/// One that is at work unloads and loads modules under this program's hands: somebody else's, or what a process that was
/// killed has left behind. It does not matter then who is to do the reload.
pub(crate) fn init_script_at_work(context: &Context) -> Result<Option<Blocker>, ListError> {
    let Some(script) = &context.family.scripts.init else { return Ok(None) };
    let runs = |pid: &u32| {
        // A process that has ended meanwhile runs nothing any more.
        let words = context.host.read_bytes(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = words.split(|byte| *byte == 0);
        let is_script = |word: Option<&[u8]>| word == Some(script.as_os_str().as_encoded_bytes());
        // The kernel puts the interpreter in front. What else has the script's name among its words only reads it.
        let first = words.next();
        is_script(first) || first.is_some_and(|program| program.ends_with(b"sh")) && is_script(words.next())
    };
    let processes = context.host.list("/proc")?;
    let pid = processes.iter().filter_map(|name| name.parse().ok()).find(runs);
    Ok(pid.map(|pid| Blocker {
        kind: BlockerKind::InitScript,
        what: format!("process {pid} runs {}", script.display()),
        modules: Vec::new(),
        remedy: "wait until it has ended".to_owned(),
        user: None,
    }))
}

/// Unloads and loads the stack with the vendor's init script. It runs the hooks itself.
pub(crate) async fn restart_by_init_script(
    context: &Context,
    phase: &PhaseRecord,
    deadline: Duration,
) -> Result<(), InitScriptError> {
    let script = init_script(context)?;
    let restart =
        Invocation::new(script).arg("restart").deadline(deadline.saturating_mul(OPERATIONS_OF_INIT_SCRIPT));
    let step = phase.step(Step::Run { command: restart.to_string() });
    step.record(context.host.run(&restart).await)?;
    Ok(())
}

/// The script exits with 0 also when it has done nothing, such as without its configuration.
pub(crate) fn ensure_swapped(context: &Context, index: &ModuleIndex) -> Result<(), InitScriptError> {
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
