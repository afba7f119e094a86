//! Which part of what the program does a file is of.

use lab_guest::areas::Area::{
    self, Blacklist, Blockers, Build, CommandLine, Deadlines, Entrypoint, Eswitch, Hooks, InUse, Install,
    Killed, Lab, LostPf, MissingModules, Network, Owed, Reload, Restore, Rollback, Settings, StateFiles,
    Stopped, Terminate, WayBack,
};

/// Beginnings of paths, each with its areas. The longest one that fits decides.
pub(super) const AREAS: &[(&str, &[Area])] = &[
    ("crates/nic-host/src/", &[Install, Reload, Restore]),
    ("crates/nic-host/src/command.rs", &[Install, Reload, Deadlines]),
    ("crates/nic-host/src/run.rs", &[Install, Reload, Deadlines]),
    ("crates/nic-host/src/lifetime.rs", &[Blacklist]),
    ("crates/nic-host/src/open_devices.rs", &[InUse, Blockers]),
    ("crates/nic-host/src/selinux.rs", &[Install]),
    ("crates/nic-netlink/src/", &[Restore, Network]),
    ("crates/nic-netlink/src/devlink", &[Eswitch]),
    ("crates/nic-netlink/src/network", &[Network]),
    ("crates/nic-netlink/src/ethtool", &[Settings]),
    ("crates/nic-settings/src/", &[Settings]),
    ("crates/nic-sriov/src/", &[Restore, Eswitch, LostPf, Killed]),
    ("crates/nic-sriov/src/usage", &[InUse, Blockers, Restore]),
    ("crates/nic-sriov/src/teardown.rs", &[InUse, Reload, Rollback]),
    ("crates/nic-sriov/src/restore/in_use.rs", &[InUse, Restore, Eswitch]),
    ("crates/nic-sriov/src/net_folder.rs", &[InUse, Restore]),
    ("crates/nic-topology/src/", &[Network, Owed]),
    ("crates/nic-topology/src/uplinks.rs", &[Network, Blockers]),
    ("crates/nic-topology/src/ways.rs", &[Network, Blockers]),
    ("crates/nic-kmod/src/", &[Reload, Rollback, MissingModules]),
    ("crates/nic-kmod/src/blacklist.rs", &[Blacklist]),
    ("crates/nic-kmod/src/parameters.rs", &[Reload, WayBack]),
    ("crates/nic-kmod/src/previous.rs", &[Rollback, WayBack]),
    ("crates/nic-kmod/src/users", &[Blockers]),
    ("crates/nic-kmod/src/gate", &[Blockers]),
    ("crates/nic-kmod/src/signature", &[Blockers]),
    ("crates/nic-kmod/src/symbols.rs", &[Blockers]),
    ("crates/nic-packages/src/", &[Install, Terminate]),
    ("crates/nic-packages/src/dkms", &[Build, Install, Terminate]),
    ("crates/nic-build/src/", &[Build]),
    ("crates/nic-dtk/src/", &[Build]),
    ("crates/nic-sidecar/src/", &[Build]),
    ("deploy/", &[Entrypoint]),
    ("crates/nic-driver/families/", &[Reload, Restore, Eswitch, Hooks]),
    ("crates/nic-driver/src/", &[Reload, Restore, CommandLine]),
    ("crates/nic-driver/src/cli", &[CommandLine]),
    ("crates/nic-driver/src/cli/pid_1.rs", &[Entrypoint]),
    ("crates/nic-driver/src/cli/run.rs", &[CommandLine, Entrypoint]),
    ("crates/nic-driver/src/cli/signals.rs", &[Stopped]),
    ("crates/nic-driver/src/exit.rs", &[CommandLine]),
    ("crates/nic-driver/src/lock.rs", &[Stopped]),
    ("crates/nic-driver/src/memory.rs", &[Entrypoint]),
    ("crates/nic-driver/src/privileges.rs", &[CommandLine, Entrypoint]),
    ("crates/nic-driver/src/stop.rs", &[Stopped, Deadlines]),
    ("crates/nic-driver/src/report", &[Reload]),
    ("crates/nic-driver/src/node/", &[Restore, Network, LostPf]),
    ("crates/nic-driver/src/node/grace.rs", &[Stopped]),
    ("crates/nic-driver/src/node/settings.rs", &[Settings]),
    ("crates/nic-driver/src/node/management.rs", &[Network, Blockers]),
    ("crates/nic-driver/src/node/lost_uses.rs", &[InUse]),
    ("crates/nic-driver/src/node/readiness.rs", &[Owed, Killed]),
    ("crates/nic-driver/src/phase/", &[Reload, Restore, Owed, Killed]),
    ("crates/nic-driver/src/phase/error.rs", &[CommandLine]),
    ("crates/nic-driver/src/phase/install/", &[Install]),
    ("crates/nic-driver/src/phase/package_error.rs", &[Install]),
    ("crates/nic-driver/src/phase/preflight.rs", &[Blockers]),
    ("crates/nic-driver/src/phase/blockers.rs", &[Blockers, Network]),
    ("crates/nic-driver/src/phase/probe.rs", &[CommandLine]),
    ("crates/nic-driver/src/phase/ready_without_swap.rs", &[Owed]),
    ("crates/nic-driver/src/phase/reload/", &[Reload, Rollback, Killed, Stopped]),
    ("crates/nic-driver/src/phase/restore.rs", &[Restore, Network, LostPf, Owed, Killed]),
    ("crates/nic-driver/src/phase/rollback.rs", &[Rollback, WayBack, LostPf, Killed]),
    ("crates/nic-driver/src/phase/run/", &[Entrypoint]),
    ("crates/nic-driver/src/phase/terminate.rs", &[Terminate, Killed]),
    ("crates/nic-driver/src/state/", &[StateFiles, Owed, Killed]),
    ("crates/nic-driver/src/state/backups.rs", &[WayBack]),
    ("crates/nic-driver/src/state/rolled_back.rs", &[Rollback]),
    ("crates/nic-driver/src/swap/", &[Reload, Killed]),
    ("crates/nic-driver/src/swap/attempt.rs", &[Rollback]),
    ("crates/nic-driver/src/swap/backup", &[WayBack]),
    ("crates/nic-driver/src/swap/blocker.rs", &[Blockers]),
    ("crates/nic-driver/src/swap/find_blockers.rs", &[Blockers]),
    ("crates/nic-driver/src/swap/refused_modules.rs", &[Blockers]),
    ("crates/nic-driver/src/swap/hooks.rs", &[Hooks]),
    ("crates/nic-driver/src/swap/inbox.rs", &[WayBack, Terminate]),
    ("crates/nic-driver/src/swap/init_script.rs", &[Hooks]),
    ("crates/nic-driver/src/swap/leftovers.rs", &[Blacklist]),
    ("crates/nic-driver/src/swap/missing_modules.rs", &[MissingModules]),
    ("crates/nic-driver/src/swap/rollback.rs", &[Rollback, WayBack, Killed]),
    ("crates/nic-driver/src/swap/way_back.rs", &[WayBack]),
    ("crates/nic-driver/src/swap/which_tree.rs", &[Terminate, Killed]),
    ("xtask/guest/src/", &[Lab]),
    // Several scenarios start from it.
    ("xtask/guest/src/installed.rs", &[Killed, Rollback, Stopped]),
    ("xtask/guest/src/scenarios/kill_matrix.rs", &[Killed]),
    ("xtask/guest/src/scenarios/killed.rs", &[Killed]),
    ("xtask/src/lab/", &[Lab]),
];

/// Files outside of any crate that a crate's tests read, with the crate.
pub(super) const READ_BY: &[(&str, &str)] = &[
    ("docs/exit-codes.md", "nic-driver"),
    ("docs/snapshot.schema.json", "nic-driver"),
    ("fixtures/", "nic-driver"),
    ("fixtures/", "nic-sriov"),
    ("xtask/src/fixtures", "nic-driver"),
];

/// Files on which every crate depends.
pub(super) const READ_BY_ALL: &[&str] = &["Cargo.toml", "Cargo.lock", "clippy.toml", ".cargo/"];

/// The areas of the file at `path`.
pub(super) fn areas(path: &str) -> &'static [Area] {
    let fitting = AREAS.iter().filter(|(prefix, _)| path.starts_with(prefix));
    fitting.max_by_key(|(prefix, _)| prefix.len()).map_or(&[], |(_, areas)| areas)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lab_guest::areas;
    use lab_guest::scenario::{SCENARIOS, Suite};

    use super::*;

    #[test]
    fn the_longest_beginning_decides() {
        assert_eq!(areas("crates/nic-kmod/src/users/sockets.rs"), [Blockers]);
        assert_eq!(areas("crates/nic-kmod/src/index.rs"), [Reload, Rollback, MissingModules]);
        assert_eq!(areas("docs/lab.md"), []);
    }

    #[test]
    fn every_beginning_is_of_a_file_that_is_there() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let all = AREAS.iter().map(|(prefix, _)| *prefix).chain(READ_BY.iter().map(|(prefix, _)| *prefix));
        for prefix in all.chain(READ_BY_ALL.iter().copied()) {
            let path = format!("{root}/{prefix}");
            let is_there = [path.clone(), format!("{path}.rs"), format!("{path}_plan.rs")];
            assert!(is_there.iter().any(|path| std::path::Path::new(path).exists()), "{prefix}");
        }
    }

    #[test]
    fn every_area_is_some_files_and_some_scenarios() {
        let of_files: BTreeSet<Area> = AREAS.iter().flat_map(|(_, areas)| areas.iter().copied()).collect();
        let by_themselves = SCENARIOS.iter().filter(|scenario| scenario.suite != Suite::ByHand);
        let of_scenarios: BTreeSet<Area> =
            by_themselves.flat_map(|scenario| areas::of(scenario.name).iter().copied()).collect();
        assert_eq!(of_files, of_scenarios);
    }
}
