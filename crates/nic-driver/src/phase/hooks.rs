//! The administrator's scripts around the unloading and the loading of the stack.
//!
//! MLNX_OFED's init script runs them, where they are executable, and goes on whatever comes of them
//! (`ofed_scripts/openibd` in its kernel sources). Services that must not see the stack go are stopped and started in
//! them, so they are run wherever the stack is unloaded and loaded without that script: also while going back.

use std::fmt;
use std::time::Duration;

use nic_host::Invocation;

use super::Context;
use crate::state::PhaseRecord;

/// When a hook is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    /// Before the first module is unloaded.
    PreStop,
    /// After the last one was unloaded.
    PostStop,
    /// Before the first module is loaded.
    PreStart,
    /// After the last one was loaded.
    PostStart,
}

/// Its file's name.
impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PreStop => "pre-stop-hook.sh",
            Self::PostStop => "post-stop-hook.sh",
            Self::PreStart => "pre-start-hook.sh",
            Self::PostStart => "post-start-hook.sh",
        })
    }
}

/// Runs a hook, where the family has hooks and this one is there and executable.
///
/// Its failure is told, and is not the reload's: the init script does not heed it either, and in the midst of an
/// exchange going on is better than stopping. It has ended when this returns; the deadline sees to that.
pub(super) async fn run_hook(context: &Context, phase: &PhaseRecord, hook: Hook, deadline: Duration) {
    let Some(folder) = &context.family.scripts.hooks else { return };
    let script = folder.join(hook.to_string());
    if !context.host.is_executable(&script) {
        if context.host.exists(&script) {
            tracing::warn!(script = %script.display(), "it is not executable, and not run");
        }
        return;
    }
    let step = phase.step(format!("run {}", script.display()));
    if let Err(error) = step.record(context.host.run(&Invocation::new(script).deadline(deadline)).await) {
        tracing::warn!(error = crate::error_chain(&error), "a hook failed");
    }
}
