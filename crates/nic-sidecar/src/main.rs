//! The `nic-driver-sidecar` program: what the build sidecar executes as `entrypoint dtk-build`. All its settings are variables.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use nic_build::{Proxies, programs_of_this_process};
use nic_dtk::{DtkEnv, DtkEnvError};
use nic_host::{Foreign, Host, error_chain};
use nic_sidecar::{ServeError, dtk_build};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

const NAME: &str = env!("CARGO_BIN_NAME");
const FILTER: &str = "NIC_DRIVER_LOG";
const FORMAT: &str = "NIC_DRIVER_LOG_FORMAT";
const HELP: &str = "\
The build sidecar of nic-driver: builds what the driver container asks for, and stays until told to stop.

Usage: nic-driver-sidecar dtk-build | --help | --version

All other commands are nic-driver's. The variables are those of dtk.env, HTTP_PROXY, HTTPS_PROXY and NO_PROXY, and:

  NIC_DRIVER_LOG         what is logged, as a tracing filter [default: info]
  NIC_DRIVER_LOG_FORMAT  text or json [default: text]

Exit codes: 0 stopped as asked; 2 wrong usage; 1 the shared folder cannot be used.
";

/// What is asked for on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    DtkBuild,
    Help,
    Version,
}

/// The command line or a variable is wrong.
#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error("no command is given; {NAME} has dtk-build")]
    NoCommand,
    #[error("{} is not a command of {NAME}, which has dtk-build alone; all others are nic-driver's", Foreign(&.0.to_string_lossy()))]
    OtherCommand(OsString),
    #[error("{} is superfluous: the settings of {NAME} are variables", Foreign(&.0.to_string_lossy()))]
    Superfluous(OsString),
    #[error(transparent)]
    DtkEnv(#[from] DtkEnvError),
    #[error("{FORMAT}={} is neither text nor json", Foreign(.0))]
    Format(String),
    #[error("{FILTER}={} is no filter for logs", Foreign(text))]
    Filter {
        text: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// The program failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("cannot listen to signals and timers")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("cannot print")]
    Print(#[source] io::Error),
}

fn main() -> ExitCode {
    let Err(failure) = run() else { return ExitCode::SUCCESS };
    let code = if matches!(failure, Failure::Usage(_)) { 2 } else { 1 };
    if let Err(error) = writeln!(io::stderr(), "{NAME}: {}", error_chain(&failure)) {
        tracing::debug!(%error, "stderr is closed");
    }
    code.into()
}

fn run() -> Result<(), Failure> {
    match asked(std::env::args_os().skip(1))? {
        Asked::DtkBuild => serve(),
        Asked::Help => print(HELP),
        Asked::Version => print(&format!("{NAME} {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

fn asked(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, UsageError> {
    let mut arguments = arguments.into_iter();
    let command = arguments.next().ok_or(UsageError::NoCommand)?;
    let asked = match command.to_str() {
        Some("dtk-build") => Asked::DtkBuild,
        Some("--help" | "-h") => Asked::Help,
        Some("--version" | "-V") => Asked::Version,
        _ => return Err(UsageError::OtherCommand(command)),
    };
    arguments.next().map_or(Ok(asked), |more| Err(UsageError::Superfluous(more)))
}

fn print(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(Failure::Print)
}

fn serve() -> Result<(), Failure> {
    // A variable that is no text is none of those that are looked for.
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let variables: BTreeMap<String, String> = std::env::vars_os().filter_map(text).collect();
    set_up_logs(&variables)?;
    let env = DtkEnv::from_variables(&variables).map_err(UsageError::from)?;
    let proxies = Proxies::from_environment(variables);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let served = runtime.block_on(async {
        let stop = stop_signal().map_err(Failure::Runtime)?;
        let host = Host::running().with_programs(programs_of_this_process());
        dtk_build(&host, &env, &proxies, stop).await.map_err(Failure::from)
    });
    // A read that hangs in the kernel must not keep the process from ending.
    runtime.shutdown_background();
    served
}

fn set_up_logs(variables: &BTreeMap<String, String>) -> Result<(), UsageError> {
    let given = |name| variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let text = given(FILTER).unwrap_or("info");
    let wrong = |source| UsageError::Filter { text: text.to_owned(), source };
    let filter = EnvFilter::try_new(text).map_err(|error| wrong(error.into()))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let installed = match given(FORMAT) {
        None | Some("text") => subscriber.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        Some("json") => subscriber.json().try_init(),
        Some(other) => return Err(UsageError::Format(other.to_owned())),
    };
    installed.map_err(wrong)
}

/// Ready with the first SIGTERM or SIGINT; the second ends the process at once. A PID 1 needs it also to be ended by a signal at
/// all.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (first, stop) = oneshot::channel();
    tokio::spawn(async move {
        let kind = next(&mut terminate, &mut interrupt).await;
        tracing::warn!(
            signal = kind.as_raw_value(),
            "asked to stop: a build is killed; a second signal ends all at once"
        );
        // Nobody listens any more where the end has already come.
        let _ = first.send(());
        let kind = next(&mut terminate, &mut interrupt).await;
        std::process::exit(128 + kind.as_raw_value());
    });
    // The sender is let go of only behind the signal.
    Ok(async move { stop.await.unwrap_or_default() })
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> SignalKind {
    tokio::select! {
        _ = terminate.recv() => SignalKind::terminate(),
        _ = interrupt.recv() => SignalKind::interrupt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_by(words: &[&str]) -> Result<Asked, String> {
        asked(words.iter().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_in_it_is_named() {
        assert_eq!(asked_by(&["dtk-build"]), Ok(Asked::DtkBuild));
        assert_eq!(asked_by(&["--version"]), Ok(Asked::Version));
        for (words, named) in [
            (&[][..], "no command"),
            (&["reload"], "\"reload\" is not a command"),
            (&["dtk-build", "--root"], "\"--root\" is superfluous"),
        ] {
            let error = asked_by(words).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
