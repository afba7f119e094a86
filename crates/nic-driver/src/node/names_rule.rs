//! The udev rule that keeps the names of a family's interfaces, where a new driver would change them: one that tells a port's name
//! makes udev put `np0` or `np1` into the names that come of a device's place on its bus.
//!
//! The rule is written for a node whose interfaces have no such names yet, before the driver is swapped, and is there as long as
//! the driver container is. On the host's disk it outlives a boot; whoever starts judges anew, and takes a leftover away that is not
//! wanted. Where a container was killed between two drivers there is no interface to go by: then its judgement stands, which its rule
//! tells, or the driver that comes would change the names. Somebody else's file in its place is not touched.
//!
//! udevd looks by itself whether a folder of rules has changed, at the first event that comes more than 3 s after it looked last
//! (`event_queue_start` in systemd's `src/udev/udevd.c`).

mod origin;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nic_host::{Host, Invocation, ListError, ReadError, WriteError};
use nic_sriov::DeviceSelector;
use origin::{CHANGED_NAMES, HEADER, Origin, PATH_NAME, foreign};

use crate::state::{PhaseRecord, Step};

const INTERFACES: &str = "/sys/class/net";

/// Everybody may read it, whatever the umask is.
const MODE: u32 = 0o644;

/// udevadm reads a file.
const DEADLINE: Duration = Duration::from_secs(10);

/// Whether the rule is wanted, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamesRulePlan {
    /// The interfaces have no port's name in theirs: the rule is wanted, lest they get it.
    Write {
        /// Interfaces that udevadm could not tell of. They are passed over.
        not_told: Vec<String>,
    },
    /// An interface has its port's name in its own already, which is enough: the names stay as they are without a rule.
    NewNames {
        /// The interface.
        interface: String,
        /// What udev calls it.
        path_name: String,
    },
    /// No interface is of the family to judge by, and a rule is there: who has left it, has judged that it is wanted.
    WantedBefore,
    /// No interface is of the family: there are no names to keep.
    NoInterface,
}

/// It cannot be told whether the rule is wanted.
#[derive(Debug, thiserror::Error)]
pub enum NamesRuleError {
    /// The interfaces cannot be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// It cannot be read whose interface one is.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// An interface of the family.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PathName {
    interface: String,
    /// What udev calls it; `None` where it does not tell.
    name: Option<String>,
}

/// Looks at the family's interfaces, and judges whether the rule is wanted at `path`. Asks udev in a process for each of them, the PFs'
/// first, until one has a new name.
///
/// # Errors
/// The interfaces cannot be listed, or it cannot be read of one whose it is, or what is at `path`. What udevadm cannot tell is no error.
pub async fn plan_names_rule(
    host: &Host,
    path: &Path,
    devices: &DeviceSelector,
) -> Result<NamesRulePlan, NamesRuleError> {
    let mut told = Vec::new();
    for interface in interfaces(host, devices)? {
        let name = path_name(host, &interface).await;
        let decides = name.as_deref().is_some_and(tells_its_port);
        told.push(PathName { interface, name });
        if decides {
            break;
        }
    }
    Ok(judge(told, Origin::find(host, path)? == Origin::Left))
}

impl NamesRulePlan {
    /// Whether the rule is to be there.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::WantedBefore)
    }
}

/// Writes the rule durably, whole or not at all. Its folder is not made: where udev has none, nobody would read it.
///
/// # Errors
/// Among others, that somebody else's file is in its place, which stays.
pub fn write_names_rule(
    host: &Host,
    phase: &PhaseRecord,
    path: &Path,
    devices: &DeviceSelector,
) -> Result<(), WriteError> {
    let step = phase.step(Step::WriteNamesRule { path: path.to_owned() });
    let write = || match found(host, path)? {
        Origin::Nothing | Origin::Left => {
            host.write_durably_with_mode(path, content(devices).as_bytes(), MODE)
        }
        Origin::Foreign => Err(foreign(host, path, "write")),
    };
    step.record(write())
}

/// Removes the rule, this program's or another driver container's. Returns whether there was one; that there is none is no step, and
/// neither is somebody else's file, which stays, with a warning.
///
/// # Errors
/// It cannot be read or removed.
pub fn remove_names_rule(host: &Host, phase: &PhaseRecord, path: &Path) -> Result<bool, WriteError> {
    match found(host, path)? {
        Origin::Nothing => Ok(false),
        Origin::Left => {
            phase.step(Step::RemoveNamesRule { path: path.to_owned() }).record(host.remove_file(path))
        }
        Origin::Foreign => {
            tracing::warn!(
                error = crate::error_chain(&foreign(host, path, "remove")),
                "no names rule is removed"
            );
            Ok(false)
        }
    }
}

fn found(host: &Host, path: &Path) -> Result<Origin, WriteError> {
    Origin::find(host, path).map_err(|error| WriteError {
        path: error.path,
        action: "tell whose file is at".to_owned(),
        source: error.source,
    })
}

/// The names of the interfaces whose devices are of the family's vendor, the PFs' first.
fn interfaces(host: &Host, devices: &DeviceSelector) -> Result<Vec<String>, NamesRuleError> {
    let mut found = Vec::new();
    for interface in host.list(INTERFACES)? {
        let device = device(&interface);
        let is_of_family = match &devices.vendor {
            Some(vendor) => host.attribute(device.join("vendor"))?.as_ref() == Some(vendor),
            None => host.link_name(device.join("subsystem"))?.as_ref() == Some(&devices.bus),
        };
        if is_of_family {
            found.push(interface);
        }
    }
    found.sort_by_cached_key(|interface| host.exists(device(interface).join("physfn")));
    Ok(found)
}

fn device(interface: &str) -> PathBuf {
    Path::new(INTERFACES).join(interface).join("device")
}

/// What udev calls the interface. It may have no such name, and udevadm may not be there: neither is a reason for anything.
async fn path_name(host: &Host, interface: &str) -> Option<String> {
    let asked = Invocation::new("udevadm")
        .args(["info", "--query=property"])
        .arg(Path::new(INTERFACES).join(interface))
        .deadline(DEADLINE);
    match host.run(&asked).await {
        Ok(answer) => property(&answer.stdout, PATH_NAME).map(str::to_owned),
        Err(error) => {
            tracing::debug!(
                interface,
                error = crate::error_chain(&error),
                "udev's name for the interface cannot be told: the interface is passed over"
            );
            None
        }
    }
}

/// The value of a property in lines `NAME=VALUE`. One that is empty is none.
fn property<'text>(lines: &'text str, name: &str) -> Option<&'text str> {
    let value = |line: &'text str| line.strip_prefix(name)?.strip_prefix('=');
    lines.lines().find_map(value).filter(|value| !value.is_empty())
}

/// Whether a name ends as those of drivers that tell a port's name.
fn tells_its_port(name: &str) -> bool {
    matches!(name.as_bytes(), [.., b'n', b'p', b'0'..=b'3'])
}

fn judge(told: Vec<PathName>, is_left: bool) -> NamesRulePlan {
    if told.is_empty() {
        return if is_left { NamesRulePlan::WantedBefore } else { NamesRulePlan::NoInterface };
    }
    let mut not_told = Vec::new();
    for PathName { interface, name } in told {
        match name {
            Some(path_name) if tells_its_port(&path_name) => {
                return NamesRulePlan::NewNames { interface, path_name };
            }
            Some(_) => {}
            None => not_told.push(interface),
        }
    }
    NamesRulePlan::Write { not_told }
}

/// What udev reads. `$$` is a `$` for the shell that udev starts, which is the host's; `%c` is what it has printed.
fn content(devices: &DeviceSelector) -> String {
    let mut drivers: Vec<&str> = Vec::new();
    for driver in devices.pf_drivers.iter().chain(&devices.vf_drivers) {
        if !drivers.contains(&driver.as_str()) {
            drivers.push(driver);
        }
    }
    let drivers = drivers.join("|");
    let mut text = format!(
        "\
{HEADER}, and removed when it ends. If no nic-driver is running, it was left behind, and may be deleted.
# Interfaces keep the names that they had before their driver told its port: np0 and np1 are left out at the end of a name,
# and before the number of a VF (enp8s0f0np0 stays enp8s0f0, enp8s0f0np1v12 stays enp8s0f0v12).
"
    );
    for name in CHANGED_NAMES {
        text += &format!(
            r#"ACTION=="add", SUBSYSTEM=="net", DRIVERS=="{drivers}", ENV{{{name}}}=="?*", \
    PROGRAM="/bin/sh -c 'echo $env{{{name}}} | sed -e s/np[01]$$// -e s/np[01]v/v/'", ENV{{{name}}}="%c"
"#
        );
    }
    text
}

impl fmt::Display for NamesRulePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { not_told } => {
                f.write_str("the rule is wanted: no interface has its port's name in its own")?;
                if not_told.is_empty() {
                    return Ok(());
                }
                write!(f, " (udev does not tell of {})", not_told.join(", "))
            }
            Self::NewNames { interface, path_name } => {
                write!(f, "no rule is wanted: udev calls {interface} {path_name}, with its port's name")
            }
            Self::WantedBefore => f.write_str(
                "the rule is wanted as before: it was left behind, and there is no interface of the NIC family to judge by",
            ),
            Self::NoInterface => f.write_str("no rule is wanted: there is no interface of the NIC family"),
        }
    }
}

#[cfg(test)]
mod tests;
