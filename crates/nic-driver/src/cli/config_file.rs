//! The file with settings: TOML, whose keys are the names of the options. What it says stands in the place of the options' defaults, so
//! that options and variables go before it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, Command, Error};
use nic_host::{Foreign, ForeignWord, Host};
use toml::de::{DeTable, DeValue};

use super::setting::{CONFIG, all_arguments, check, may_be_empty, nearest, settings};
use crate::error_chain;

/// What a file says.
#[derive(Debug)]
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    settings: Vec<FileSetting>,
}

/// One setting of a file.
#[derive(Debug)]
pub(super) struct FileSetting {
    /// The name of the option.
    name: String,
    pub(super) line: usize,
    value: String,
}

impl ConfigFile {
    /// Reads a file. `declared` has all commands with their options.
    ///
    /// # Errors
    /// The file cannot be read or is no TOML; a key is no setting; a value is not of the setting's kind. The error names the file,
    /// the line and the key, and no value of a key that is not known: it may be a secret.
    pub(super) fn read(path: &Path, declared: &Command) -> Result<Self, Error> {
        let text = Host::running().read(path).map_err(|error| {
            let why = format!(
                "NIC_DRIVER_CONFIG (--config): cannot read the file of settings {}: {}\n",
                ForeignWord(&path.to_string_lossy()),
                error_chain(&error.source)
            );
            Error::raw(ErrorKind::Io, why).with_cmd(declared)
        })?;
        Self::parse(path, &text, declared)
    }

    fn parse(path: &Path, text: &str, declared: &Command) -> Result<Self, Error> {
        let wrong = |lines: &[String]| {
            Error::raw(ErrorKind::ValueValidation, format!("{}\n", lines.join("\n"))).with_cmd(declared)
        };
        let place = |line: usize| format!("{}, line {line}", path.display());
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            // The message alone: what it shows of the file may be a secret.
            wrong(&[format!("{}: {}", place(line), error.message())])
        })?;
        let known: Vec<&Arg> =
            settings(declared).into_iter().filter(|arg| arg.get_long() != Some(CONFIG)).collect();
        let mut keys: Vec<_> = table
            .get_ref()
            .iter()
            .map(|(key, value)| (line_of(text, key.span().start), &**key.get_ref(), value.get_ref()))
            .collect();
        keys.sort_unstable_by_key(|(line, ..)| *line);
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        for (line, key, value) in keys {
            let Some(arg) = known.iter().find(|arg| arg.get_long() == Some(key)) else {
                errors.push(format!("{}: {}", place(line), no_setting(key, &known, declared)));
                continue;
            };
            let Some(value) = text_of(value) else {
                errors.push(format!(
                    "{}: {key} is neither a text, a whole number, true nor false",
                    place(line)
                ));
                continue;
            };
            if value.is_empty() && !may_be_empty(arg) {
                continue;
            }
            check(arg, OsStr::new(&value), &format!("{key} ({})", place(line)))?;
            found.push(FileSetting { name: key.to_owned(), line, value });
        }
        if errors.is_empty() {
            Ok(Self { path: path.to_owned(), settings: found })
        } else {
            Err(wrong(&errors))
        }
    }

    /// What the file says of a setting.
    pub(super) fn get(&self, name: &str) -> Option<&FileSetting> {
        self.settings.iter().find(|setting| setting.name == name)
    }

    /// Puts it in the place of the options' defaults.
    pub(super) fn as_defaults(&self, command: Command) -> Command {
        let give = |arg: Arg| match arg.get_long().and_then(|long| self.get(long)) {
            Some(setting) => arg.default_values([setting.value.clone()]),
            None => arg,
        };
        command.mut_args(give).mut_subcommands(|command| self.as_defaults(command))
    }
}

/// Why a key is refused.
fn no_setting(key: &str, known: &[&Arg], declared: &Command) -> String {
    let is_variable = |arg: &&&Arg| arg.get_env().is_some_and(|name| name == key);
    if let Some(name) = known.iter().find(is_variable).and_then(|arg| arg.get_long()) {
        return format!("{key} is a variable; the setting is {name}");
    }
    if key == CONFIG {
        return "a file of settings cannot name another one".to_owned();
    }
    if all_arguments(declared).iter().any(|arg| arg.get_long() == Some(key)) {
        return format!("--{key} is asked of one command at a time, and is no setting");
    }
    match nearest(key, known.iter().filter_map(|arg| arg.get_long())) {
        Some(name) => format!("there is no setting {}; the nearest is {name}", Foreign(key)),
        None => format!("there is no setting {}", Foreign(key)),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The value as it would stand on the command line.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn parse(text: &str) -> Result<Vec<(String, usize, String)>, String> {
        let file = ConfigFile::parse(Path::new("my.toml"), text, &Cli::command());
        let settings = file.map_err(|error| error.to_string())?.settings;
        Ok(settings.into_iter().map(|setting| (setting.name, setting.line, setting.value)).collect())
    }

    #[test]
    fn texts_numbers_and_booleans_are_settings() {
        let text = "# mine\nfamily = 'igb'\n\ntimeout = 0x78\nuse-dkms = true\nunload-storage-modules = \"False\"\n\
                    state-dir = ''\nauxiliary-modules = ''\nlog-format = 'json'\n";
        let found = parse(text).unwrap();
        let found: Vec<_> = found.iter().map(|(name, line, value)| (&**name, *line, &**value)).collect();
        assert_eq!(
            found,
            [
                ("family", 2, "igb"),
                ("timeout", 4, "120"),
                ("use-dkms", 5, "true"),
                ("unload-storage-modules", 6, "False"),
                ("auxiliary-modules", 8, ""),
                ("log-format", 9, "json"),
            ]
        );
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, expected) in [
            ("\ntimeuot = 5", "my.toml, line 2: there is no setting \"timeuot\"; the nearest is timeout"),
            ("speed = 'hunter2'", "my.toml, line 1: there is no setting \"speed\"\n"),
            ("log_format = 'json'", "the nearest is log-format"),
            ("NIC_DRIVER_JOBS = 5", "NIC_DRIVER_JOBS is a variable; the setting is jobs"),
            ("force = true", "--force is asked of one command at a time, and is no setting"),
            ("config = 'other.toml'", "a file of settings cannot name another one"),
            ("[timeout]\nseconds = 5", "timeout is neither a text, a whole number, true nor false"),
            ("jobs = 6.5", "jobs is neither a text"),
            ("timeout = 0", "invalid value '0' for 'timeout (my.toml, line 1)': 0 is not in 1..=86400"),
            ("\n\nlog-format = 'xml'", "invalid value 'xml' for 'log-format (my.toml, line 3)'"),
            ("use-dkms = 'maybe'", "neither true nor false"),
            ("token = C1secret", "my.toml, line 1: "),
            ("a = 1\nb = 2", "line 1: there is no setting \"a\"\nmy.toml, line 2: there is no setting \"b\""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("C1secret") && !error.contains("hunter2"), "{error}");
        }
    }
}
