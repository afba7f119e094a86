//! The administrator's scripts around the unloading and the loading of the stack.
//!
//! MLNX_OFED's init script runs them, where they are executable, and goes on whatever comes of them
//! (`ofed_scripts/openibd` in its kernel sources). Services that must not see the stack go are stopped and started in
//! them, so they are run wherever the stack is unloaded and loaded without that script: also while going back.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nic_host::Invocation;

use super::foreseen::LeftOut;
use crate::context::Context;
use crate::state::{PhaseRecord, Purpose, Step};

/// When a hook is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Before the first module is unloaded.
    PreStop,
    /// After the last one was unloaded.
    PostStop,
    /// Before the first module is loaded.
    PreStart,
    /// After the last one was loaded.
    PostStart,
}

/// The name of the hook's file.
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
/// Its failure is told, and is not the reload's: the init script does not heed it either, and in the middle of a
/// swap going on is better than stopping. It has ended when this returns; the deadline sees to that.
pub(super) async fn run_hook(context: &Context, phase: &PhaseRecord, hook: Hook, deadline: Duration) {
    let Some(script) = script_of(context, hook) else { return };
    if context.host.is_executable(&script) {
        run_script(context, phase, &script, deadline).await;
    } else {
        tracing::warn!(script = %script.display(), "the hook script is not executable, and not run");
    }
}

/// The hook's script, where it is there.
fn script_of(context: &Context, hook: Hook) -> Option<PathBuf> {
    let script = context.family.scripts.hooks.as_ref()?.join(hook.to_string());
    context.host.exists(&script).then_some(script)
}

/// The scripts that a swap runs, and those that it does not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hooks {
    scripts: Vec<(Hook, PathBuf)>,
    pub(crate) left_out: Vec<LeftOut>,
}

impl Hooks {
    /// Looks which hooks there are, and whether they may be run.
    pub(crate) fn find(context: &Context) -> Self {
        let mut hooks = Self::default();
        for hook in [Hook::PreStop, Hook::PostStop, Hook::PreStart, Hook::PostStart] {
            let Some(script) = script_of(context, hook) else { continue };
            let name = || format!("the hook {}", script.display());
            if !context.host.is_executable(&script) {
                hooks.left_out.push(LeftOut::new(name(), "the file is not executable"));
            } else if let Err(error) = context.host.ensure_trusted(&script) {
                hooks.left_out.push(LeftOut::new(name(), crate::error_chain(&error)));
            } else {
                hooks.scripts.push((hook, script));
            }
        }
        hooks
    }

    /// The script of this hook, where it is run.
    pub(crate) fn script(&self, hook: Hook) -> Option<&Path> {
        self.scripts.iter().find(|(of, _)| *of == hook).map(|(_, script)| script.as_path())
    }
}

/// The step that a hook's script is.
pub(crate) fn step_of_script(script: &Path) -> Step {
    Step::Run { command: script.display().to_string(), purpose: Purpose::Hook }
}

/// Runs a hook's script. Whether others may write it is asked again.
pub(crate) async fn run_script(context: &Context, phase: &PhaseRecord, script: &Path, deadline: Duration) {
    let step = phase.step(step_of_script(script));
    if let Err(error) = context.host.ensure_trusted(script) {
        tracing::warn!(error = crate::error_chain(&error), "a hook script that others may write is not run");
        step.failed(&error);
        return;
    }
    if let Err(error) = step.record(context.host.run(&Invocation::new(script).deadline(deadline)).await) {
        tracing::warn!(error = crate::error_chain(&error), "a hook failed");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use nic_host::Host;

    use super::*;
    use crate::fixture;
    use crate::state::{Entry, Journal, Phase};

    const SHORT: Duration = Duration::from_millis(300);

    /// Runs the hook with this text and permissions; returns the steps that the journal then has, each with how it ended.
    async fn steps(text: Option<(&str, u32)>) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let mut context = fixture::context(Host::running(), &dir.path().join("state"));
        context.family.scripts.hooks = Some(dir.path().to_path_buf());
        if let Some((text, mode)) = text {
            let script = dir.path().join("pre-stop-hook.sh");
            fs::write(&script, text).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(mode)).unwrap();
        }
        let phase = context.journal.phase(Phase::Reload);
        run_hook(&context, &phase, Hook::PreStop, SHORT).await;
        let ended =
            Journal::read(&context.store).unwrap().into_iter().filter_map(|event| match event.entry {
                Entry::StepEnded { step, outcome, detail, .. } => {
                    Some(format!("{step}: {outcome:?} {}", detail.unwrap_or_default()))
                }
                _ => None,
            });
        let folder = dir.path().display().to_string();
        ended.map(|line| line.replace(&folder, "/etc/infiniband").trim_end().to_owned()).collect()
    }

    #[tokio::test]
    async fn what_comes_of_a_hook_is_in_the_journal_and_stops_nothing() {
        let ran = "run /etc/infiniband/pre-stop-hook.sh";
        let told = "`/etc/infiniband/pre-stop-hook.sh`";
        for (text, expected) in [
            ("#!/bin/sh\nexit 0\n", format!("{ran}: Ok")),
            ("#!/bin/sh\necho no >&2\nexit 3\n", format!("{ran}: Failed {told} failed (exit code 3): no")),
            ("#!/bin/sh\nsleep 60\n", format!("{ran}: Failed {told} has not ended after 300ms")),
        ] {
            assert_eq!(steps(Some((text, 0o755))).await, [expected], "{text}");
        }
    }

    #[tokio::test]
    async fn fault_7_2_a_hook_that_others_may_write_is_not_run() {
        let [line] = &steps(Some(("#!/bin/sh\ntouch \"${0%/*}/ran\"\n", 0o777))).await[..] else { panic!() };
        assert!(line.starts_with("run /etc/infiniband/pre-stop-hook.sh: Failed"), "{line}");
        assert!(line.ends_with("pre-stop-hook.sh may be written by others (mode 0777)"), "{line}");
    }

    #[tokio::test]
    async fn fault_5_1_a_hook_that_leaves_a_daemon_has_ended() {
        let steps = steps(Some(("#!/bin/sh\nsleep 2 &\n", 0o755))).await;
        assert_eq!(steps, ["run /etc/infiniband/pre-stop-hook.sh: Ok"]);
    }

    #[tokio::test]
    async fn what_cannot_be_executed_is_not_run() {
        assert_eq!(steps(None).await, Vec::<String>::new());
        assert_eq!(steps(Some(("#!/bin/sh\nexit 0\n", 0o644))).await, Vec::<String>::new());
    }
}
