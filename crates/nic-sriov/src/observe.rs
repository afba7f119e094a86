//! Reading the machine: sysfs for what a device is, one link dump for all that its netdevs are.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use nic_host::{Host, LookError};
use nic_netlink::{IfIndex, Link, Links, PhysPort, Setting, Unread, VfAttributes, VfList};
use serde::{Deserialize, Serialize};

use crate::check::MOST_VFS;
use crate::ib_folders::IbFolders;
use crate::net_folder::{NetFolder, is_elsewhere, net_folder};
use crate::ofed;
use crate::rdma::rdma_devices;
use crate::source::{LinkSource, ObserveError};
use crate::state::UnreadPf;
use crate::{
    DeviceAddress, NetdevState, NicState, OfedAttributes, PciAddress, PciId, PfState, RepresentorState,
    VfNetdev, VfState,
};

/// include/uapi/linux/netdevice.h: the kernel made the address up.
const NET_ADDR_RANDOM: u32 = 1;

/// The bus whose VFs are devices of their own.
const PCI: &str = "pci";

/// Which devices are the PFs of a NIC family, and which drivers make VFs' netdevs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSelector {
    /// The bus in sysfs: `pci`, `netdevsim`.
    pub bus: String,
    /// The PCI vendor, e.g. `0x15b3`; `None` on buses without vendors.
    #[serde(default)]
    pub vendor: Option<String>,
    /// The drivers that PFs of the family are bound to.
    pub pf_drivers: Vec<String>,
    /// The drivers whose VFs have netdevs.
    pub vf_drivers: Vec<String>,
}

/// A device on a family's bus, of its vendor. Whether it is one of the family's is for its `modalias` to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusDevice {
    /// The device.
    pub address: DeviceAddress,
    /// Its driver; `None` when none has taken it.
    pub driver: Option<String>,
    /// What the kernel asks modprobe for when the device appears; `None` on buses without it.
    pub modalias: Option<String>,
    /// Whether it is a VF: those come and go with their PF.
    pub is_vf: bool,
}

/// The devices on the family's bus that are of its vendor, whichever driver they have, sorted.
///
/// # Errors
/// What kept a folder or an attribute of sysfs from being read. A device that goes meanwhile is left out.
pub fn bus_devices(host: &Host, selector: &DeviceSelector) -> Result<Vec<BusDevice>, ObserveError> {
    let mut found = Vec::new();
    for name in host.list_if_exists(format!("/sys/bus/{}/devices", selector.bus))? {
        let Ok(address) = DeviceAddress::new(&selector.bus, &name) else { continue };
        let sysfs = address.sysfs();
        if let Some(vendor) = &selector.vendor
            && host.attribute(format!("{sysfs}/vendor"))?.as_deref() != Some(vendor)
        {
            continue;
        }
        found.push(BusDevice {
            driver: host.link_name(format!("{sysfs}/driver"))?,
            modalias: host.attribute(format!("{sysfs}/modalias"))?,
            is_vf: host.exists(format!("{sysfs}/physfn")),
            address,
        });
    }
    found.sort_by(|one, other| one.address.cmp(&other.address));
    Ok(found)
}

/// The addresses of the family's PFs: devices of its vendor that are bound to one of its PF drivers and are not
/// VFs themselves, sorted.
pub fn find_pfs(host: &Host, selector: &DeviceSelector) -> Result<Vec<DeviceAddress>, ObserveError> {
    let is_pf = |device: &BusDevice| {
        !device.is_vf && device.driver.as_ref().is_some_and(|driver| selector.pf_drivers.contains(driver))
    };
    let devices = bus_devices(host, selector)?;
    Ok(devices.into_iter().filter(is_pf).map(|device| device.address).collect())
}

/// Observes these PFs, with one link dump for all of them. A PF that has gone is left out; one that cannot be read is
/// [unread](NicState::unread), and the others are what they are.
///
/// Reading can hang where writing does: `sriov_numvfs` and a VF's `driver_override` are read under the device's lock, which a probe or a
/// write of `sriov_numvfs` that comes to no end holds. So each PF is looked at from a thread of its own, and one that is not done within
/// `deadline` is unread. Each question over netlink has the same deadline.
///
/// # Errors
/// What keeps all of them from being looked at.
pub async fn observe(
    host: &Host,
    source: &LinkSource,
    selector: &DeviceSelector,
    pfs: &[DeviceAddress],
    deadline: Duration,
) -> Result<NicState, ObserveError> {
    Ok(look_at(host, source, selector, pfs, deadline).await?.state)
}

/// How often something that is not known is looked for: the number of VFs may have changed just then, or a netdev have been renamed.
const LOOKS: usize = 3;
/// Between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// [`observe`] for a snapshot: where something is not known, it is looked for once more and again. A recording is what it is, and what
/// hangs is not waited for twice.
///
/// # Errors
/// What keeps all of them from being looked at.
pub async fn observe_whole(
    host: &Host,
    source: &LinkSource,
    selector: &DeviceSelector,
    pfs: &[DeviceAddress],
    deadline: Duration,
) -> Result<NicState, ObserveError> {
    let mut looks = 1;
    loop {
        let Seen { state, hangs } = look_at(host, source, selector, pfs, deadline).await?;
        let is_recorded = matches!(source, LinkSource::Recorded(_));
        if looks == LOOKS || hangs || is_recorded || state.not_known().is_empty() {
            return Ok(state);
        }
        looks += 1;
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// What one look has found.
struct Seen {
    state: NicState,
    /// Whether a PF was not done in time.
    hangs: bool,
}

async fn look_at(
    host: &Host,
    source: &LinkSource,
    selector: &DeviceSelector,
    pfs: &[DeviceAddress],
    deadline: Duration,
) -> Result<Seen, ObserveError> {
    let source = Arc::new(source.with_deadline(deadline));
    let links = Arc::new(source.links().await?);
    let look = async |address: &DeviceAddress| {
        let (runtime, pf) = (tokio::runtime::Handle::current(), address.clone());
        let (source, links, selector) = (source.clone(), links.clone(), selector.clone());
        let look = move |host: &Host| {
            runtime.block_on(async {
                look_in_namespaces(host, observe_pf(host, &source, &selector, &pf, &links).await).await
            })
        };
        let found = host.look_within(address.name(), deadline, look).await;
        (address.clone(), found.map_err(ObserveError::from).flatten())
    };
    // At once: one may hang, and each VF that is not visible is looked at twice.
    let there = pfs.iter().filter(|pf| host.exists(pf.sysfs()));
    let mut seen = Seen { state: NicState::default(), hangs: false };
    for (address, pf) in join_all(there.map(look)).await {
        match pf {
            Ok(pf) => seen.state.pfs.push(pf),
            // It went meanwhile.
            Err(_) if !host.exists(address.sysfs()) => {}
            Err(error) => {
                seen.hangs |= matches!(&error, ObserveError::Look(LookError::Deadline { .. }));
                seen.state.unread.push(UnreadPf { address, not_known: Unread::of(&error) });
            }
        }
    }
    Ok(seen)
}

/// Tells VFs' netdevs in other network namespaces from those that are not there yet.
async fn look_in_namespaces(host: &Host, pf: Result<PfState, ObserveError>) -> Result<PfState, ObserveError> {
    let mut pf = pf?;
    let away = pf.vfs.iter_mut().filter(|vf| matches!(vf.netdev, VfNetdev::NotVisible));
    let look = async |vf: &mut VfState| -> Result<(), ObserveError> {
        if let Some(address) = vf.address
            && is_elsewhere(host, &address.into()).await?
        {
            vf.netdev = VfNetdev::InNamespace;
        }
        Ok(())
    };
    join_all(away.map(look)).await.into_iter().collect::<Result<(), ObserveError>>()?;
    Ok(pf)
}

/// The driver that the device is bound to.
pub(crate) fn driver_of(host: &Host, device: &DeviceAddress) -> Result<Option<String>, ObserveError> {
    Ok(host.link_name(format!("{}/driver", device.sysfs()))?)
}

/// The addresses of a PF's VFs, by index; none on a bus whose VFs are no devices of their own.
///
/// By its links to them, which unlike `sriov_numvfs` are read without a lock.
///
/// # Errors
/// The PF's folder cannot be listed, or one of the VFs before the last is missing.
pub fn vf_addresses(host: &Host, pf: &DeviceAddress) -> Result<Vec<PciAddress>, ObserveError> {
    let names = host.list_if_exists(pf.sysfs())?;
    let indexes = names.iter().filter_map(|name| name.strip_prefix("virtfn")?.parse::<u32>().ok());
    let count = indexes.map(|index| index.saturating_add(1)).max().unwrap_or(0).min(MOST_VFS);
    (0..count).filter_map(|index| vf_address(host, pf, index).transpose()).collect()
}

/// VF addresses are not the PF's plus N: the kernel says where each is. `None` on a bus whose VFs are no devices of their own.
fn vf_address(host: &Host, pf: &DeviceAddress, index: u32) -> Result<Option<PciAddress>, ObserveError> {
    let path = format!("{}/virtfn{index}", pf.sysfs());
    match host.link_name(&path)? {
        Some(name) => Ok(Some(pci_address(&path, &name)?)),
        None if pf.bus() == PCI => Err(ObserveError::NoSuchVf { pf: pf.clone(), vf: index }),
        None => Ok(None),
    }
}

async fn observe_pf(
    host: &Host,
    source: &LinkSource,
    selector: &DeviceSelector,
    address: &DeviceAddress,
    links: &Links,
) -> Result<PfState, ObserveError> {
    let sysfs = address.sysfs();
    let of_device = links_of_device(host, address, links)?;
    let uplink = of_device.iter().copied().find(|link| is_uplink(link));
    let total_vfs = total_vfs(host, address)?;
    let num_vfs = num_vfs(host, address, total_vfs)?;
    let driver = driver_of(host, address)?;
    let list = match uplink {
        None => Err(Unread::because("the PF has no netdev here, which is whom to ask for its VFs")),
        Some(_) if num_vfs == 0 => Ok(VfList::default()),
        Some(uplink) => source.vfs(uplink.index).await,
    };
    let folders = if list.is_err() { IbFolders::of(host, address) } else { None };
    let admin = |index: u32| match (&list, &folders) {
        (Ok(list), _) => list.setting(index),
        (Err(_), Some(folders)) => folders.attributes(index),
        (Err(unread), None) => Setting::NotKnown(unread.clone()),
    };
    let mut vfs = Vec::new();
    for index in 0..num_vfs {
        vfs.push(match vf_address(host, address, index)? {
            Some(vf_address) => {
                let ofed = ofed::observe(host, address, index);
                VfState { ofed, ..observe_vf(host, selector, index, vf_address, admin(index), links)? }
            }
            None => VfState {
                index,
                address: None,
                driver: None,
                driver_override: None,
                admin: admin(index),
                ofed: OfedAttributes::default(),
                rdma: Setting::NotThere,
                netdev: VfNetdev::Unbound,
            },
        });
    }
    let mut representors = Vec::new();
    for link in &of_device {
        let Some(port) = link.port() else { continue };
        if matches!(port.port, PhysPort::Vf { .. } | PhysPort::Sf { .. }) {
            let assigned = number(host, &format!("{sysfs}/net/{}/addr_assign_type", link.name))?;
            representors.push(RepresentorState {
                port,
                switch_id: link.phys_switch_id.clone(),
                address_is_random: assigned == Some(NET_ADDR_RANDOM),
                netdev: NetdevState::of(link, links),
            });
        }
    }
    representors.sort_by_key(|representor| representor.port);
    let pci_id =
        match (host.attribute(format!("{sysfs}/vendor"))?, host.attribute(format!("{sysfs}/device"))?) {
            (Some(vendor), Some(device)) => Some(PciId::of_sysfs(&vendor, &device)),
            _ => None,
        };
    Ok(PfState {
        address: address.clone(),
        pci_id,
        // Without a driver devlink has nothing to say, and asking is an error.
        eswitch: if driver.is_some() { source.eswitch(address).await } else { Setting::NotThere },
        driver,
        total_vfs,
        num_vfs,
        drivers_autoprobe: number(host, &format!("{sysfs}/sriov_drivers_autoprobe"))?.map(|value| value != 0),
        netdev: match uplink {
            Some(link) => Setting::Set(NetdevState::of(link, links)),
            None if of_device.is_empty() => hidden_netdev(net_folder(host, address)?),
            None => Setting::NotThere,
        },
        rdma: rdma_devices(host, address),
        vfs,
        representors,
    })
}

/// What is known of the netdev of a PF, of which netlink shows none.
fn hidden_netdev(folder: NetFolder) -> Setting<NetdevState> {
    let why = match folder {
        NetFolder::Absent => return Setting::NotThere,
        NetFolder::ElsewhereOnly => "it is in another network namespace",
        NetFolder::Here => {
            "sysfs shows a netdev, and netlink does not: they are of different network namespaces"
        }
    };
    Setting::NotKnown(Unread::because(why))
}

fn observe_vf(
    host: &Host,
    selector: &DeviceSelector,
    index: u32,
    address: PciAddress,
    admin: Setting<VfAttributes>,
    links: &Links,
) -> Result<VfState, ObserveError> {
    let device = DeviceAddress::from(address);
    let sysfs = device.sysfs();
    let driver = driver_of(host, &device)?;
    let netdev = match links_of_device(host, &device, links)?.first() {
        Some(link) => VfNetdev::Here(NetdevState::of(link, links)),
        None => match &driver {
            None => VfNetdev::Unbound,
            Some(driver) if selector.vf_drivers.contains(driver) => VfNetdev::NotVisible,
            Some(_) => VfNetdev::OtherDriver,
        },
    };
    // An unset override reads `(null)` (drivers/pci/pci-sysfs.c, driver_override_show).
    let driver_override = host
        .attribute(format!("{sysfs}/driver_override"))?
        .filter(|name| !name.is_empty() && name != "(null)");
    let rdma = rdma_devices(host, &device);
    let ofed = OfedAttributes::default();
    Ok(VfState { index, address: Some(address), driver, driver_override, admin, ofed, rdma, netdev })
}

/// The links that belong to a device. The kernel says whose child a link is since 5.14 (`IFLA_PARENT_DEV_NAME`);
/// before that, and for buses that do not say, the device's `net` folder lists them. One that could not be read is an error, and not none.
pub(crate) fn links_of_device<'links>(
    host: &Host,
    device: &DeviceAddress,
    links: &'links Links,
) -> Result<Vec<&'links Link>, ObserveError> {
    if links.has_unread() {
        for index in ifindexes_of_device(host, device)? {
            if let Some(why) = links.unread(index) {
                return Err(ObserveError::Link { device: device.clone(), index, why: why.to_owned() });
            }
        }
    }
    let named: Vec<&Link> = links
        .on_device(device.name())
        .filter(|link| link.parent_bus.as_deref().is_none_or(|bus| bus == device.bus()))
        .collect();
    if !named.is_empty() {
        return Ok(named);
    }
    Ok(ifindexes_of_device(host, device)?.into_iter().filter_map(|index| links.get(index)).collect())
}

/// The ifindexes of a device's netdevs in this network namespace, from its `net` folder.
pub(crate) fn ifindexes_of_device(host: &Host, device: &DeviceAddress) -> Result<Vec<IfIndex>, ObserveError> {
    let folder = format!("{}/net", device.sysfs());
    let mut found = Vec::new();
    for name in host.list_if_exists(&folder)? {
        // A rename between the listing and this read makes the old name vanish: the caller looks again.
        if let Some(index) = number(host, &format!("{folder}/{name}/ifindex"))? {
            found.push(IfIndex(index));
        }
    }
    Ok(found)
}

/// A PF's own port, and not a representor: it has no port name (outside switchdev), or that of a physical port.
pub(crate) fn is_uplink(link: &Link) -> bool {
    link.port().is_none_or(|port| port.is_uplink())
}

/// `sriov_totalvfs`; `None` where the device or its driver has no SR-IOV.
fn total_vfs(host: &Host, address: &DeviceAddress) -> Result<Option<u32>, ObserveError> {
    let sysfs = address.sysfs();
    match number(host, &format!("{sysfs}/sriov_totalvfs"))? {
        Some(total) => Ok(Some(total)),
        // netdevsim has its limit in debugfs alone; that numvfs exists shows that it has VFs.
        None if address.bus() != PCI && host.exists(format!("{sysfs}/sriov_numvfs")) => {
            number(host, &format!("/sys/kernel/debug/{}/{}/max_vfs", address.bus(), address.name()))
        }
        None => Ok(None),
    }
}

/// `sriov_numvfs`, which no PF has above its `total`; 0 without SR-IOV.
fn num_vfs(host: &Host, pf: &DeviceAddress, total: Option<u32>) -> Result<u32, ObserveError> {
    let path = format!("{}/sriov_numvfs", pf.sysfs());
    let count = match number(host, &path)? {
        Some(count) => count,
        None if total.is_some() => return Err(ObserveError::NoNumVfs { pf: pf.clone() }),
        None => 0,
    };
    if count > total.unwrap_or(MOST_VFS).min(MOST_VFS) {
        let expected = "a number of VFs that the PF can have (sriov_totalvfs)";
        return Err(ObserveError::Value { path, value: count.to_string(), expected });
    }
    Ok(count)
}

fn number(host: &Host, path: &str) -> Result<Option<u32>, ObserveError> {
    let Some(value) = host.attribute(path)? else { return Ok(None) };
    match value.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(ObserveError::Value { path: path.to_owned(), value, expected: "a number" }),
    }
}

fn pci_address(path: &str, name: &str) -> Result<PciAddress, ObserveError> {
    name.parse().map_err(|_| ObserveError::Value {
        path: path.to_owned(),
        value: name.to_owned(),
        expected: "a link to a PCI device",
    })
}
