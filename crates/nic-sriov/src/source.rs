//! Where netlink's answers come from: the kernel that runs, or a recording.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nic_host::{Foreign, Host, ListError, LookError, ReadError};
use nic_netlink::{Devlink, DevlinkHandle, Eswitch, IfIndex, Links, Netlink, Setting, Unread, VfList};
use serde::Deserialize;

use crate::DeviceAddress;

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
    /// It took longer than it may, or could not be begun.
    #[error(transparent)]
    Look(#[from] LookError),
    /// A question to the kernel over netlink failed.
    #[error("cannot read the links over netlink")]
    Netlink(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What the kernel says of one of the device's links cannot be read.
    #[error("link {index} of {device} is not known: {}", Foreign(why))]
    Link {
        /// The device.
        device: DeviceAddress,
        /// The link.
        index: IfIndex,
        /// What is wrong with the message.
        why: String,
    },
    /// A tree's recording of the eswitches is none.
    #[error("{} is not a list of eswitches", path.display())]
    Recording {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// By its count, or by a later VF, a PF has a VF of which it shows no device.
    #[error("{pf} has a VF {vf}, by its count or by a later one, and no virtfn{vf}")]
    NoSuchVf {
        /// The PF.
        pf: DeviceAddress,
        /// The VF's number.
        vf: u32,
    },
    /// By its `sriov_totalvfs` a PF has SR-IOV, and does not tell how many VFs it has.
    #[error("{pf} has sriov_totalvfs and no sriov_numvfs, as while it is reset")]
    NoNumVfs {
        /// The PF.
        pf: DeviceAddress,
    },
    /// It is there, and nothing is known of it.
    #[error(transparent)]
    NotKnown(#[from] Unread),
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
    /// devlink; `None` where no socket could be had for it.
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
    pub eswitches: BTreeMap<String, RecordedEswitch>,
}

/// What was recorded of one device's eswitch.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum RecordedEswitch {
    /// What it is.
    Known(Eswitch),
    /// What is known of it.
    Setting(Setting<Eswitch>),
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
                tracing::warn!(%error, "no socket for devlink: what the eswitches are is not known");
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

    /// What the driver says of the VFs of the PF with this netdev.
    pub(crate) async fn vfs(&self, pf: IfIndex) -> Result<VfList, Unread> {
        let list = match self {
            Self::Recorded(recording) => Some(recording.vfs.get(&pf).cloned().unwrap_or_default()),
            Self::Kernel(kernel) => kernel.netlink.vfs(pf).await.map_err(|error| Unread::of(&error))?,
        };
        list.ok_or_else(|| {
            Unread::because("the PF's netdev, which is whom to ask for its VFs, has just gone")
        })
    }

    /// The device's eswitch. What cannot be read of one is not known of that one.
    pub(crate) async fn eswitch(&self, device: &DeviceAddress) -> Setting<Eswitch> {
        match self {
            Self::Recorded(recording) => match recording.eswitches.get(&device.to_string()) {
                None => Setting::NotThere,
                Some(RecordedEswitch::Known(eswitch)) => Setting::Set(*eswitch),
                Some(RecordedEswitch::Setting(setting)) => setting.clone(),
            },
            Self::Kernel(KernelLinks { devlink: None, .. }) => {
                Setting::NotKnown(Unread::because("no socket could be had for devlink"))
            }
            Self::Kernel(KernelLinks { devlink: Some(devlink), .. }) => {
                Setting::read(devlink.eswitch(&devlink_handle(device)).await)
            }
        }
    }
}

pub(crate) fn devlink_handle(device: &DeviceAddress) -> DevlinkHandle {
    DevlinkHandle { bus: device.bus().to_owned(), device: device.name().to_owned() }
}
