//! The settings in force, each with where it comes from, as clap has found them.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use serde::Serialize;

use super::config_file::ConfigFile;
use super::setting::settings;

/// What `config` is given: the settings of all commands, as they are in force.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArguments {
    /// The settings, those of the whole program first.
    #[arg(skip)]
    pub settings: Vec<SettingInForce>,
}

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingInForce {
    /// The option without its dashes, which is also the key in a file.
    pub name: String,
    /// The variable that sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// Its value; nothing when it is not set.
    pub value: Option<String>,
    /// Where that comes from.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Origin {
    /// The command line.
    Option,
    /// The setting's variable.
    Variable,
    /// A file.
    File {
        /// The file.
        file: PathBuf,
        /// The line in it.
        line: usize,
    },
    /// Nobody has said otherwise.
    Default,
    /// The same, and the NIC family has it.
    Family,
}

impl SettingInForce {
    /// All of them that the command knows. `declared` has all commands with their options, `matches` is what came of the command's:
    /// `config` takes those of all.
    pub(super) fn all(declared: &Command, matches: &ArgMatches, file: Option<&ConfigFile>) -> Vec<Self> {
        let of_file = |name: &str| {
            let (file, setting) = file.and_then(|file| Some((file, file.get(name)?)))?;
            Some(Origin::File { file: file.path.clone(), line: setting.line })
        };
        settings(declared)
            .into_iter()
            .filter(|arg| matches.try_contains_id(arg.get_id().as_str()).is_ok())
            .map(|arg| {
                let (id, name) = (arg.get_id().as_str(), arg.get_long().unwrap_or_default());
                let values = matches.try_get_raw(id).ok().flatten();
                let text = |values: clap::parser::RawValues<'_>| {
                    values.map(|value| value.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
                };
                let source = values.as_ref().and_then(|_| matches.value_source(id));
                let origin = match source {
                    Some(ValueSource::CommandLine) => Origin::Option,
                    Some(ValueSource::EnvVariable) => Origin::Variable,
                    // What a file says stands in the place of the default.
                    _ => of_file(name).unwrap_or(Origin::Default),
                };
                let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned());
                Self { name: name.to_owned(), variable, value: values.map(text), origin }
            })
            .collect()
    }

    /// Where it comes from, in words.
    #[must_use]
    pub fn origin_text(&self) -> String {
        match &self.origin {
            Origin::Option => format!("--{}", self.name),
            Origin::Variable => self.variable.clone().unwrap_or_default(),
            Origin::File { file, line } => format!("{}, line {line}", file.display()),
            Origin::Default => "default".to_owned(),
            Origin::Family => "family".to_owned(),
        }
    }
}
