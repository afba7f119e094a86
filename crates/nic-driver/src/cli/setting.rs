//! What counts as a setting, by clap's own description of the arguments: there is no second list of them.

use std::ffi::OsStr;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command, Error};

/// The command that shows settings. It takes those of all commands.
pub(super) const CONFIG: &str = "config";

/// Here empty has a meaning of its own: none of them.
const MAY_BE_EMPTY: &str = "MLX5_AUXILIARY_MODULES";

/// Whether an empty text is a value of it. Of all others it means that they are not set.
pub(super) fn may_be_empty(arg: &Arg) -> bool {
    arg.get_env().is_some_and(|name| name == MAY_BE_EMPTY)
}

/// The settings of a command and of all below it: options that are the whole program's, or that have a variable. What is left is
/// asked of one command at a time, such as `--force`, and belongs into no file. An option that several commands have counts once.
pub(super) fn settings(command: &Command) -> Vec<&Arg> {
    let mut found: Vec<&Arg> = Vec::new();
    for arg in all_arguments(command) {
        let is_setting = arg.get_long().is_some() && (arg.is_global_set() || arg.get_env().is_some());
        if is_setting && !found.iter().any(|known| known.get_long() == arg.get_long()) {
            found.push(arg);
        }
    }
    found
}

pub(super) fn all_arguments(command: &Command) -> Vec<&Arg> {
    command.get_arguments().chain(command.get_subcommands().flat_map(all_arguments)).collect()
}

/// Lets `config` take the settings of all commands.
pub(super) fn with_all_settings(command: Command) -> Command {
    let of_commands: Vec<Arg> = settings(&command)
        .into_iter()
        .filter(|arg| !command.get_arguments().any(|of_program| of_program.get_id() == arg.get_id()))
        .map(|arg| arg.clone().global(false).hide(true))
        .collect();
    command.mut_subcommand(CONFIG, |config| config.args(of_commands))
}

/// Whether the option takes the value, whatever else is given. The error names `place` in place of the option.
pub(super) fn check(arg: &Arg, value: &OsStr, place: &str) -> Result<(), Error> {
    let Some(long) = arg.get_long() else { return Ok(()) };
    let mut given = std::ffi::OsString::from(format!("--{long}="));
    given.push(value);
    let alone =
        Command::new("nic-driver").no_binary_name(true).arg(arg.clone().global(false).env(None::<&str>));
    match alone.try_get_matches_from([given]) {
        Ok(_) => Ok(()),
        Err(mut error) => {
            error.insert(ContextKind::InvalidArg, ContextValue::String(place.to_owned()));
            Err(error)
        }
    }
}

/// The known name that is nearest to one that is not known, where one is near at all.
pub(super) fn nearest<'n>(unknown: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let distance = |name: &str| strsim::damerau_levenshtein(unknown, name);
    let nearest = known.into_iter().min_by_key(|name| distance(name))?;
    // More than a third of it wrong is another word.
    (distance(nearest) * 3 <= unknown.chars().count().max(3)).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_near_when_little_is_wrong() {
        let known = ["timeout", "jobs", "grace", "log", "log-format"];
        for (unknown, expected) in [
            ("timeuot", Some("timeout")),
            ("time-out", Some("timeout")),
            ("job", Some("jobs")),
            ("log_format", Some("log-format")),
            ("lgo", Some("log")),
            ("speed", None),
            ("", None),
        ] {
            assert_eq!(nearest(unknown, known), expected, "{unknown}");
        }
        assert_eq!(nearest("timeout", []), None);
    }
}
