//! What the scenarios `bench` and `bench-reload` measure: written by the guest, read by the host.

use serde::{Deserialize, Serialize};

/// The file in the shared folder that holds [`Measurements`].
pub const MEASUREMENTS_FILE: &str = "measurements.json";

/// The file in the shared folder that holds the journal of the last restore of this many VFs.
#[must_use]
pub fn journal_file(vfs: usize) -> String {
    format!("journal-{vfs}.jsonl")
}

/// All that was measured in one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    /// `uname -r`.
    pub kernel: String,
    /// In the order in which they were made.
    pub runs: Vec<Measurement>,
}

/// One run with one number of VFs. Times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// How many VFs.
    pub vfs: usize,
    /// Which run, from 1.
    pub round: u32,
    /// What the kernel and udev take by themselves: `sriov_numvfs` written on all PFs at once, VFs probed as they appear,
    /// until udev has nothing to do and every netdev has its final name.
    pub floor: f64,
    /// `restore-sriov`, from no VFs to all of them as they were, verified.
    pub restore: f64,
    /// `snapshot` of all of them.
    pub snapshot: f64,
}

/// The file in the shared folder that holds [`Reloads`].
pub const RELOADS_FILE: &str = "reloads.json";

/// All reloads that were measured in one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reloads {
    /// `uname -r`.
    pub kernel: String,
    /// How many PFs, without VFs.
    pub pfs: usize,
    /// In the order in which they were made.
    pub runs: Vec<ReloadMeasurement>,
    /// The processes of a driver container that is ready and waits.
    pub waiting: Vec<Memory>,
}

/// What a process takes of the memory, in KiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Which one.
    pub process: String,
    /// All of its pages that are in memory.
    pub rss_kib: u32,
    /// The same, each page divided by how many processes share it.
    pub pss_kib: u32,
}

/// What a driver container may take while it waits, all its processes together, in KiB.
pub const MOST_WHILE_WAITING_KIB: u32 = 20 * 1024;

impl Memory {
    /// In one line, for several processes.
    #[must_use]
    pub fn summary(processes: &[Self]) -> String {
        let mib = |kib: u32| f64::from(kib) / 1024.0;
        let each = processes.iter().map(|one| {
            format!(
                "{} {:.1} MiB resident ({:.1} its share)",
                one.process,
                mib(one.rss_kib),
                mib(one.pss_kib)
            )
        });
        let all: u32 = processes.iter().map(|one| one.rss_kib).sum();
        let most = mib(MOST_WHILE_WAITING_KIB);
        format!("{}; together {:.1} of at most {most:.0} MiB", each.collect::<Vec<_>>().join(", "), mib(all))
    }
}

/// One exchange of the modules each way. Times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReloadMeasurement {
    /// Which run, from 1.
    pub round: u32,
    /// By `modprobe -r` and `modprobe … async_probe=1`, until every PF has its final name.
    pub bare: f64,
    /// By `reload`: from the first module that goes until the PFs are back and have their final names.
    pub modules: f64,
    /// The whole command `reload`.
    pub reload: f64,
}
