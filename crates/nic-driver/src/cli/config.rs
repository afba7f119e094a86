//! `config`: every setting in force, with where it comes from.

use std::fmt;

use comfy_table::{Table, presets};
use nic_build::{Proxies, TOKEN, Variable, Word};
use nic_kmod::ModuleName;
use serde::Serialize;

use super::arguments::Cli;
use super::build::{SettingError, token};
use super::in_force::{ConfigArguments, Origin, SettingInForce};
use super::modules::ModuleListError;
use super::output::{fail, show};
use super::settings::{FamilySettingError, KUBERNETES_API, family, settings, store};
use crate::Exit;
use crate::family::FamilyModules;

const NOT_SET: &str = "-";

/// All that is in force.
#[derive(Debug, Serialize)]
struct InForce {
    settings: Vec<SettingInForce>,
    /// What is given by variables alone.
    variables: Vec<VariableInForce>,
}

/// A variable without an option.
#[derive(Debug, Serialize)]
struct VariableInForce {
    name: String,
    /// Without user and password; `set` in place of a secret, nothing when it is not set.
    value: Option<Word>,
    /// The variable that it was given by: of the proxies one case stands for the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

/// What is wrong with a setting, and is found when all of them are put together.
#[derive(Debug, thiserror::Error)]
enum InForceError {
    #[error(transparent)]
    Family(#[from] FamilySettingError),
    #[error(transparent)]
    Modules(#[from] ModuleListError),
    #[error(transparent)]
    Token(#[from] SettingError),
}

pub(super) fn config(cli: &Cli, arguments: &ConfigArguments) -> Exit {
    match in_force(cli, &arguments.settings) {
        Ok(in_force) => show(cli, &in_force, Exit::Success),
        Err(error) => fail(cli, &error, Exit::Usage),
    }
}

/// Tells the debug log what is in force, without secrets.
pub(super) fn tell(cli: &Cli, settings: &[SettingInForce]) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    // What is wrong ends the command, which names it.
    let Ok(in_force) = in_force(cli, settings) else { return };
    for setting in &in_force.settings {
        let value = setting.value.as_deref().unwrap_or(NOT_SET);
        tracing::debug!(setting = setting.name, value, from = setting.origin_text(), "setting in force");
    }
    for variable in &in_force.variables {
        tracing::debug!(variable = variable.name, value = variable.value_text(), "variable in force");
    }
}

fn in_force(cli: &Cli, settings: &[SettingInForce]) -> Result<InForce, InForceError> {
    let mut family = family(cli)?;
    cli.modules.apply(&mut family)?;
    let variables = variables(token()?.is_some());
    let settings = settings.iter().cloned();
    let settings = settings.map(|setting| computed(cli, &family.modules, setting)).collect();
    Ok(InForce { settings, variables })
}

/// The setting with its value, where nobody has given one and it follows from others.
fn computed(cli: &Cli, modules: &FamilyModules, setting: SettingInForce) -> SettingInForce {
    if setting.value.is_some() {
        return setting;
    }
    let list = |modules: &[ModuleName], separator: &str| {
        let names: Vec<&str> = modules.iter().map(ModuleName::as_str).collect();
        Some((names.join(separator), Origin::Family))
    };
    let path = |path: &std::path::Path| Some((path.display().to_string(), Origin::Default));
    let found = match setting.name.as_str() {
        "state-dir" => path(store(cli).folder()),
        "blacklist-file" => path(&settings(cli).blacklist_file),
        "storage-modules" => list(&modules.storage, " "),
        "third-party-rdma-modules" => list(&modules.third_party, " "),
        "auxiliary-modules" => list(&modules.auxiliary, " "),
        "blacklist-modules" => list(&modules.blacklist, ":"),
        _ => None,
    };
    match found {
        Some((value, origin)) => SettingInForce { value: Some(value), origin, ..setting },
        None => setting,
    }
}

fn variables(is_token_set: bool) -> Vec<VariableInForce> {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let token = VariableInForce {
        name: TOKEN.to_owned(),
        value: is_token_set.then(|| Word::from("set")),
        from: is_token_set.then(|| TOKEN.to_owned()),
    };
    let api = std::env::var(KUBERNETES_API).ok().filter(|value| !value.is_empty());
    let api = VariableInForce {
        name: KUBERNETES_API.to_owned(),
        from: api.as_ref().map(|_| KUBERNETES_API.to_owned()),
        value: api.map(Word::from),
    };
    let proxies = Proxies::of_this_process();
    let proxies = proxies.environment().iter().cloned().map(|Variable { name, value }| {
        let twin = if name.to_lowercase() == name { name.to_uppercase() } else { name.to_lowercase() };
        let from = Some(if is_set(&name) { name.clone() } else { twin });
        VariableInForce { name, value: Some(value), from }
    });
    [token, api].into_iter().chain(proxies).collect()
}

impl VariableInForce {
    fn value_text(&self) -> String {
        self.value.as_ref().map_or_else(|| NOT_SET.to_owned(), ToString::to_string)
    }
}

impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["setting", "from", "value"]);
        for setting in &self.settings {
            let value = setting.value.as_deref().unwrap_or(NOT_SET);
            table.add_row([&*setting.name, &*setting.origin_text(), value]);
        }
        for variable in &self.variables {
            let from = variable.from.as_deref().unwrap_or("default");
            table.add_row([&*variable.name, from, &*variable.value_text()]);
        }
        // Without the spaces behind the last column, so that lines can be compared.
        table.to_string().lines().try_for_each(|line| writeln!(f, "{}", line.trim_end()))
    }
}
