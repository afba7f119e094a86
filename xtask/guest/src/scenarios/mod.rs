//! The scenarios: for each name of the table in `lab_guest::scenario`, the function that carries it out.

mod alive;
mod bench;
mod bench_reload;
mod blacklist;
mod blockers;
mod boot;
mod container;
mod deadlines;
mod disk;
mod dkms;
mod entrypoint;
mod errors;
mod everything;
mod faults;
mod idempotent;
mod in_use;
mod init_script;
mod kill_matrix;
mod killed;
mod lost_pf;
mod missing_modules;
mod network;
mod night;
mod no_driver;
mod nothing_owed;
mod packages;
mod pod;
mod pod_incumbent;
mod pod_kills;
mod pod_life;
mod pod_upgrade;
mod privileges;
mod remote_storage;
mod restore_loop;
mod rollback;
mod settings;
mod shell;
mod signals;
mod signed_modules;
mod soak;
mod stack;
mod switchdev;
mod way_back;

use crate::guest::Guest;

type Run = fn(&Guest) -> anyhow::Result<()>;

const RUNS: &[(&str, Run)] = &[
    ("alive", alive::run),
    ("shell", shell::run),
    ("settings", settings::run),
    ("boot", boot::run),
    ("packages", packages::run),
    ("night", night::run),
    ("built-night", night::with_built_packages),
    ("dkms", dkms::run),
    ("pod", pod::run),
    ("pod-images", pod::from_images),
    ("pod-openshift", pod::on_openshift),
    ("pod-incumbent", pod_incumbent::run),
    ("pod-kills", pod_kills::run),
    ("pod-upgrade", pod_upgrade::run),
    ("pod-least-privilege", pod::with_least_privilege),
    ("pod-life", pod_life::run),
    ("entrypoint", entrypoint::run),
    ("privileges", privileges::run),
    ("restore-loop", restore_loop::run),
    ("idempotent", idempotent::run),
    ("network", network::run),
    ("remote-storage", remote_storage::run),
    ("nothing-owed", nothing_owed::run),
    ("lost-pf", lost_pf::run),
    ("no-driver", no_driver::run),
    ("blacklist", blacklist::run),
    ("missing-modules", missing_modules::run),
    ("everything", everything::run),
    ("switchdev", switchdev::run),
    ("faults", faults::run),
    ("in-use", in_use::run),
    ("kill-reload", kill_matrix::run),
    ("kill-restore", kill_matrix::run),
    ("kill-rollback", kill_matrix::run),
    ("kill-terminate", kill_matrix::run),
    ("kill-terminate-in-image", kill_matrix::run),
    ("kill-matrix", kill_matrix::run),
    ("kill-matrix-14", kill_matrix::run),
    ("rollback", rollback::run),
    ("rollback-14", rollback::run),
    ("way-back", way_back::run),
    ("signals", signals::run),
    ("disk", disk::run),
    ("deadlines", deadlines::run),
    ("hanging-numvfs", deadlines::run_looks),
    ("soak", soak::run),
    ("bench", bench::run),
    ("bench-reload", bench_reload::run),
    ("errors", errors::run),
    ("signed-modules", signed_modules::run),
    ("stack", stack::run),
    ("blockers", blockers::run),
    ("init-script", init_script::run),
    ("container", container::run),
];

/// The function of the scenario called `name`.
pub(crate) fn find(name: &str) -> Option<Run> {
    RUNS.iter().find(|(known, _)| *known == name).map(|(_, run)| *run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_the_functions_are_in_step() {
        let mut table: Vec<_> = lab_guest::scenario::SCENARIOS.iter().map(|scenario| scenario.name).collect();
        let mut functions: Vec<_> = RUNS.iter().map(|(name, _)| *name).collect();
        table.sort_unstable();
        functions.sort_unstable();
        assert_eq!(table, functions);
    }
}
