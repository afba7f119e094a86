//! Going on from what *is*: what an earlier process, which may have been killed anywhere, has left behind.

use std::time::Duration;

use jiff::Timestamp;
use nic_host::{ReadError, WriteError};
use nic_kmod::{
    Blacklist, LoadError, LoadRequest, LoadedModules, ModuleIndexError, ModuleName, ReadLoadedError,
};
use nic_packages::DistributionFamily;
use nic_sriov::{ArrivalError, Arrivals, DeviceAddress, KernelLinks, await_pfs};

use super::Context;
use super::hooks::{Hook, run_hook};
use super::modules::prepare_loads;
use super::reload::ModuleTree;
use crate::state::{PhaseRecord, Snapshot, SnapshotError};

/// The snapshot that the machine has to be restored from before anything else, if there is one.
///
/// One of another boot is set aside: its VFs went with its boot.
pub(super) fn armed_snapshot(context: &Context) -> Result<Option<Snapshot>, SnapshotError> {
    let stored = match context.store.snapshot_of(&context.boot_id, &context.family.name) {
        Ok(stored) => stored,
        Err(error @ SnapshotError::OtherBoot { .. }) => {
            match context.store.set_snapshot_aside(Timestamp::now()) {
                Ok(aside) => {
                    tracing::warn!(aside = %aside.display(), "the stored snapshot is of another boot: set aside");
                    None
                }
                Err(failure) => {
                    tracing::error!(error = crate::error_chain(&failure), "it cannot be set aside");
                    return Err(error);
                }
            }
        }
        Err(error) => return Err(error),
    };
    Ok(stored.filter(Snapshot::is_armed))
}

/// A blacklist that was left behind and stays.
#[derive(Debug, thiserror::Error)]
pub enum LeftoverError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be removed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Removes a blacklist that a killed process has left behind: modules would not be loaded for new devices.
pub(super) fn remove_leftover_blacklist(context: &Context, phase: &PhaseRecord) -> Result<(), LeftoverError> {
    let Some(found) = Blacklist::find(&context.host, &context.settings.blacklist_file)? else {
        return Ok(());
    };
    tracing::warn!(path = %found.blacklist.path.display(), "a blacklist was left behind");
    let step = phase.step("remove the blacklist that was left behind");
    step.record(found.blacklist.remove(&context.host))?;
    Ok(())
}

/// The PFs whose netdev a snapshot knows and whose netdev may still be on its way.
///
/// One that is gone, or that another driver has, is not waited for: the restore names it at once. One without a
/// driver is waited for only after a reload (`armed`), when it may be about to be probed.
pub(super) fn pfs_on_their_way(
    context: &Context,
    snapshot: &Snapshot,
) -> Result<Vec<DeviceAddress>, ReadError> {
    let mut pfs = Vec::new();
    for pf in snapshot.nics.pfs.iter().filter(|pf| pf.netdev.is_some()) {
        let sysfs = pf.address.sysfs();
        let driver = context.host.link_name(format!("{sysfs}/driver"))?;
        let may_come = match &driver {
            None => snapshot.is_armed(),
            Some(_) => driver == pf.driver,
        };
        if may_come && context.host.exists(sysfs) {
            pfs.push(pf.address.clone());
        }
    }
    Ok(pfs)
}

/// A PF that did not come back.
#[derive(Debug, thiserror::Error)]
#[error("the PF {pf} has not come up")]
pub struct PfMissing {
    /// The PF.
    pub pf: DeviceAddress,
    /// What is known of it.
    #[source]
    pub source: Box<ArrivalError>,
}

/// Waits until these PFs have their netdevs and udev is done with them.
pub(super) async fn wait_for_pfs(
    phase: &PhaseRecord,
    arrivals: &Arrivals,
    pfs: &[DeviceAddress],
    deadline: Duration,
) -> Result<(), PfMissing> {
    let step = phase.step("wait for the PFs");
    for (pf, arrival) in await_pfs(arrivals, pfs, deadline).await {
        if let Err(source) = arrival {
            let error = PfMissing { pf, source: Box::new(source) };
            step.failed(&error);
            return Err(error);
        }
    }
    step.ok(Some(format!("{} PFs", pfs.len())));
    Ok(())
}

/// Like [`wait_for_pfs`], listening from now on.
pub(super) async fn listen_and_wait_for_pfs(
    context: &Context,
    phase: &PhaseRecord,
    kernel: &KernelLinks,
    pfs: &[DeviceAddress],
    deadline: Duration,
) -> Result<(), PfMissing> {
    let Some(first) = pfs.first() else { return Ok(()) };
    let arrivals = Arrivals::listen(&context.host, kernel).await;
    let arrivals = arrivals.map_err(|error| PfMissing { pf: first.clone(), source: Box::new(error) })?;
    wait_for_pfs(phase, &arrivals, pfs, deadline).await
}

/// The driver could not be made to run.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// The index of installed modules could not be read.
    #[error(transparent)]
    Index(#[from] ModuleIndexError),
    /// A module could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Asks modprobe for a module of the family as a reload does.
pub(super) fn load_request(context: &Context, tree: &ModuleTree, module: &ModuleName) -> LoadRequest {
    let mut request = LoadRequest::new(module.clone());
    // SUSE's modprobe takes its vendor's own modules alone otherwise (`allow_unsupported_modules`).
    request.allow_unsupported = context.distribution == Some(DistributionFamily::Suse);
    if let Some(root) = tree.root() {
        request = request.root(root);
    }
    if context.family.modules.async_probe.contains(module) {
        request = request.parameter("async_probe", "1");
    }
    request
}

/// Loads what a process that was killed between unload and load has not loaded any more. Returns how many modules
/// that were.
pub(super) async fn load_missing_modules(
    context: &Context,
    phase: &PhaseRecord,
    snapshot: &Snapshot,
    deadline: Duration,
) -> Result<usize, DriverError> {
    let loaded = LoadedModules::read(&context.host)?;
    let listed = &context.family.modules.load;
    if snapshot.modules.iter().chain(listed).all(|module| loaded.contains(module)) {
        return Ok(0);
    }
    let tree = ModuleTree::Own;
    let index = tree.index(context)?;
    let prepared = prepare_loads(context, &tree, &index, snapshot)?.without_loaded(&loaded);
    run_hook(context, phase, Hook::PreStart, deadline).await;
    let count = prepared.load(context, phase, deadline).await?;
    run_hook(context, phase, Hook::PostStart, deadline).await;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::phase::fixture;

    /// A tree of a distribution, with the family mlx5.
    fn context(os_release: &str) -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("proc/sys/kernel/osrelease", "6.4.0-150600.23-default\n"),
            ("proc/sys/kernel/random/boot_id", "boot\n"),
            ("etc/os-release", os_release),
        ] {
            fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
            fs::write(dir.path().join(file), text).unwrap();
        }
        let context = fixture::context(nic_host::Host::at(dir.path()), &dir.path().join("state"));
        (dir, context)
    }

    #[test]
    fn suse_loads_what_its_vendor_does_not_support() {
        for (os_release, tree, command) in [
            (
                "ID=sles\nID_LIKE=suse\n",
                ModuleTree::Own,
                "modprobe --allow-unsupported -- mlx5_core 'async_probe=1'",
            ),
            (
                "ID=rhel\n",
                ModuleTree::Below("/host".into()),
                "modprobe -d /host -- mlx5_core 'async_probe=1'",
            ),
            ("ID=ubuntu\n", ModuleTree::Own, "modprobe -- mlx5_core 'async_probe=1'"),
            ("", ModuleTree::Own, "modprobe -- mlx5_core 'async_probe=1'"),
        ] {
            let (_dir, context) = context(os_release);
            let request = load_request(&context, &tree, &"mlx5_core".parse().unwrap());
            assert_eq!(request.invocation().to_string(), command, "{os_release}");
        }
    }
}
