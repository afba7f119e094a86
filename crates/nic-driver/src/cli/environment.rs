//! Variables of the environment: one that is set and empty counts as one that is not set, and one that holds something
//! wrong is named.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command, CommandFactory as _, Error, FromArgMatches as _};

use super::arguments::Cli;
use super::run::is_entrypoint;

/// Here empty has a meaning of its own: none of them.
const MAY_BE_EMPTY: &str = "MLX5_AUXILIARY_MODULES";

impl Cli {
    /// The command line and the environment of this process. Ends the process when they are wrong, or when help is asked
    /// for.
    #[must_use]
    pub fn of_process() -> Self {
        let mut command = without_empty_variables(Self::command());
        let mut arguments: Vec<OsString> = std::env::args_os().collect();
        if arguments.first().is_some_and(|program| is_entrypoint(program)) {
            arguments.insert(1, "run".into());
        }
        let matches = command.try_get_matches_from_mut(arguments);
        matches
            .and_then(|mut matches| Self::from_arg_matches_mut(&mut matches))
            .unwrap_or_else(|error| with_variable(error, &command).exit())
    }
}

fn without_empty_variables(command: Command) -> Command {
    let is_empty =
        |name: &OsStr| name != MAY_BE_EMPTY && std::env::var_os(name).is_some_and(|value| value.is_empty());
    let forget = |arg: Arg| match arg.get_env() {
        Some(name) if is_empty(name) => arg.env(None::<&str>),
        _ => arg,
    };
    command.mut_args(forget).mut_subcommands(without_empty_variables)
}

/// Names the variable that a wrong value comes from; clap names the option alone.
fn with_variable(mut error: Error, command: &Command) -> Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let (Some(option), Some(value)) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue)) else {
        return error;
    };
    // `--timeout <TIMEOUT>`, `--restore-driver[=<RESTORE_DRIVER>]`
    let long = option.strip_prefix("--").and_then(|option| option.split([' ', '[', '=']).next());
    let variable = all_arguments(command)
        .into_iter()
        .filter(|arg| arg.get_long() == long)
        .filter_map(|arg| long.and(arg.get_env()))
        .find(|name| std::env::var_os(name).is_some_and(|set| set == *value));
    if let Some(variable) = variable {
        let named = format!("{} ({option})", variable.display());
        error.insert(ContextKind::InvalidArg, ContextValue::String(named));
    }
    error
}

fn all_arguments(command: &Command) -> Vec<&Arg> {
    command.get_arguments().chain(command.get_subcommands().flat_map(all_arguments)).collect()
}
