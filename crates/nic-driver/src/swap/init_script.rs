//! The vendor's init script, which can unload and load the stack in this program's stead.

use std::path::PathBuf;
use std::time::Duration;

use nic_host::{CommandError, ForeignWord, HOST_MOUNT, Invocation, ListError};
use nic_kmod::{IdentityError, IdentityReport, IdentityVerdict, ModuleIndex, ReadLoadedError};
use nic_packages::DistributionFamily;

use super::blocker::{Blocker, BlockerKind};
use crate::context::{Context, ReloadWith};
use crate::state::{PhaseRecord, Purpose, Step};

/// The init script unloads and loads one module after the other, and sleeps in between.
const OPERATIONS_OF_INIT_SCRIPT: u32 = 5;

/// Where it is, the init script brings interfaces of IPoIB up with it.
const IFUP: &str = "/sbin/ifup";
/// Its name meanwhile.
const IFUP_ASIDE: &str = "/sbin/ifup.nic-driver";
/// What describes interfaces to it.
const INTERFACES: &str = "/etc/network/interfaces";

/// The init script did not swap the modules.
#[derive(Debug, thiserror::Error)]
pub enum InitScriptError {
    /// The family has no init script.
    #[error("the NIC family {} has no init script", ForeignWord(family))]
    NoScript {
        /// The family.
        family: String,
    },
    /// It failed, or did not end in time.
    #[error("the init script failed")]
    Run(#[from] CommandError),
    /// What it would fail for stays in its way.
    #[error("{IFUP} cannot be moved out of the init script's way")]
    Ifup(#[source] CommandError),
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
        Some(script) if context.host.is_executable(script) => match context.host.ensure_trusted(script) {
            Ok(()) => return None,
            Err(error) => (
                format!("the init script {}", crate::error_chain(&error)),
                "let root alone write it and the folders above it, or reload",
            ),
        },
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

/// A restart of the stack by the init script, with what is moved out of its way.
#[derive(Debug, Clone)]
pub(crate) struct Restart {
    script: PathBuf,
    /// Whether ifup is moved away before.
    moves_away: bool,
    /// Whether it is moved back afterwards: also what a process has left that was killed meanwhile.
    moves_back: bool,
}

impl Restart {
    /// Looks at what is in the script's way.
    pub(crate) fn observe(context: &Context) -> Result<Self, InitScriptError> {
        let moves_away = is_ifup_in_the_way(context);
        let is_aside = context.host.exists(IFUP_ASIDE) && !context.host.exists(IFUP);
        Ok(Self { script: init_script(context)?.clone(), moves_away, moves_back: moves_away || is_aside })
    }

    /// Its steps, in order.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let away = self.moves_away.then(|| step_of(&renaming(IFUP, IFUP_ASIDE), Purpose::MoveFile));
        let back = self.moves_back.then(|| step_of(&renaming(IFUP_ASIDE, IFUP), Purpose::MoveFile));
        away.into_iter().chain([step_of(&self.invocation(), Purpose::InitScript)]).chain(back).collect()
    }

    fn invocation(&self) -> Invocation {
        Invocation::new(&self.script).arg("restart")
    }
}

fn renaming(from: &str, to: &str) -> Invocation {
    Invocation::new("mv").arg(from).arg(to)
}

fn step_of(invocation: &Invocation, purpose: Purpose) -> Step {
    Step::Run { command: invocation.to_string(), purpose }
}

/// Unloads and loads the stack with the vendor's init script. It runs the hooks itself.
pub(crate) async fn restart_by_init_script(
    context: &Context,
    phase: &PhaseRecord,
    restart: &Restart,
    deadline: Duration,
) -> Result<(), InitScriptError> {
    if restart.moves_away {
        rename(context, phase, IFUP, IFUP_ASIDE, deadline).await.map_err(InitScriptError::Ifup)?;
    }
    let invocation = restart.invocation().deadline(deadline.saturating_mul(OPERATIONS_OF_INIT_SCRIPT));
    let step = phase.step(step_of(&invocation, Purpose::InitScript));
    let restarted = step.record(context.host.run(&invocation).await);
    if restart.moves_back
        && let Err(error) = rename(context, phase, IFUP_ASIDE, IFUP, deadline).await
    {
        tracing::warn!(
            error = crate::error_chain(&error),
            "{IFUP} is not put back: nothing of the driver uses it"
        );
    }
    restarted?;
    Ok(())
}

/// In Ubuntu's containers interfaces are the host's, and nothing describes them here: ifup would fail, and the script with it. A host's
/// own is left alone.
fn is_ifup_in_the_way(context: &Context) -> bool {
    let is_container = context.host.exists(HOST_MOUNT);
    context.distribution == Some(DistributionFamily::Debian)
        && is_container
        && context.host.exists(IFUP)
        && !context.host.exists(INTERFACES)
}

async fn rename(
    context: &Context,
    phase: &PhaseRecord,
    from: &str,
    to: &str,
    deadline: Duration,
) -> Result<(), CommandError> {
    let rename = renaming(from, to).deadline(deadline);
    let step = phase.step(step_of(&rename, Purpose::MoveFile));
    step.record(context.host.run(&rename).await).map(|_| ())
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

#[cfg(test)]
mod tests {
    use std::fs;

    use nic_host::{Captured, Host, Replay};

    use super::*;
    use crate::fixture;
    use crate::state::{Entry, Journal, Phase};

    const RESTART: &str = "/etc/init.d/openibd restart";
    const AWAY: &str = "mv /sbin/ifup /sbin/ifup.nic-driver";
    const BACK: &str = "mv /sbin/ifup.nic-driver /sbin/ifup";

    /// What is run on a machine that has these files, where the commands of `failing` fail; and whether that is an error.
    async fn run(
        os_release: &str,
        files: &[&str],
        failing: &[&str],
    ) -> (Vec<String>, Result<(), InitScriptError>) {
        let dir = tempfile::tempdir().unwrap();
        let texts = [
            ("proc/sys/kernel/osrelease", "6.8.0-31-generic\n"),
            ("proc/sys/kernel/random/boot_id", "boot\n"),
            ("etc/os-release", os_release),
        ];
        for (file, text) in texts.into_iter().chain(files.iter().map(|file| (*file, ""))) {
            fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
            fs::write(dir.path().join(file), text).unwrap();
        }
        let mut context = fixture::context(Host::at(dir.path()), &dir.path().join("state"));
        let failed = Captured { code: Some(1), stdout: String::new(), stderr: String::new() };
        let replay = [RESTART, AWAY, BACK].into_iter().fold(Replay::default(), |replay, command| {
            let fails = failing.contains(&command);
            replay.answer(command, if fails { failed.clone() } else { Captured::success("") })
        });
        context.host = context.host.with_replay(replay.clone());
        let phase = context.journal.phase(Phase::Reload);
        let restart = Restart::observe(&context).unwrap();
        let restarted = restart_by_init_script(&context, &phase, &restart, Duration::from_secs(1)).await;
        let begun = Journal::read(&context.store).unwrap().into_iter().filter_map(|line| match line.entry {
            Entry::StepBegan { step, .. } => step.known().cloned(),
            _ => None,
        });
        let begun: Vec<Step> = begun.collect();
        let planned = restart.steps();
        assert!(planned.starts_with(&begun), "{planned:?} was planned, and {begun:?} done");
        assert!(restarted.is_err() || begun == planned, "{planned:?} was planned, and {begun:?} done");
        (replay.asked(), restarted)
    }

    #[tokio::test]
    async fn ifup_is_out_of_the_way_in_ubuntus_containers_where_nothing_describes_interfaces() {
        const UBUNTU: &str = "ID=ubuntu\nID_LIKE=debian\n";
        let container = ["host/etc/hostname", "sbin/ifup"];
        let described = ["host/etc/hostname", "sbin/ifup", "etc/network/interfaces"];
        for (os_release, files, expected) in [
            (UBUNTU, &container[..], &[AWAY, RESTART, BACK][..]),
            (UBUNTU, &described, &[RESTART]),
            (UBUNTU, &["host/etc/hostname"], &[RESTART]),
            // No container: it is the host's own.
            (UBUNTU, &["sbin/ifup"], &[RESTART]),
            ("ID=rhel\n", &container, &[RESTART]),
            // Left by a process that was killed.
            (UBUNTU, &["host/etc/hostname", "sbin/ifup.nic-driver"], &[RESTART, BACK]),
        ] {
            let (asked, restarted) = run(os_release, files, &[]).await;
            restarted.unwrap();
            assert_eq!(asked, expected, "{os_release} {files:?}");
        }
        let (asked, restarted) = run(UBUNTU, &container, &[RESTART]).await;
        assert!(
            matches!(restarted, Err(InitScriptError::Run(_))) && asked == [AWAY, RESTART, BACK],
            "{asked:?}"
        );
        let (asked, restarted) = run(UBUNTU, &container, &[AWAY]).await;
        assert!(matches!(restarted, Err(InitScriptError::Ifup(_))) && asked == [AWAY], "{asked:?}");
        let (_, restarted) = run(UBUNTU, &container, &[BACK]).await;
        restarted.unwrap();
    }
}
