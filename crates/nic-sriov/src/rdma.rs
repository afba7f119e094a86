//! The names of devices' RDMA devices.

use nic_host::Host;
use nic_netlink::{Setting, Unread};

use crate::DeviceAddress;

/// The names of the device's RDMA devices, sorted: what its folder `infiniband` lists.
///
/// Like the folder of netdevs it is there with the first of them, and shows those of this network namespace alone (`ib_class` in
/// `drivers/infiniband/core/device.c` has `net_ns_type_operations`, too): one that is empty hides some. Devices that are software upon a netdev
/// are left out: somebody has made them, and they go with the netdev.
pub(crate) fn rdma_devices(host: &Host, device: &DeviceAddress) -> Setting<Vec<String>> {
    let folder = format!("{}/infiniband", device.sysfs());
    match host.list_if_exists(&folder) {
        Ok(names) if names.is_empty() && host.exists(&folder) => {
            Setting::NotKnown(Unread::because("its RDMA devices are in another network namespace"))
        }
        Ok(names) if names.is_empty() => Setting::NotThere,
        Ok(mut names) => {
            names.retain(|name| !is_software(host, &format!("{folder}/{name}")));
            names.sort_unstable();
            if names.is_empty() { Setting::NotThere } else { Setting::Set(names) }
        }
        Err(error) => Setting::NotKnown(Unread::of(&error)),
    }
}

/// Whether an RDMA device is rxe's, which alone shows the netdev that it stands on (`parent_show` in
/// `drivers/infiniband/sw/rxe/rxe_verbs.c`), or siw's (`SIW_NODE_DESC_COMMON` in `include/uapi/rdma/siw-abi.h`).
fn is_software(host: &Host, device: &str) -> bool {
    let is_siw = |described: String| described.starts_with("Software iWARP stack");
    host.exists(format!("{device}/parent"))
        || host.attribute(format!("{device}/node_desc")).ok().flatten().is_some_and(is_siw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_2_1_the_names_are_read_and_hidden_ones_are_not_none() {
        let tree = tempfile::tempdir().unwrap();
        let host = Host::at(tree.path());
        let pf = DeviceAddress::new("pci", "0000:01:00.0").unwrap();
        assert!(matches!(rdma_devices(&host, &pf), Setting::NotThere));
        let folder = host.path(format!("{}/infiniband", pf.sysfs()));
        std::fs::create_dir_all(&folder).unwrap();
        assert!(rdma_devices(&host, &pf).unread().is_some());
        for name in ["mlx5_1", "mlx5_0"] {
            std::fs::create_dir(folder.join(name)).unwrap();
        }
        assert_eq!(rdma_devices(&host, &pf).as_set().unwrap(), &["mlx5_0", "mlx5_1"]);
        for (name, file, text) in
            [("rxe0", "parent", "eth0\n"), ("siw0", "node_desc", "Software iWARP stack\n")]
        {
            std::fs::create_dir(folder.join(name)).unwrap();
            std::fs::write(folder.join(name).join(file), text).unwrap();
        }
        assert_eq!(rdma_devices(&host, &pf).as_set().unwrap().len(), 2);
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::write(&folder, "").unwrap();
        assert!(rdma_devices(&host, &pf).unread().is_some());
    }
}
