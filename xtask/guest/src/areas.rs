//! What of the program each scenario is about, so that a change can be answered with the scenarios that may notice it.

/// A part of what the program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// Packages are built: by the sidecar, here, and by DKMS.
    Build,
    /// Packages are installed and removed, the host's tree included.
    Install,
    /// Modules are compared, unloaded and loaded.
    Reload,
    /// The blacklist, and what a killed swap left of it.
    Blacklist,
    /// What stands in the way of a reload.
    Blockers,
    /// Whether somebody uses a device.
    InUse,
    /// Modules that are merely not loaded.
    MissingModules,
    /// Hook scripts and the vendor's init script.
    Hooks,
    /// A driver that does not come up, and the rollback.
    Rollback,
    /// What is rolled back to: kept files, the inbox driver.
    WayBack,
    /// PFs and VFs get back what they had.
    Restore,
    /// The eswitch and representors.
    Eswitch,
    /// What is set of the netdevs with ethtool.
    Settings,
    /// What stands on the netdevs: addresses, routes, bonds.
    Network,
    /// What is owed and what is not, and readiness.
    Owed,
    /// A PF that is lost, or that no driver takes.
    LostPf,
    /// Back to the inbox driver, and the end.
    Terminate,
    /// Being killed anywhere, and going on from there.
    Killed,
    /// Signals, the lock, the grace period.
    Stopped,
    /// What hangs.
    Deadlines,
    /// The files of the state directory, and a disk that takes nothing.
    StateFiles,
    /// The driver container's entrypoint.
    Entrypoint,
    /// The command line, errors and exit codes.
    CommandLine,
    /// The lab itself.
    Lab,
}

use Area::{
    Blacklist, Blockers, Build, CommandLine, Deadlines, Entrypoint, Eswitch, Hooks, InUse, Install, Killed,
    Lab, LostPf, MissingModules, Network, Owed, Reload, Restore, Rollback, Settings, StateFiles, Stopped,
    Terminate, WayBack,
};

/// Each scenario of [`crate::scenario::SCENARIOS`] by name, with its areas.
const SCENARIOS: &[(&str, &[Area])] = &[
    ("alive", &[Lab]),
    ("shell", &[]),
    ("boot", &[Lab]),
    ("packages", &[Lab]),
    ("night", &[Install, Reload, Restore, Terminate]),
    ("built-night", &[Build, Install, Reload, Restore, Terminate]),
    ("pod", &[Entrypoint]),
    ("pod-images", &[Entrypoint]),
    ("pod-openshift", &[Entrypoint, Build]),
    ("pod-kills", &[Entrypoint]),
    ("pod-upgrade", &[Entrypoint]),
    ("pod-least-privilege", &[Entrypoint]),
    ("pod-life", &[Entrypoint]),
    ("pod-incumbent", &[Entrypoint]),
    ("entrypoint", &[Entrypoint]),
    ("privileges", &[Entrypoint, CommandLine]),
    ("dkms", &[Build, Install, Terminate]),
    ("restore-loop", &[Restore]),
    ("idempotent", &[Reload, Restore, Owed]),
    ("network", &[Network]),
    ("remote-storage", &[Blockers]),
    ("nothing-owed", &[Owed]),
    ("no-driver", &[Owed, Reload, LostPf]),
    ("lost-pf", &[LostPf, Restore, Rollback]),
    ("blacklist", &[Blacklist]),
    ("everything", &[Restore]),
    ("settings", &[Settings]),
    ("switchdev", &[Eswitch, Restore]),
    ("faults", &[Restore]),
    ("in-use", &[InUse]),
    ("missing-modules", &[MissingModules]),
    ("stack", &[Reload, Hooks, MissingModules]),
    ("blockers", &[Blockers]),
    ("signed-modules", &[Blockers]),
    ("init-script", &[Hooks, Terminate]),
    ("container", &[Install, Terminate]),
    ("kill-reload", &[Killed, Reload]),
    ("kill-restore", &[Killed, Restore]),
    ("kill-rollback", &[Killed, Rollback]),
    ("kill-terminate", &[Killed, Terminate]),
    ("kill-terminate-in-image", &[Killed, Terminate]),
    ("kill-matrix", &[Killed]),
    ("kill-matrix-14", &[Killed]),
    ("rollback", &[Rollback]),
    ("rollback-14", &[Rollback]),
    ("way-back", &[WayBack, Rollback]),
    ("signals", &[Stopped]),
    ("disk", &[StateFiles]),
    ("deadlines", &[Deadlines]),
    ("hanging-numvfs", &[Deadlines]),
    ("soak", &[Killed]),
    ("bench", &[]),
    ("bench-reload", &[]),
    ("errors", &[CommandLine]),
];

/// What the scenario called `name` is about.
#[must_use]
pub fn of(name: &str) -> &'static [Area] {
    SCENARIOS.iter().find(|(known, _)| *known == name).map_or(&[], |(_, areas)| areas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{self, Suite};

    #[test]
    fn every_scenario_that_runs_by_itself_is_about_something() {
        let mut table: Vec<_> = scenario::SCENARIOS.iter().map(|scenario| scenario.name).collect();
        let mut here: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        table.sort_unstable();
        here.sort_unstable();
        assert_eq!(table, here);
        for scenario in scenario::SCENARIOS.iter().filter(|scenario| scenario.suite != Suite::ByHand) {
            assert!(!of(scenario.name).is_empty(), "{} is about nothing", scenario.name);
        }
    }
}
