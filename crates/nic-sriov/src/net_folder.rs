//! Where a device's netdevs are, by the `net` folder of the device.

use std::time::Duration;

use nic_host::{Host, ListError};

use crate::DeviceAddress;

/// What a device's `net` folder says.
///
/// The kernel makes it with the first netdev of the device and removes it with the last, in whichever network namespaces they are
/// (`get_device_parent` and `cleanup_glue_dir` in `drivers/base/core.c`); what is in it shows in the netdev's own namespace alone
/// (`class_dir_child_ns_type`). So it tells on every kernel, and of namespaces that have no id here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetFolder {
    /// The device has no netdev anywhere.
    Absent,
    /// All netdevs of the device are in other network namespaces. For an instant also when one comes or goes.
    ElsewhereOnly,
    /// The device has a netdev in this namespace.
    Here,
}

pub(crate) fn net_folder(host: &Host, device: &DeviceAddress) -> Result<NetFolder, ListError> {
    net_folder_at(host, &device.sysfs())
}

/// That of the device with this folder in sysfs.
pub(crate) fn net_folder_at(host: &Host, sysfs: &str) -> Result<NetFolder, ListError> {
    let folder = format!("{sysfs}/net");
    if !host.exists(&folder) {
        return Ok(NetFolder::Absent);
    }
    let is_empty = host.list_if_exists(&folder)?.is_empty();
    // It went between the two.
    if is_empty && !host.exists(&folder) {
        return Ok(NetFolder::Absent);
    }
    Ok(if is_empty { NetFolder::ElsewhereOnly } else { NetFolder::Here })
}

/// Between two looks at a folder that is empty: one that is being filled or removed is so for less.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// Whether all netdevs of the device are in other network namespaces, in two looks.
pub(crate) async fn is_elsewhere(host: &Host, device: &DeviceAddress) -> Result<bool, ListError> {
    if net_folder(host, device)? != NetFolder::ElsewhereOnly {
        return Ok(false);
    }
    tokio::time::sleep(SECOND_LOOK).await;
    Ok(net_folder(host, device)? == NetFolder::ElsewhereOnly)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn fault_4_4_an_empty_folder_is_a_netdev_in_another_namespace() {
        let tree = tempfile::tempdir().unwrap();
        let host = Host::at(tree.path());
        let device = DeviceAddress::new("pci", "0000:01:10.0").unwrap();
        let net = tree.path().join("sys/bus/pci/devices/0000:01:10.0/net");
        assert_eq!(net_folder(&host, &device).unwrap(), NetFolder::Absent);
        std::fs::create_dir_all(&net).unwrap();
        assert_eq!(net_folder(&host, &device).unwrap(), NetFolder::ElsewhereOnly);
        assert!(is_elsewhere(&host, &device).await.unwrap());
        // One that is only just being filled.
        let (elsewhere, ()) = tokio::join!(is_elsewhere(&host, &device), async {
            tokio::time::sleep(SECOND_LOOK / 4).await;
            std::fs::create_dir(net.join("eth0")).unwrap();
        });
        assert!(!elsewhere.unwrap());
        assert_eq!(net_folder(&host, &device).unwrap(), NetFolder::Here);
    }
}
