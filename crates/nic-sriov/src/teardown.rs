//! Taking VFs away before a driver is unloaded, and waiting for PFs after one is loaded.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use nic_host::Host;

use crate::observe::{driver_of, vf_addresses};
use crate::sysfs::{VfWriteError, check_has_no_driver, set_num_vfs, unbind};
use crate::{
    Arrival, ArrivalError, Arrivals, DeviceAddress, DeviceSelector, Inquiry, ObserveError, Operation,
    Patience, PciAddress, Usage,
};

/// VFs of a PF that were not removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove the VFs of {pf}")]
pub struct RemoveVfsError {
    /// The PF.
    pub pf: DeviceAddress,
    /// What the kernel said, or who uses a VF.
    #[source]
    pub source: Box<VfWriteError>,
}

/// Removes the VFs of all these PFs at once. A PF without VFs, or without SR-IOV, is left alone.
///
/// Unloading the PF's driver would remove them too, one PF after the other, and writing 0 to `sriov_numvfs` takes the
/// drivers from a PF's VFs one after the other (drivers/pci/iov.c, `sriov_del_vfs`). Unbinding them all at once before,
/// at most `jobs` at the same time, takes both out of serial paths.
///
/// While somebody uses one of the VFs, or that cannot be told, nothing is written to any PF or VF: the kernel would wait for the user with
/// the PF's lock held, and then take the device from a machine that runs. The same holds for a VF that keeps its driver. VFs that were
/// unbound by then stay so, for a restore to bind.
///
/// # Errors
/// Each PF whose VFs are still there.
pub async fn remove_vfs(
    host: &Host,
    selector: &DeviceSelector,
    pfs: &[DeviceAddress],
    jobs: usize,
    patience: Patience,
) -> Vec<RemoveVfsError> {
    let mut vfs = Vec::new();
    let mut unlisted = Vec::new();
    for pf in pfs {
        match vf_addresses(host, pf) {
            Ok(addresses) => vfs.push((pf, addresses)),
            Err(error) => unlisted.push(RemoveVfsError { pf: pf.clone(), source: Box::new(error.into()) }),
        }
    }
    if !unlisted.is_empty() {
        return unlisted;
    }
    // All of them before the first is unbound.
    let most = vfs.iter().map(|(_, addresses)| addresses.len()).max().unwrap_or_default();
    let look = patience.of(Operation::Observe { vfs: most });
    let used = in_use(host, selector, &vfs, look).await;
    if !used.is_empty() {
        return used;
    }
    unbind_vfs(host, selector, &vfs, jobs, patience.of(Operation::Bind)).await;
    // Again right before: one may have come to be used since it was unbound, or was not unbound for that.
    for errors in [in_use(host, selector, &vfs, look).await, still_bound(host, &vfs)] {
        if !errors.is_empty() {
            return errors;
        }
    }
    let remove = |(pf, addresses): &(&DeviceAddress, Vec<PciAddress>)| {
        let (pf, has_vfs) = ((*pf).clone(), !addresses.is_empty());
        let deadline = patience.of(Operation::NumVfs { vfs: addresses.len() });
        async move {
            match vf_count(host, &pf, deadline).await {
                Ok(Some(count)) if count != "0" => {}
                // Absent or 0.
                Ok(_) => return None,
                // The unload that follows meets the reason and names it.
                Err(_) if !has_vfs => return None,
                Err(source) => return Some(RemoveVfsError { pf, source: Box::new(source.into()) }),
            }
            let removed = set_num_vfs(host, &pf, 0, deadline).await;
            removed.err().map(|error| RemoveVfsError { pf, source: Box::new(error.into()) })
        }
    };
    join_all(vfs.iter().map(remove)).await.into_iter().flatten().collect()
}

/// PFs, each with its VFs.
type Pfs<'a> = [(&'a DeviceAddress, Vec<PciAddress>)];

/// The first user of each PF and its VFs. That a VF's netdev is in another network namespace is not asked: a reload takes it along. Nor are
/// a PF's own RDMA users: they keep modules, which are waited for when these go, and a hook may be there to stop them.
async fn in_use(
    host: &Host,
    selector: &DeviceSelector,
    pfs: &Pfs<'_>,
    deadline: Duration,
) -> Vec<RemoveVfsError> {
    let of_vfs = Inquiry::before_write(host, selector);
    let of_pfs = Inquiry::before_write(host, selector).without_rdma();
    let own: Vec<DeviceAddress> = pfs.iter().map(|(pf, _)| (*pf).clone()).collect();
    let vfs: Vec<DeviceAddress> =
        pfs.iter().flat_map(|(_, vfs)| vfs.iter().map(|vf| DeviceAddress::from(*vf))).collect();
    let (of_own, of_vfs) = tokio::join!(of_pfs.usages(&own, deadline), of_vfs.usages(&vfs, deadline));
    let mut of_vfs = vfs.iter().zip(of_vfs);
    let error = |((pf, vfs), usage): (&(&DeviceAddress, Vec<PciAddress>), Usage)| {
        let of_its_vfs: Vec<_> = of_vfs.by_ref().take(vfs.len()).collect();
        let mut errors = std::iter::once((*pf, usage)).chain(of_its_vfs);
        let source = errors.find_map(|(device, usage)| VfWriteError::of_usage(device, usage))?;
        Some(RemoveVfsError { pf: (*pf).clone(), source: Box::new(source) })
    };
    pfs.iter().zip(of_own).filter_map(error).collect()
}

/// `sriov_numvfs`; `None` without SR-IOV.
async fn vf_count(
    host: &Host,
    pf: &DeviceAddress,
    deadline: Duration,
) -> Result<Option<String>, ObserveError> {
    let path = format!("{}/sriov_numvfs", pf.sysfs());
    Ok(host.look_within(pf.name(), deadline, move |host| host.attribute(path)).await??)
}

fn still_bound(host: &Host, pfs: &Pfs<'_>) -> Vec<RemoveVfsError> {
    let error = |(pf, vfs): &(&DeviceAddress, Vec<PciAddress>)| {
        let source = vfs.iter().find_map(|vf| check_has_no_driver(host, *vf).err())?;
        Some(RemoveVfsError { pf: (*pf).clone(), source: Box::new(source) })
    };
    pfs.iter().filter_map(error).collect()
}

/// Takes the drivers from all VFs. What cannot be unbound is told, and looked at again by the caller.
async fn unbind_vfs(host: &Host, selector: &DeviceSelector, vfs: &Pfs<'_>, jobs: usize, deadline: Duration) {
    let unbind_one = |vf: PciAddress| async move {
        let driver = match driver_of(host, &vf.into()) {
            Ok(Some(driver)) => driver,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%vf, %error, "cannot read the driver of this VF");
                return;
            }
        };
        let device = DeviceAddress::from(vf);
        let usage = Inquiry::before_write(host, selector).usage_within(&device, deadline).await;
        let unbound = match VfWriteError::of_usage(&device, usage) {
            None => unbind(host, vf, &driver, deadline).await,
            Some(in_use) => Err(in_use),
        };
        if let Err(error) = unbound {
            tracing::warn!(%vf, driver, %error, "cannot unbind the VF from its driver");
        }
    };
    let all = vfs.iter().flat_map(|(_, addresses)| addresses.iter().copied());
    futures_util::stream::iter(all).for_each_concurrent(jobs.max(1), unbind_one).await;
}

/// How often a PF without a driver is looked at. The kernel tells nobody that a probe has failed.
const PROBE_CHECK: Duration = Duration::from_millis(500);

/// How often a PF that has no driver is offered to the drivers before it is given up.
const PROBES: usize = 3;

/// Waits until each of these PFs has its netdev and udev is done with it. `arrivals` must have begun to listen
/// before the driver was loaded, and the driver must be loaded.
///
/// A PF whose probe fails is not waited for until the deadline: see [`ArrivalError::NoDriver`].
pub async fn await_pfs(
    arrivals: &Arrivals,
    pfs: &[DeviceAddress],
    deadline: Duration,
) -> Vec<(DeviceAddress, Result<Arrival, ArrivalError>)> {
    let wait = |pf: &DeviceAddress| {
        let pf = pf.clone();
        async move {
            let arrival = tokio::select! {
                // A device that has its netdev is not asked about its driver.
                biased;
                arrival = arrivals.wait(&pf, deadline) => arrival,
                failed = probe_fails(arrivals.host(), &pf, deadline, PROBE_CHECK) => Err(failed),
            };
            (pf, arrival)
        }
    };
    join_all(pfs.iter().map(wait)).await
}

/// Ends when no driver takes the device.
///
/// A driver's probe may be under way without the device showing it, since it may be asynchronous. Writing to
/// `drivers_probe` probes the device in the writing thread, behind a probe that is under way (drivers/base/dd.c,
/// `__device_attach`): what has no driver afterwards gets none.
async fn probe_fails(
    host: &Host,
    device: &DeviceAddress,
    deadline: Duration,
    pause: Duration,
) -> ArrivalError {
    let mut failed = 0;
    loop {
        match has_driver(host, device) {
            Ok(true) => {}
            Ok(false) if failed == PROBES => {
                return ArrivalError::NoDriver { device: device.clone(), probes: PROBES };
            }
            Ok(false) => {
                failed += 1;
                let path = format!("/sys/bus/{}/drivers_probe", device.bus());
                if let Err(error) = host.write_attribute_within(path, device.name(), deadline).await {
                    tracing::warn!(
                        %device,
                        %error,
                        "cannot offer the device to the drivers: writing drivers_probe failed"
                    );
                }
            }
            Err(error) => return error.into(),
        }
        tokio::time::sleep(pause).await;
    }
}

fn has_driver(host: &Host, device: &DeviceAddress) -> Result<bool, ObserveError> {
    Ok(driver_of(host, device)?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PF: &str = "sys/bus/pci/devices/0000:01:00.0";

    fn tree() -> (tempfile::TempDir, DeviceAddress) {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join(PF)).unwrap();
        std::fs::write(tree.path().join("sys/bus/pci/drivers_probe"), "").unwrap();
        (tree, DeviceAddress::new("pci", "0000:01:00.0").unwrap())
    }

    /// A PF with two VFs on vfio-pci and igbvf, whose numvfs and unbind files take what is written.
    fn with_vfs() -> (tempfile::TempDir, DeviceAddress) {
        let (tree, pf) = tree();
        let root = tree.path();
        let device = root.join(PF);
        std::fs::write(device.join("sriov_numvfs"), "2\n").unwrap();
        for (index, driver) in ["vfio-pci", "igbvf"].into_iter().enumerate() {
            let name = format!("0000:01:10.{index}");
            let vf = root.join("sys/bus/pci/devices").join(&name);
            let folder = root.join("sys/bus/pci/drivers").join(driver);
            std::fs::create_dir_all(&vf).unwrap();
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("unbind"), "").unwrap();
            let link = |to: String, at: std::path::PathBuf| std::os::unix::fs::symlink(to, at).unwrap();
            link(format!("../{name}"), device.join(format!("virtfn{index}")));
            link("../0000:01:00.0".to_owned(), vf.join("physfn"));
            link(format!("../../drivers/{driver}"), vf.join("driver"));
        }
        (tree, pf)
    }

    fn written(tree: &tempfile::TempDir, file: &str) -> String {
        std::fs::read_to_string(tree.path().join(file)).unwrap()
    }

    async fn refused(tree: &tempfile::TempDir, pf: &DeviceAddress) -> String {
        let selector = crate::usage::igb();
        let errors =
            remove_vfs(&Host::at(tree.path()), &selector, std::slice::from_ref(pf), 4, Patience::default())
                .await;
        assert_eq!(written(tree, &format!("{PF}/sriov_numvfs")), "2\n", "nothing is written to the PF");
        let [error] = &errors[..] else { panic!("{errors:?}") };
        nic_host::error_chain(error).clone()
    }

    #[tokio::test]
    async fn fault_4_2_a_vf_that_keeps_its_driver_keeps_all_vfs() {
        let (tree, pf) = with_vfs();
        let error = refused(&tree, &pf).await;
        assert!(error.contains("0000:01:10.0 is still bound to vfio-pci"), "{error}");
        assert_eq!(written(&tree, "sys/bus/pci/drivers/igbvf/unbind"), "0000:01:10.1");
    }

    #[tokio::test]
    async fn fault_4_2_while_one_vf_is_in_use_no_other_is_unbound() {
        let (tree, pf) = with_vfs();
        // A group whose device number is not one.
        let group = tree.path().join("sys/class/vfio/7");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("dev"), "none\n").unwrap();
        let device = tree.path().join("sys/bus/pci/devices/0000:01:10.0");
        std::os::unix::fs::symlink("../../../../kernel/iommu_groups/7", device.join("iommu_group")).unwrap();
        let error = refused(&tree, &pf).await;
        assert!(error.contains("0000:01:10.0 may be in use"), "{error}");
        assert_eq!(written(&tree, "sys/bus/pci/drivers/igbvf/unbind"), "");
    }

    #[tokio::test]
    async fn fault_4_2_a_pf_whose_own_device_is_in_use_keeps_all_vfs() {
        let (tree, pf) = with_vfs();
        // A virtual machine has a sub-function of it, as a vDPA device.
        let node = "sys/devices/pci0000:00/0000:01:00.0/mlx5_core.sf.2/vdpa0/vhost-vdpa-0";
        std::fs::create_dir_all(tree.path().join(node)).unwrap();
        std::fs::write(tree.path().join(node).join("dev"), "509:0\n").unwrap();
        std::fs::create_dir_all(tree.path().join("sys/bus/vdpa/devices")).unwrap();
        std::fs::create_dir_all(tree.path().join("proc")).unwrap();
        std::os::unix::fs::symlink(
            "../../../devices/pci0000:00/0000:01:00.0/mlx5_core.sf.2/vdpa0",
            tree.path().join("sys/bus/vdpa/devices/vdpa0"),
        )
        .unwrap();
        let error = refused(&tree, &pf).await;
        assert!(error.contains("0000:01:00.0 may be in use: whether /dev/vhost-vdpa-0 is open"), "{error}");
        assert_eq!(written(&tree, "sys/bus/pci/drivers/igbvf/unbind"), "");
    }

    #[tokio::test]
    async fn fault_4_2_vfs_that_cannot_be_listed_are_not_none() {
        let (tree, pf) = with_vfs();
        let link = tree.path().join(PF).join("virtfn1");
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("../nothing-like-an-address", &link).unwrap();
        refused(&tree, &pf).await;
        assert_eq!(written(&tree, "sys/bus/pci/drivers/igbvf/unbind"), "");
    }

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn a_device_that_no_driver_takes_is_given_up_before_the_deadline() {
        let (tree, pf) = tree();
        let begun = std::time::Instant::now();
        let error = probe_fails(&Host::at(tree.path()), &pf, LONG, SHORT).await;
        assert_eq!(error.to_string(), "no driver has taken 0000:01:00.0, which was probed 3 times");
        assert!(begun.elapsed() < LONG / 10, "{:?}", begun.elapsed());
        let offered = std::fs::read_to_string(tree.path().join("sys/bus/pci/drivers_probe")).unwrap();
        assert_eq!(offered, "0000:01:00.0");
    }

    #[tokio::test]
    async fn a_device_with_a_driver_is_waited_for_and_not_probed() {
        let (tree, pf) = tree();
        std::os::unix::fs::symlink("../igb", tree.path().join(PF).join("driver")).unwrap();
        let host = Host::at(tree.path());
        let ended = tokio::time::timeout(10 * SHORT, probe_fails(&host, &pf, LONG, SHORT));
        assert!(ended.await.is_err());
        let offered = std::fs::read_to_string(tree.path().join("sys/bus/pci/drivers_probe")).unwrap();
        assert_eq!(offered, "");
    }
}
