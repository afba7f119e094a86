use std::fmt;
use std::path::Path;

use nic_host::{HOST_MOUNT, Host};
use serde::Serialize;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// The machine that is looked at, for whoever has to tell one node's status from another's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineStatus {
    /// The distribution's own name for itself (`PRETTY_NAME` of os-release). In a container, that of its image.
    pub os: Option<String>,
    /// How it is doing; `None` for a tree, which does not run, and where it cannot be told.
    pub running: Option<RunningStatus>,
}

/// How the running machine is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunningStatus {
    /// Seconds since boot: a snapshot that is older is worth nothing.
    pub uptime_s: u64,
    /// Memory in bytes.
    pub total_memory: u64,
    /// Memory in bytes that programs can have without swapping: a build that gets too little is killed.
    pub available_memory: u64,
}

impl MachineStatus {
    pub(crate) fn read(host: &Host) -> Self {
        let os = match host.os_release() {
            Ok(os) => Some(os.pretty_name).filter(|name| !name.is_empty()),
            Err(error) => {
                tracing::info!(error = crate::error_chain(&error), "the distribution is not known");
                None
            }
        };
        // sysinfo speaks of the machine that this process runs on, whatever tree it is asked about.
        let running = host.is_running_machine().then(RunningStatus::read).and_then(|read| {
            read.inspect_err(|error| tracing::info!(%error, "uptime and memory are not known")).ok()
        });
        Self { os, running }
    }
}

impl RunningStatus {
    fn read() -> Result<Self, sysinfo::Error> {
        let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(memory)?;
        Ok(Self {
            uptime_s: System::uptime()?,
            total_memory: system.total_memory(),
            available_memory: system.available_memory(),
        })
    }
}

/// One line without its end.
impl fmt::Display for MachineStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.os.as_deref().unwrap_or("unknown distribution"))?;
        let Some(running) = &self.running else { return Ok(()) };
        write!(
            f,
            ", up {}, {} of {} MiB memory available",
            uptime(running.uptime_s),
            running.available_memory / (1 << 20),
            running.total_memory / (1 << 20)
        )
    }
}

/// Tells the debug log what whoever reads it asks first: the distribution of the container and of the host, the kernel, the memory.
/// What cannot be had is left out, and said so.
pub(crate) fn tell_machine(host: &Host) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let of_host = Path::new(HOST_MOUNT).join("etc/os-release");
    for file in [Path::new("/etc/os-release"), &of_host, Path::new("/proc/version")] {
        match host.read(file) {
            Ok(text) => {
                let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
                tracing::debug!(file = %file.display(), text = lines.join("; "), "a description of this machine");
            }
            Err(error) => {
                tracing::debug!(
                    error = crate::error_chain(&error),
                    "a description of this machine is not there"
                );
            }
        }
    }
    tracing::debug!(architecture = std::env::consts::ARCH, "this machine is {}", MachineStatus::read(host));
}

fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, hours) => format!("{hours} h {minutes} min"),
        (days, hours) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes() {
        for (seconds, text) in [
            (59, "0 min"),
            (3_599, "59 min"),
            (3_600, "1 h 0 min"),
            (90_061, "1 d 1 h"),
            (864_000, "10 d 0 h"),
        ] {
            assert_eq!(uptime(seconds), text);
        }
    }

    #[test]
    fn the_running_machine_has_memory_and_an_uptime_and_a_tree_has_not() {
        let running = MachineStatus::read(&Host::running()).running.unwrap();
        assert!(running.uptime_s > 0 && running.available_memory > 0, "{running:?}");
        assert!(running.available_memory <= running.total_memory, "{running:?}");

        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/os-release"), "PRETTY_NAME=\"Some Linux 1\"\n").unwrap();
        let tree = MachineStatus::read(&Host::at(dir.path()));
        assert_eq!(tree, MachineStatus { os: Some("Some Linux 1".into()), running: None });
        assert_eq!(tree.to_string(), "Some Linux 1");
    }
}
