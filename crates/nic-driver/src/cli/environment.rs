//! Variables of the environment: one that is set and empty counts as one that is not set, one that holds something wrong is named, and
//! so is one that is nobody's and has a name as ours have.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, CommandFactory as _, Error, FromArgMatches as _};
use nic_host::ForeignWord;

use super::arguments::{self, Cli};
use super::config_file::ConfigFile;
use super::in_force::SettingInForce;
use super::run::{RUN, is_entrypoint};
use super::setting::{CONFIG, all_arguments, check, may_be_empty, nearest, with_all_settings};
use super::usage_error;
use crate::state::KILL_AT_LINE;

/// How the names of variables begin that are this program's alone.
const OURS: &str = "NIC_DRIVER_";

impl Cli {
    /// The command line, the environment of this process, and the file of settings where one is named. Ends the process when they are
    /// wrong, or when help is asked for.
    #[must_use]
    pub fn of_process() -> Self {
        let mut command_line: Vec<OsString> = std::env::args_os().collect();
        if command_line.first().is_some_and(|program| is_entrypoint(program)) {
            command_line.insert(1, RUN.into());
        }
        Self::of_command_line(&command_line).unwrap_or_else(|error| usage_error::end(error, &command_line))
    }

    fn of_command_line(command_line: &[OsString]) -> Result<Self, Error> {
        let mut command = without_empty_variables(declared());
        let parsed = command.try_get_matches_from_mut(command_line);
        let mut matches = parsed.map_err(|error| with_variable(error, &command))?;
        refuse_unknown_variables(&command)?;
        let file = match matches.get_one::<PathBuf>(CONFIG) {
            None => None,
            Some(path) => {
                let file = ConfigFile::read(path, &declared())?;
                let mut command = file.as_defaults(without_empty_variables(declared()));
                let parsed = command.try_get_matches_from_mut(command_line);
                matches = parsed.map_err(|error| with_variable(error, &command))?;
                Some(file)
            }
        };
        let settings = || SettingInForce::all(&declared(), of_command(&matches), file.as_ref());
        let is_told = |name| [CONFIG, RUN].contains(&name);
        let settings = matches.subcommand_name().is_some_and(is_told).then(settings).unwrap_or_default();
        let mut cli = Self::from_arg_matches_mut(&mut matches)?;
        match &mut cli.command {
            arguments::Command::Config(config) => config.settings = settings,
            arguments::Command::Run(run) => run.settings = settings,
            _ => {}
        }
        Ok(cli)
    }
}

/// What the last command of the line was given, the options of those before it included.
fn of_command(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, matches)| of_command(matches))
}

/// All commands with their options.
fn declared() -> Command {
    with_all_settings(Cli::command())
}

fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let forget = |arg: Arg| match arg.get_env() {
        Some(name) if !may_be_empty(&arg) && is_empty(name) => arg.env(None::<&str>),
        _ => arg,
    };
    command.mut_args(forget).mut_subcommands(without_empty_variables)
}

/// Names the variable that a wrong value comes from; clap names the option alone, and of a text that is no UTF-8 not even that.
fn with_variable(mut error: Error, command: &Command) -> Error {
    if error.kind() == ErrorKind::InvalidUtf8 {
        let is_at_fault = |arg: &&Arg| {
            let value = arg.get_env().and_then(std::env::var_os).filter(|value| value.to_str().is_none());
            value.is_some_and(|value| check(arg, &value, "").is_err())
        };
        let at_fault = all_arguments(command).into_iter().find(is_at_fault).and_then(Arg::get_env);
        return match at_fault {
            Some(name) => Error::raw(ErrorKind::InvalidUtf8, format!("{} is not UTF-8\n", name.display()))
                .with_cmd(command),
            None => error,
        };
    }
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
        .find(|name| std::env::var_os(name).is_some_and(|set| set.to_string_lossy() == *value));
    if let Some(variable) = variable {
        let named = format!("{} ({option})", variable.display());
        error.insert(ContextKind::InvalidArg, ContextValue::String(named));
    }
    error
}

/// An error for variables that look like ours and are none: a misspelled one would otherwise be without effect. All others are the
/// operator's own, and so is an empty one.
fn refuse_unknown_variables(command: &Command) -> Result<(), Error> {
    let set = std::env::vars_os().filter(|(_, value)| !value.is_empty());
    let set: Vec<String> = set.map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    // Empty ones have left the arguments that they would set, and are not looked at here either.
    let declared = all_arguments(command).into_iter().filter_map(|arg| arg.get_env()?.to_str());
    let of_debug_builds = cfg!(debug_assertions).then_some(KILL_AT_LINE);
    let known: Vec<&str> = declared.chain(of_debug_builds).filter(|name| name.starts_with(OURS)).collect();
    let unknown = unknown(&set, &known);
    if unknown.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = unknown
        .into_iter()
        .map(|name| match nearest(name, known.iter().copied()) {
            Some(near) => format!("there is no variable {}; the nearest is {near}", ForeignWord(name)),
            None => format!("there is no variable {}", ForeignWord(name)),
        })
        .collect();
    Err(Error::raw(ErrorKind::UnknownArgument, format!("{}\n", lines.join("\n"))).with_cmd(command))
}

fn unknown<'s>(set: &'s [String], known: &[&str]) -> Vec<&'s str> {
    let mut unknown: Vec<&str> = set
        .iter()
        .map(String::as_str)
        .filter(|name| name.starts_with(OURS) && !known.contains(name) && !is_of_service(name, set))
        .collect();
    unknown.sort_unstable();
    unknown
}

/// Whether the kubelet has set the variable for a service of the pod's namespace whose name begins with `nic-driver-`: each container is
/// told `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT…` and `NAME_PORT…` (`FromServices` in `pkg/kubelet/envvars/envvars.go`).
fn is_of_service(name: &str, set: &[String]) -> bool {
    set.iter().filter_map(|other| other.strip_suffix("_SERVICE_HOST")).any(|service| {
        let rest = name.strip_prefix(service);
        rest.is_some_and(|rest| {
            rest == "_PORT" || rest.starts_with("_SERVICE_") || rest.starts_with("_PORT_")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_services_are_the_kubelets() {
        let set = [
            "NIC_DRIVER_TIMEOUT",
            "NIC_DRIVER_TIMEOT",
            "NIC_DRIVER_SERVICE_HOST",
            "NIC_DRIVER_SERVICE_PORT",
            "NIC_DRIVER_PORT",
            "NIC_DRIVER_PORT_9090_TCP_ADDR",
            "NIC_DRIVER_METRICS_SERVICE_HOST",
            "NIC_DRIVER_METRICS_SERVICE_PORT_HTTP",
            "NIC_DRIVER_METRICS_PORTS",
            "NIC_DRIVER_OTHER_PORT",
            "NVIDIA_NIC_DRIVER_VER",
        ];
        let set = set.map(str::to_owned);
        assert_eq!(
            unknown(&set, &["NIC_DRIVER_TIMEOUT"]),
            ["NIC_DRIVER_METRICS_PORTS", "NIC_DRIVER_OTHER_PORT", "NIC_DRIVER_TIMEOT"]
        );
        assert_eq!(unknown(&[], &[]), [""; 0]);
    }
}
