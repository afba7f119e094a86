//! Carrying plans out.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use nic_host::{CommandError, Host, error_chain};
use walkdir::WalkDir;

use crate::command::OnFailure;
use crate::step::{CopyExtent, Plan, Step};

/// A step failed that the steps behind it cannot do without.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A command.
    #[error("cannot {purpose}{}", in_brackets(.notes))]
    Command {
        /// What it was for.
        purpose: String,
        /// What may be the cause.
        notes: Vec<String>,
        /// How it failed.
        #[source]
        source: CommandError,
    },
    /// A copy.
    #[error("cannot {purpose}: cannot copy {} to {}", from.display(), to.display())]
    Copy {
        /// What it was for.
        purpose: String,
        /// From where, as this process sees it.
        from: PathBuf,
        /// To where, as this process sees it.
        to: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn in_brackets(notes: &[String]) -> String {
    notes.iter().map(|note| format!(" ({note})")).collect()
}

impl Plan {
    /// Carries out the steps in order, and stops at the first that fails and must not.
    ///
    /// # Errors
    /// That step, with what the command said, secrets hidden.
    pub async fn apply(&self, host: &Host) -> Result<(), ApplyError> {
        for note in &self.notes {
            tracing::info!("{note}");
        }
        apply_steps(host, &self.steps, &self.notes).await
    }
}

type Applied<'a> = Pin<Box<dyn Future<Output = Result<(), ApplyError>> + Send + 'a>>;

fn apply_steps<'a>(host: &'a Host, steps: &'a [Step], notes: &'a [String]) -> Applied<'a> {
    Box::pin(async move {
        for step in steps {
            match step {
                Step::Run(command) => {
                    tracing::info!(command = %command, "{}", command.purpose);
                    let ended = host.run(&command.invocation()).await;
                    judge(
                        ended.map(drop).map_err(|source| ApplyError::Command {
                            purpose: command.purpose.clone(),
                            notes: notes.to_vec(),
                            source,
                        }),
                        command.on_failure,
                    )?;
                }
                Step::Copy { purpose, from, to, extent, on_failure } => {
                    tracing::info!(from = %from.display(), to = %to.display(), "{purpose}");
                    let (from, to) = (host.path(from), host.path(to));
                    let copied = copy(&from, &to, *extent);
                    let error = |source| ApplyError::Copy { purpose: purpose.clone(), from, to, source };
                    judge(copied.map_err(error), *on_failure)?;
                }
                Step::If { test, then, otherwise } => {
                    tracing::info!(command = %test, "{}", test.purpose);
                    let steps = match host.run(&test.invocation()).await {
                        Ok(_) => then,
                        Err(error) => {
                            tracing::info!(error = error_chain(&error), "the answer is no");
                            otherwise
                        }
                    };
                    apply_steps(host, steps, notes).await?;
                }
            }
        }
        Ok(())
    })
}

fn judge(result: Result<(), ApplyError>, on_failure: OnFailure) -> Result<(), ApplyError> {
    match (result, on_failure) {
        (Ok(()), _) => Ok(()),
        (Err(error), OnFailure::Fatal) => Err(error),
        (Err(error), OnFailure::Warning) => {
            tracing::warn!(error = error_chain(&error), "a step failed; what it was for is done without");
            Ok(())
        }
        (Err(error), OnFailure::Ignored) => {
            tracing::info!(error = error_chain(&error), "an attempt failed, as it may");
            Ok(())
        }
    }
}

/// Copies with permissions, so that what only root may read stays so. Links are copied as links.
fn copy(from: &Path, to: &Path, extent: CopyExtent) -> io::Result<()> {
    if extent == CopyExtent::File {
        return copy_file(from, to);
    }
    for entry in WalkDir::new(from).min_depth(1).sort_by_file_name() {
        let entry = entry?;
        let Ok(below) = entry.path().strip_prefix(from) else { continue };
        let target = to.join(below);
        let is_there = target.symlink_metadata().is_ok();
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(&target)?;
        } else if !(is_there && extent == CopyExtent::MissingFiles) {
            copy_file(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::read_link(from) {
        Ok(target) => {
            if to.symlink_metadata().is_ok() {
                std::fs::remove_file(to)?;
            }
            std::os::unix::fs::symlink(target, to)
        }
        Err(_) => std::fs::copy(from, to).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use nic_host::{Captured, Replay};

    use super::*;
    use crate::command::PlannedCommand;

    fn command(line: &str, on_failure: OnFailure) -> PlannedCommand {
        PlannedCommand::new(format!("do {line}"), line.split(' ')).on_failure(on_failure)
    }

    fn host(replay: &Replay) -> Host {
        Host::at("/nonexistent").with_replay(replay.clone())
    }

    fn failed() -> Captured {
        Captured { code: Some(1), stdout: String::new(), stderr: "no route\n".to_owned() }
    }

    #[tokio::test]
    async fn only_a_fatal_step_ends_a_plan() {
        let steps = [
            command("a", OnFailure::Ignored).into(),
            command("b", OnFailure::Warning).into(),
            command("c", OnFailure::Fatal).into(),
            command("d", OnFailure::Fatal).into(),
        ];
        let plan = Plan { notes: vec!["no registration is visible".to_owned()], steps: steps.to_vec() };
        let replay = Replay::default().answer("a", failed()).answer("b", failed()).answer("c", failed());
        let error = plan.apply(&host(&replay)).await.unwrap_err();
        assert_eq!(
            error_chain(&error),
            "cannot do c (no registration is visible): `c` failed (exit code 1): no route"
        );
        assert_eq!(replay.asked(), ["a", "b", "c"]);
        let replay = replay.answer("c", Captured::success("")).answer("d", Captured::success(""));
        plan.apply(&host(&replay)).await.unwrap();
    }

    #[tokio::test]
    async fn a_question_is_answered_by_how_its_command_ends() {
        let nested = Step::If {
            test: command("inner", OnFailure::Fatal),
            then: vec![],
            otherwise: vec![command("undo", OnFailure::Fatal).into()],
        };
        let plan = Plan::of([
            Step::If {
                test: command("ask", OnFailure::Fatal),
                then: vec![command("yes", OnFailure::Fatal).into()],
                otherwise: vec![nested],
            },
            command("last", OnFailure::Fatal).into(),
        ]);
        let all = Replay::default()
            .answer("yes", Captured::success(""))
            .answer("undo", Captured::success(""))
            .answer("last", Captured::success(""));
        for (ask, inner, expected) in [
            (Captured::success(""), failed(), &["ask", "yes", "last"][..]),
            (failed(), Captured::success(""), &["ask", "inner", "last"]),
            (failed(), failed(), &["ask", "inner", "undo", "last"]),
        ] {
            let fresh = Replay::default()
                .answer("yes", Captured::success(""))
                .answer("undo", Captured::success(""))
                .answer("last", Captured::success(""))
                .answer("ask", ask)
                .answer("inner", inner);
            plan.apply(&host(&fresh)).await.unwrap();
            assert_eq!(fresh.asked(), expected);
        }
        // A question that no one can answer is a no, and what fails behind it is fatal.
        assert!(plan.apply(&host(&all)).await.is_ok());
        assert_eq!(all.asked(), ["ask", "inner", "undo", "last"]);
    }

    #[tokio::test]
    async fn files_of_the_host_are_copied_with_their_permissions() {
        use std::fs;
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for (path, text) in [
            ("host/etc/apt/sources.list", "host"),
            ("host/etc/apt/auth.conf.d/90pro", "token"),
            ("etc/apt/sources.list", "own"),
            ("etc/apt/own.list", "own"),
        ] {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), text).unwrap();
        }
        fs::set_permissions(at("host/etc/apt/auth.conf.d/90pro"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("sources.list", at("host/etc/apt/link")).unwrap();
        symlink("own.list", at("etc/apt/link")).unwrap();
        let host = Host::at(dir.path());
        let plan = |extent, on_failure, from: &str| {
            Plan::of([Step::Copy {
                purpose: "take over the host's apt".to_owned(),
                from: from.into(),
                to: "/etc/apt".into(),
                extent,
                on_failure,
            }])
        };
        plan(CopyExtent::MissingFiles, OnFailure::Fatal, "/host/etc/apt").apply(&host).await.unwrap();
        assert_eq!(fs::read_to_string(at("etc/apt/sources.list")).unwrap(), "own");
        assert_eq!(fs::read_to_string(at("etc/apt/auth.conf.d/90pro")).unwrap(), "token");
        plan(CopyExtent::Folder, OnFailure::Fatal, "/host/etc/apt").apply(&host).await.unwrap();
        assert_eq!(fs::read_to_string(at("etc/apt/sources.list")).unwrap(), "host");
        assert_eq!(fs::read_to_string(at("etc/apt/own.list")).unwrap(), "own");
        assert_eq!(fs::read_link(at("etc/apt/link")).unwrap(), Path::new("sources.list"));
        let mode = fs::metadata(at("etc/apt/auth.conf.d/90pro")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let error = plan(CopyExtent::Folder, OnFailure::Fatal, "/host/none").apply(&host).await.unwrap_err();
        assert!(error.to_string().contains("host/none to"), "{error}");
        plan(CopyExtent::File, OnFailure::Warning, "/host/none").apply(&host).await.unwrap();
    }
}
