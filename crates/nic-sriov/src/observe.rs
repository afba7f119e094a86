//! Reading the machine: sysfs for what a device is, one link dump for all that its netdevs are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use nic_host::{Foreign, Host, ListError, ReadError};
use nic_netlink::{Devlink, DevlinkHandle, Eswitch, IfIndex, Link, Links, Netlink, PhysPort, VfList};
use serde::{Deserialize, Serialize};

use crate::check::MOST_VFS;
use crate::net_folder::is_elsewhere;
use crate::ofed;
use crate::{
    DeviceAddress, NetdevState, NicState, PciAddress, PciId, PfState, RepresentorState, VfNetdev, VfState,
};

/// include/uapi/linux/netdevice.h: the kernel made the address up.
const NET_ADDR_RANDOM: u32 = 1;

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

/// A machine that could not be observed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A folder of sysfs could not be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// An attribute could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An attribute's value is not what the kernel documents.
    #[error("{path} holds {}, which is not {expected}", Foreign(value))]
    Value {
        /// The attribute.
        path: String,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// It took longer than it may.
    #[error("looking at the NICs has not ended after {} s: something of them hangs in the kernel", after.as_secs())]
    Deadline {
        /// How long it was waited for.
        after: Duration,
    },
    /// No thread could be had for it.
    #[error("cannot start a thread to look at the NICs from")]
    Thread(#[source] std::io::Error),
    /// A question to the kernel over netlink failed.
    #[error("cannot read the links over netlink")]
    Netlink(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A tree's recording of the eswitches is none.
    #[error("{} is not a list of eswitches", path.display())]
    Recording {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The kernel leaves a VF out of its list of a PF's VFs, as it does where the driver answers the question with an error
    /// (`rtnl_fill_vfinfo` in `net/core/rtnetlink.c`): what is set for it cannot be known.
    #[error("the kernel's list of the VFs of {pf} leaves out VF {vf}: what is set for it cannot be known")]
    VfNotTold {
        /// The PF.
        pf: DeviceAddress,
        /// The VF's number.
        vf: u32,
    },
    /// A question to the kernel over devlink failed.
    #[error("cannot read the eswitch of {device} over devlink")]
    Devlink {
        /// The PF.
        device: DeviceAddress,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Where netlink's answers come from: the running kernel, or a recording that lies in a fixture tree.
#[derive(Debug, Clone)]
pub enum LinkSource {
    /// The running kernel.
    Kernel(KernelLinks),
    /// A recording.
    Recorded(Recording),
}

/// The connections to the running kernel.
#[derive(Debug, Clone)]
pub struct KernelLinks {
    /// rtnetlink.
    pub netlink: Netlink,
    /// devlink; `None` where the kernel has none.
    pub devlink: Option<Devlink>,
}

/// What was recorded of a kernel's answers.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// The link dump.
    pub links: Links,
    /// What PFs' drivers say of their VFs, by the PF's netdev.
    pub vfs: BTreeMap<IfIndex, VfList>,
    /// The eswitches, by device.
    pub eswitches: BTreeMap<String, Eswitch>,
}

impl KernelLinks {
    /// The same connections, with another deadline for each question. The kernel answers one after the other what needs the same lock
    /// (`rtnl_lock`): while PFs make their VFs, a link dump waits for each of these.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self {
            netlink: self.netlink.with_deadline(deadline),
            devlink: self.devlink.as_ref().map(|devlink| devlink.with_deadline(deadline)),
        }
    }
}

impl LinkSource {
    /// The same source, with another deadline for each question to the running kernel.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        match self {
            Self::Kernel(kernel) => Self::Kernel(kernel.with_deadline(deadline)),
            Self::Recorded(recording) => Self::Recorded(recording.clone()),
        }
    }

    /// The running kernel's answers, or for another root those recorded under its `/netlink`.
    pub async fn open(host: &Host) -> Result<Self, ObserveError> {
        let boxed = |error| ObserveError::Netlink(error);
        if !host.is_running_machine() {
            let links = Links::recorded(host).map_err(|error| boxed(Box::new(error)))?;
            const ESWITCHES: &str = "/netlink/eswitches.json";
            let vfs = VfList::recorded(host).map_err(|error| boxed(Box::new(error)))?;
            let eswitches = match host.read_if_exists(ESWITCHES)? {
                None => BTreeMap::new(),
                Some(text) => serde_json::from_str(&text)
                    .map_err(|source| ObserveError::Recording { path: host.path(ESWITCHES), source })?,
            };
            return Ok(Self::Recorded(Recording { links, vfs, eswitches }));
        }
        let netlink = Netlink::connect().map_err(|error| boxed(Box::new(error)))?;
        let devlink = match Devlink::connect() {
            Ok(devlink) => Some(devlink),
            Err(error) => {
                tracing::info!(%error, "no devlink: eswitch modes are not looked at");
                None
            }
        };
        Ok(Self::Kernel(KernelLinks { netlink, devlink }))
    }

    /// All links.
    pub async fn links(&self) -> Result<Links, ObserveError> {
        match self {
            Self::Recorded(recording) => Ok(recording.links.clone()),
            Self::Kernel(kernel) => {
                kernel.netlink.links().await.map_err(|error| ObserveError::Netlink(Box::new(error)))
            }
        }
    }

    /// What the PF's driver says of its VFs; `None` where its netdev is gone by now.
    async fn vfs(&self, pf: IfIndex) -> Result<Option<VfList>, ObserveError> {
        match self {
            Self::Recorded(recording) => Ok(recording.vfs.get(&pf).cloned()),
            Self::Kernel(kernel) => {
                kernel.netlink.vfs(pf).await.map_err(|error| ObserveError::Netlink(Box::new(error)))
            }
        }
    }

    async fn eswitch(&self, device: &DeviceAddress) -> Result<Option<Eswitch>, ObserveError> {
        match self {
            Self::Recorded(recording) => Ok(recording.eswitches.get(&device.to_string()).copied()),
            Self::Kernel(KernelLinks { devlink: None, .. }) => Ok(None),
            Self::Kernel(KernelLinks { devlink: Some(devlink), .. }) => devlink
                .eswitch(&devlink_handle(device))
                .await
                .map_err(|source| ObserveError::Devlink { device: device.clone(), source: Box::new(source) }),
        }
    }
}

pub(crate) fn devlink_handle(device: &DeviceAddress) -> DevlinkHandle {
    DevlinkHandle { bus: device.bus().to_owned(), device: device.name().to_owned() }
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

/// Observes these PFs, with one link dump for all of them. A PF that has gone is left out.
pub async fn observe(
    host: &Host,
    source: &LinkSource,
    selector: &DeviceSelector,
    pfs: &[DeviceAddress],
) -> Result<NicState, ObserveError> {
    let links = source.links().await?;
    let mut state = NicState::default();
    for address in pfs {
        if host.exists(address.sysfs()) {
            state.pfs.push(observe_pf(host, source, selector, address, &links).await?);
        }
    }
    find_in_namespaces(host, &mut state).await?;
    Ok(state)
}

/// How often a list that leaves out a VF is looked at: their number may have changed just then.
const LOOKS: usize = 3;
/// Between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// [`observe_within`] for a snapshot: what is not known of a VF would be neither given back nor compared.
///
/// # Errors
/// Also when the kernel's list of a PF's VFs leaves one out, in several looks.
pub async fn observe_whole(
    host: &Host,
    source: &LinkSource,
    selector: &DeviceSelector,
    pfs: &[DeviceAddress],
    deadline: Duration,
) -> Result<NicState, ObserveError> {
    let mut looks = 1;
    loop {
        let state = observe_within(host, source, selector, pfs, deadline).await?;
        let Some((pf, vf)) = untold_vf(source, &state).await? else { return Ok(state) };
        if looks == LOOKS {
            return Err(ObserveError::VfNotTold { pf, vf });
        }
        looks += 1;
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// A VF that the kernel leaves out of its list of a PF's VFs, or of which it says what nobody understands.
async fn untold_vf(
    source: &LinkSource,
    state: &NicState,
) -> Result<Option<(DeviceAddress, u32)>, ObserveError> {
    for pf in &state.pfs {
        let Some(netdev) = pf.netdev.as_ref().filter(|_| !pf.vfs.is_empty()) else { continue };
        let Some(list) = source.vfs(netdev.index).await? else { continue };
        if let Some(untold) = pf.vfs.iter().find(|vf| list.get(vf.index).is_err()) {
            return Ok(Some((pf.address.clone(), untold.index)));
        }
    }
    Ok(None)
}

/// Tells netdevs in other network namespaces from those that are not there yet.
async fn find_in_namespaces(host: &Host, state: &mut NicState) -> Result<(), ObserveError> {
    let vfs = state.pfs.iter_mut().flat_map(|pf| &mut pf.vfs);
    let away = vfs.filter(|vf| vf.netdev == VfNetdev::NotVisible);
    let look = async |vf: &mut VfState| -> Result<(), ObserveError> {
        if let Some(address) = vf.address
            && is_elsewhere(host, &address.into()).await?
        {
            vf.netdev = VfNetdev::InNamespace;
        }
        Ok(())
    };
    // At once: each is looked at twice.
    join_all(away.map(look)).await.into_iter().collect()
}

/// [`observe`] from a thread of its own, for at most `deadline`.
///
/// Reading can hang where writing does: `sriov_numvfs` is read under the device's lock (drivers/pci/iov.c,
/// `sriov_numvfs_show`), which a probe or a write of `sriov_numvfs` that comes to no end holds. The thread is then left
/// behind and does not keep the process from ending. Each question over netlink has the same deadline.
pub async fn observe_within(
    host: &Host,
    source: &LinkSource,
    selector: &DeviceSelector,
    pfs: &[DeviceAddress],
    deadline: Duration,
) -> Result<NicState, ObserveError> {
    let (done, finished) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let (host, source, selector, pfs) =
        (host.clone(), source.with_deadline(deadline), selector.clone(), pfs.to_vec());
    std::thread::Builder::new()
        .name("observation".into())
        .spawn(move || {
            // The receiver is gone when the deadline has passed: nobody is left to be told.
            let _ = done.send(runtime.block_on(observe(&host, &source, &selector, &pfs)));
        })
        .map_err(ObserveError::Thread)?;
    match tokio::time::timeout(deadline, finished).await {
        Ok(Ok(observed)) => observed,
        Ok(Err(_)) => Err(ObserveError::Thread(std::io::Error::other("it ended without an answer"))),
        Err(_) => Err(ObserveError::Deadline { after: deadline }),
    }
}

/// The driver that the device is bound to.
pub(crate) fn driver_of(host: &Host, device: &DeviceAddress) -> Result<Option<String>, ObserveError> {
    Ok(host.link_name(format!("{}/driver", device.sysfs()))?)
}

/// The addresses of a PF's VFs, by index; none on a bus whose VFs are no devices of their own.
pub fn vf_addresses(host: &Host, pf: &DeviceAddress) -> Result<Vec<PciAddress>, ObserveError> {
    let sysfs = pf.sysfs();
    let count = num_vfs(host, &sysfs, None)?;
    (0..count).filter_map(|index| vf_address(host, &sysfs, index).transpose()).collect()
}

/// VF addresses are not the PF's plus N: the kernel says where each is.
fn vf_address(host: &Host, pf_sysfs: &str, index: u32) -> Result<Option<PciAddress>, ObserveError> {
    let path = format!("{pf_sysfs}/virtfn{index}");
    match host.link_name(&path)? {
        Some(name) => Ok(Some(pci_address(&path, &name)?)),
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
    let num_vfs = num_vfs(host, &sysfs, total_vfs)?;
    let driver = driver_of(host, address)?;
    let vf_list = match uplink {
        Some(uplink) if num_vfs > 0 => source.vfs(uplink.index).await?.unwrap_or_default(),
        Some(_) | None => VfList::default(),
    };
    let mut vfs = Vec::new();
    for index in 0..num_vfs {
        let vf_address = vf_address(host, &sysfs, index)?;
        // One that the kernel leaves out for the moment may be there at the next look; a snapshot is made of none such (`untold_vf`).
        let admin = vf_list.get(index).ok().flatten().cloned();
        vfs.push(match vf_address {
            Some(vf_address) => {
                let ofed = ofed::observe(host, address, index)?;
                VfState { ofed, ..observe_vf(host, selector, index, vf_address, admin, links)? }
            }
            None => VfState {
                index,
                address: None,
                driver: None,
                driver_override: None,
                admin,
                ofed: None,
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
        eswitch: if driver.is_some() { source.eswitch(address).await? } else { None },
        driver,
        total_vfs,
        num_vfs,
        drivers_autoprobe: number(host, &format!("{sysfs}/sriov_drivers_autoprobe"))?.map(|value| value != 0),
        netdev: uplink.map(|link| NetdevState::of(link, links)),
        vfs,
        representors,
    })
}

fn observe_vf(
    host: &Host,
    selector: &DeviceSelector,
    index: u32,
    address: PciAddress,
    admin: Option<nic_netlink::VfAttributes>,
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
    Ok(VfState { index, address: Some(address), driver, driver_override, admin, ofed: None, netdev })
}

/// The links that belong to a device. The kernel says whose child a link is since 5.14 (`IFLA_PARENT_DEV_NAME`);
/// before that, and for buses that do not say, the device's `net` folder lists them.
pub(crate) fn links_of_device<'links>(
    host: &Host,
    device: &DeviceAddress,
    links: &'links Links,
) -> Result<Vec<&'links Link>, ObserveError> {
    let named: Vec<&Link> = links
        .iter()
        .filter(|link| {
            link.parent_device.as_deref() == Some(device.name())
                && link.parent_bus.as_deref().is_none_or(|bus| bus == device.bus())
        })
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
        None if address.bus() != "pci" && host.exists(format!("{sysfs}/sriov_numvfs")) => {
            number(host, &format!("/sys/kernel/debug/{}/{}/max_vfs", address.bus(), address.name()))
        }
        None => Ok(None),
    }
}

/// `sriov_numvfs`, which no PF has above its `total`; 0 without SR-IOV.
fn num_vfs(host: &Host, pf_sysfs: &str, total: Option<u32>) -> Result<u32, ObserveError> {
    let path = format!("{pf_sysfs}/sriov_numvfs");
    let count = number(host, &path)?.unwrap_or(0);
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
