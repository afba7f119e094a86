//! Results on stdout, logs and errors on stderr.

use std::io::{self, Write as _};
use std::sync::Arc;

use nic_host::{Foreign, LONGEST_MESSAGE, in_one_line, printable};
use serde::Serialize;

use super::arguments::{Cli, Command, LogFormat, Output};
use super::debugging::DebuggingArguments;
use super::terminal::{LineForm, LogWriter, Terminal};
use crate::{Exit, error_chain};

/// Logs that could not be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// What is to be logged cannot be told.
    #[error("cannot log with the filter {} (--log, NIC_DRIVER_LOG)", Foreign(filter))]
    Filter {
        filter: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The second place of a log takes nothing.
    #[error("cannot log into the file of --debug-log (DEBUG_LOG_FILE)")]
    File(#[source] io::Error),
}

/// Logs go to standard error, above what `terminal` shows, where it is one.
pub(super) fn set_up_logs(cli: &Cli, terminal: Option<Terminal>) -> Result<(), LogError> {
    let debugging = match &cli.command {
        Command::Run(run) => Some(&run.debugging),
        _ => None,
    };
    let filter = debugging.map_or(&*cli.log, |debugging| debugging.filter(&cli.log));
    let log_error = |source| LogError::Filter { filter: filter.to_owned(), source };
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|error| log_error(error.into()))?;
    let file = debugging
        .map(DebuggingArguments::log_file)
        .transpose()
        .map_err(LogError::File)?
        .flatten()
        .map(Arc::new);
    let is_coloured = io::IsTerminal::is_terminal(&io::stderr());
    let form = match cli.log_format {
        LogFormat::Json => LineForm::Json,
        LogFormat::Text if is_coloured => LineForm::Coloured,
        LogFormat::Text => LineForm::Plain,
    };
    let writer = LogWriter { terminal, file, form };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let installed = match cli.log_format {
        LogFormat::Text => subscriber.with_ansi(is_coloured).try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    installed.map_err(log_error)
}

pub(super) fn show<T: Serialize + std::fmt::Display>(cli: &Cli, result: &T, exit: Exit) -> Exit {
    match cli.output {
        // What files and devices say is in it, too.
        Output::Text => print(cli, printable(&result.to_string()).as_bytes(), exit),
        Output::Json => match serde_json::to_vec_pretty(result) {
            Ok(mut text) => {
                text.push(b'\n');
                print(cli, &text, exit)
            }
            Err(error) => tell(&error, exit),
        },
    }
}

/// Shows what came of a command, and tells on stderr why it is no success: whoever keeps stderr alone has the reason there.
pub(super) fn show_outcome<T: Serialize + std::fmt::Display>(
    cli: &Cli,
    result: &T,
    exit: Exit,
    why_not: Option<&str>,
) -> Exit {
    let exit = show(cli, result, exit);
    if let Some(why_not) = why_not {
        // What files and devices say is in it, too.
        tell_line(&in_one_line(why_not, LONGEST_MESSAGE));
    }
    exit
}

/// A result that nobody could be shown.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the result to stdout; the exit code is the command's own")]
struct NotShown(#[source] io::Error);

/// Prints a result. What the command has done is for its exit code to say, also where the result cannot be written; only a command that
/// does nothing else than show something has failed then. A reader that has gone away is not the command's failure.
pub(super) fn print(cli: &Cli, text: &[u8], exit: Exit) -> Exit {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let only_shows = cli.command.only_shows() && exit == Exit::Success;
            tell(&NotShown(error), if only_shows { Exit::Failed } else { exit })
        }
        Ok(()) | Err(_) => exit,
    }
}

pub(super) fn fail(cli: &Cli, error: &dyn std::error::Error, exit: Exit) -> Exit {
    if cli.output == Output::Json {
        tell_as_json(error, exit);
    }
    tell(error, exit)
}

/// Errors are results too: a program that reads JSON finds them where it reads.
pub(super) fn tell_as_json(error: &dyn std::error::Error, exit: Exit) {
    let object = serde_json::json!({ "error": error_chain(error), "exit": exit as u8 });
    if let Err(error) = writeln!(io::stdout(), "{object}") {
        tracing::debug!(%error, "stdout is closed");
    }
}

/// Tells an error on stderr, whatever the command line asks for.
pub(super) fn tell(error: &dyn std::error::Error, exit: Exit) -> Exit {
    tell_line(&error_chain(error));
    exit
}

fn tell_line(text: &str) {
    let line = format!("nic-driver: {text}\n");
    if let Err(error) = io::stderr().write_all(line.as_bytes()) {
        tracing::debug!(%error, "stderr is closed");
    }
}
