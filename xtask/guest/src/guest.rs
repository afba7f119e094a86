//! The running guest: what a scenario is handed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, anyhow, bail};
use lab_guest::scenario::{self, Scenario};
use lab_guest::wiring::{PARAMETER_ARGUMENT, SCENARIO_ARGUMENT, SYMBOLS_ARGUMENT, SYMBOLS_FILE};

use crate::command::run;
use crate::{boot, read, say};

/// A booted machine and what the host asked of it.
#[derive(Debug)]
pub(crate) struct Guest {
    scenario: &'static Scenario,
    parameters: BTreeMap<String, String>,
    kernel: String,
}

/// The scenario's name from the kernel command line; `unknown` when it cannot be read, so that a verdict can be given.
pub(crate) fn scenario_name() -> String {
    fs::read_to_string("/proc/cmdline")
        .ok()
        .and_then(|line| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix(SCENARIO_ARGUMENT).map(ToOwned::to_owned))
        })
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Tells the host the kernel's functions by address; the file has its name when it is whole.
fn tell_symbols() -> anyhow::Result<()> {
    let (part, whole) = (Path::new("/share/kallsyms.part"), Path::new("/share").join(SYMBOLS_FILE));
    fs::copy("/proc/kallsyms", part).context("cannot copy the kernel's symbols")?;
    fs::rename(part, whole).context("cannot give the symbols' file its name")
}

impl Guest {
    /// Starts everything a scenario relies on.
    pub(crate) fn bring_up() -> anyhow::Result<Self> {
        let name = scenario_name();
        let scenario = scenario::find(&name).with_context(|| format!("no scenario is called {name:?}"))?;
        let parameters = read("/proc/cmdline")?
            .split_whitespace()
            .filter_map(|word| word.strip_prefix(PARAMETER_ARGUMENT)?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        boot::settle_network_defaults()?;
        boot::mount_share()?;
        boot::start_udev()?;
        let kernel = read("/proc/sys/kernel/osrelease")?;
        say(&format!(
            "{name}: kernel {kernel}, up after {} s",
            read("/proc/uptime")?.split(' ').next().unwrap_or("?")
        ));
        if read("/proc/cmdline")?.split_whitespace().any(|word| word == SYMBOLS_ARGUMENT) {
            tell_symbols()?;
        }
        Ok(Self { scenario, parameters, kernel })
    }

    /// A parameter given with `--param`, or its default from the table.
    pub(crate) fn parameter<T>(&self, name: &str) -> anyhow::Result<T>
    where
        T: FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        let known = self
            .scenario
            .parameters
            .iter()
            .find(|parameter| parameter.name == name)
            .ok_or_else(|| anyhow!("scenario {} declares no parameter {name}", self.scenario.name))?;
        let value = self.parameters.get(name).map_or(known.default, String::as_str);
        value.parse().with_context(|| format!("parameter {name} is {value:?}"))
    }

    /// The table's entry.
    pub(crate) fn scenario(&self) -> &'static Scenario {
        self.scenario
    }

    /// `uname -r`.
    pub(crate) fn kernel(&self) -> &str {
        &self.kernel
    }

    /// Where result files go; the host finds them after the run.
    pub(crate) fn share(&self) -> PathBuf {
        PathBuf::from("/share")
    }

    /// Copies a file out of the machine, if it exists.
    pub(crate) fn keep(&self, file: &Path) -> anyhow::Result<()> {
        let name = file.file_name().with_context(|| format!("{} has no file name", file.display()))?;
        if file.exists() {
            fs::copy(file, self.share().join(name))
                .with_context(|| format!("cannot copy {}", file.display()))?;
        }
        Ok(())
    }

    /// Puts the kernel's log beside the other results.
    pub(crate) fn save_dmesg(&self) -> anyhow::Result<()> {
        let log = run("dmesg", std::iter::empty::<&str>())?;
        fs::write(self.share().join("dmesg.txt"), log).context("cannot write dmesg.txt")
    }

    /// An error when the kernel complained about itself. Such a run shows nothing, whatever the scenario saw.
    pub(crate) fn kernel_is_well(&self) -> anyhow::Result<()> {
        let log = read(self.share().join("dmesg.txt"))?;
        let complaints: Vec<_> = log
            .lines()
            .filter(|line| {
                ["BUG: ", "WARNING: ", "Oops: ", "Call Trace:"].iter().any(|sign| line.contains(sign))
            })
            .collect();
        if !complaints.is_empty() {
            bail!("the kernel complained: {}", complaints.join("; "));
        }
        Ok(())
    }
}
