//! Whether somebody uses a device: one question with three answers, asked of every way that the kernel has of using one.
//!
//! | way | sign | asked in |
//! |---|---|---|
//! | VFIO, by group, by device file, or by a vendor's own VFIO driver | `enable` of the device; its group is open | `usage/vfio.rs` |
//! | UIO | `uio` below the device, and who has its file open | `usage/nodes.rs` |
//! | verbs, MADs and fwctl, also of sub-functions | the device files below the device, and who has them open | `usage/nodes.rs` |
//! | vDPA, given to a virtual machine or to a netdev | the devices of the bus `vdpa` that stand on it | `usage/vdpa.rs` |
//! | a netdev in another network namespace | the device's `net` folder ([`crate::net_folder`]) | by a restore alone |
//! | a driver that is none of these | – | cannot be told |
//!
//! That a VF's netdev is in another network namespace keeps a restore from the VF, and a reload not.

mod nodes;
mod vdpa;
mod vfio;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nic_host::{Host, OpenDevice, error_chain};

pub(crate) use self::vdpa::vdpa_devices;

use self::vdpa::VdpaDevice;
use crate::observe::driver_of;
use crate::{DeviceAddress, DeviceSelector};

/// Whether somebody uses a device. Unless it is free, neither it nor its PF may be touched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Usage {
    /// Nobody does, in no way that the kernel has.
    Free,
    /// Somebody does.
    InUse(DeviceUser),
    /// Nobody was found, and there may be somebody all the same.
    CannotBeTold(Untold),
}

/// Who uses a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceUser {
    /// A process that is seen has this device file open.
    Process {
        /// The process's id, in this process's namespace.
        pid: u32,
        /// The process's name.
        command: String,
        /// The device file, as it is called on this machine.
        file: String,
    },
    /// A virtual machine or another process, which need not be seen, has this device file open.
    Open(String),
    /// Whoever has its netdev in another network namespace.
    Namespace,
    /// Whoever has the netdev of this vDPA device in another network namespace.
    VdpaNamespace(String),
}

/// Why it cannot be told whether somebody uses a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Untold {
    /// Whether a device file is open cannot be told.
    File {
        /// The device file.
        file: String,
        /// What keeps it from being told.
        why: String,
    },
    /// The device has a driver of which nothing is known.
    Driver(String),
    /// The device cannot be looked at.
    Device(String),
}

impl Usage {
    /// Of several answers: the first user, else the first that cannot be told. What comes after a user is not asked.
    fn of_all(answers: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::Free;
        for answer in answers {
            match answer {
                Self::Free => {}
                Self::InUse(_) => return answer,
                Self::CannotBeTold(_) if all == Self::Free => all = answer,
                Self::CannotBeTold(_) => {}
            }
        }
        all
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("is used by nobody"),
            Self::InUse(user) => write!(f, "is in use: {user}"),
            Self::CannotBeTold(untold) => write!(f, "may be in use: {untold}"),
        }
    }
}

impl fmt::Display for DeviceUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command, file } => write!(f, "process {pid} ({command}) has {file} open"),
            Self::Open(file) => write!(f, "{file} is open"),
            Self::Namespace => f.write_str("its netdev is in another network namespace"),
            Self::VdpaNamespace(device) => {
                write!(f, "the netdev of its vDPA device {device} is in another network namespace")
            }
        }
    }
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, why } => write!(f, "whether {file} is open cannot be told: {why}"),
            Self::Driver(driver) => {
                write!(f, "it has the driver {driver}, whose users cannot be told")
            }
            Self::Device(why) => write!(f, "that cannot be told: {why}"),
        }
    }
}

/// Drivers that only keep others off a device (`drivers/pci/pci-stub.c`, `drivers/pci/pci-pf-stub.c`).
const STUBS: &[&str] = &["pci-stub", "pci-pf-stub"];

/// The question, asked of any number of devices at one time.
#[derive(Debug)]
pub struct Inquiry {
    host: Host,
    selector: DeviceSelector,
    opens_files: bool,
    asks_rdma: bool,
    processes: OnceLock<Result<Processes, String>>,
    vdpa: OnceLock<Result<Vec<VdpaDevice>, String>>,
}

/// The device files that processes have open.
#[derive(Debug)]
struct Processes {
    open: Vec<OpenDevice>,
    are_all: bool,
}

/// A device that is asked about.
struct Asked<'a> {
    device: &'a DeviceAddress,
    sysfs: String,
    driver: Option<String>,
}

impl Inquiry {
    /// A look that touches nothing, and so may be repeated as often as one likes. A VFIO group that is open while no device of it is passes
    /// unseen where its user's process cannot be seen: as a virtual machine starts it is so for a moment.
    #[must_use]
    pub fn gentle(host: &Host, selector: &DeviceSelector) -> Self {
        let (processes, vdpa) = (OnceLock::new(), OnceLock::new());
        let (host, selector) = (host.clone(), selector.clone());
        Self { host, selector, opens_files: false, asks_rdma: true, processes, vdpa }
    }

    /// The look right before a write. For a moment it has the VFIO group of each device open that nobody has, and a virtual machine that
    /// starts just then does not get it.
    #[must_use]
    pub fn before_write(host: &Host, selector: &DeviceSelector) -> Self {
        Self { opens_files: true, ..Self::gentle(host, selector) }
    }

    /// The same without the RDMA subsystem's device files, for whoever asks the modules that serve them.
    #[must_use]
    pub fn without_rdma(self) -> Self {
        Self { asks_rdma: false, ..self }
    }

    /// Whether somebody uses the devices, PFs and VFs, in their order. That a netdev of theirs is in another network namespace is not asked.
    ///
    /// A user who is found comes before what cannot be told. It is asked from a thread, for at most `deadline`: of devices that no answer
    /// has come for by then, it cannot be told.
    pub async fn usages(self, devices: &[DeviceAddress], deadline: Duration) -> Vec<Usage> {
        let answers = Arc::new(Mutex::new(Vec::with_capacity(devices.len())));
        let (host, asked, given) = (self.host.clone(), devices.to_vec(), answers.clone());
        let answers_now = || answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ask = move |host: &Host| {
            let inquiry = Self { host: host.clone(), ..self };
            for device in asked {
                let usage = inquiry.usage(&device);
                given.lock().unwrap_or_else(PoisonError::into_inner).push(usage);
            }
        };
        let asked = host.look_within("who uses the devices", deadline, ask).await;
        let mut usages: Vec<Usage> = answers_now();
        if let Err(error) = asked {
            let untold = Usage::CannotBeTold(Untold::Device(error_chain(&error)));
            usages.resize(devices.len(), untold);
        }
        usages
    }

    /// [`Inquiry::usages`] of one device.
    pub async fn usage_within(self, device: &DeviceAddress, deadline: Duration) -> Usage {
        let usages = self.usages(std::slice::from_ref(device), deadline).await;
        Usage::of_all(usages)
    }

    /// Whether somebody uses the device. May hang.
    fn usage(&self, device: &DeviceAddress) -> Usage {
        let driver = match driver_of(&self.host, device) {
            Ok(driver) => driver,
            Err(error) => return Usage::CannotBeTold(Untold::Device(error_chain(&error))),
        };
        let asked = Asked { device, sysfs: device.sysfs(), driver };
        let ways = [Self::vfio, Self::vdpa, Self::nodes, Self::driver];
        Usage::of_all(ways.into_iter().map(|ask| ask(self, &asked)))
    }

    /// Of a driver that is neither the family's, nor one whose users are asked for, nobody here knows them: Xen's `pciback`, for one, gives
    /// the device to another domain, and tells its own tools alone.
    fn driver(&self, asked: &Asked<'_>) -> Usage {
        let Some(driver) = &asked.driver else { return Usage::Free };
        let has = |folder: &str| self.host.exists(format!("{}/{folder}", asked.sysfs));
        let is_known = self.selector.pf_drivers.contains(driver)
            || self.selector.vf_drivers.contains(driver)
            || STUBS.contains(&driver.as_str())
            || vfio::is_vfio_driver(driver)
            || ["vfio-dev", "uio", "net", "infiniband"].iter().any(|folder| has(folder));
        if is_known { Usage::Free } else { Usage::CannotBeTold(Untold::Driver(driver.clone())) }
    }

    fn processes(&self) -> Result<&Processes, String> {
        let look = || -> Result<Processes, String> {
            let ids = self.host.processes().map_err(|error| error_chain(&error))?;
            let open = ids.iter().flat_map(|pid| self.host.open_devices(*pid)).collect();
            Ok(Processes { open, are_all: self.host.sees_all(&ids) })
        };
        self.processes.get_or_init(look).as_ref().map_err(Clone::clone)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use self::tests::igb;
