//! What MLNX_OFED's driver shows of an InfiniBand PF's VFs in sysfs, for where the PF has no netdev to ask: `<PF>/sriov/<N>/{node,port,policy}`.

use nic_host::{Foreign, Host};
use nic_netlink::{Guid, Setting, Unread, VfAttributes, VfLinkState};

use crate::DeviceAddress;

/// The folders of a PF's VFs.
pub(crate) struct IbFolders<'a> {
    host: &'a Host,
    pf: &'a DeviceAddress,
    /// Why they are not believed.
    doubt: Option<Unread>,
}

impl<'a> IbFolders<'a> {
    /// The folders of this PF; `None` where the driver has none, or none of InfiniBand's.
    ///
    /// In versions of that driver the files of VF N show what is of the VF before it, and those of the first what is of the PF: they ask for
    /// vport N (`node_show`), and set vport N + 1 (`node_store`). Where the first shows the PF's own GUID, or that cannot be told, none is
    /// believed.
    pub(crate) fn of(host: &'a Host, pf: &'a DeviceAddress) -> Option<Self> {
        let folders = Self { host, pf, doubt: None };
        let first = match folders.read(0, "node") {
            Ok(first) => first?,
            Err(unread) => return Some(Self { doubt: Some(unread), ..folders }),
        };
        let own = own_guids(host, pf);
        let why = if own.is_empty() {
            "MLNX_OFED may show the GUIDs of the VF before, and the PF has no RDMA device to tell whether it does"
        } else if own.contains(&first) {
            "MLNX_OFED shows the GUIDs of the VF before: load ib_ipoib, so that the PF has a netdev to ask"
        } else {
            return Some(folders);
        };
        Some(Self { doubt: Some(Unread::because(why)), ..folders })
    }

    /// What the PF holds for VF number `vf`.
    pub(crate) fn attributes(&self, vf: u32) -> Setting<VfAttributes> {
        if let Some(doubt) = &self.doubt {
            return Setting::NotKnown(doubt.clone());
        }
        match self.read_attributes(vf) {
            Ok(attributes) => Setting::Set(attributes),
            Err(unread) => Setting::NotKnown(unread),
        }
    }

    fn read_attributes(&self, vf: u32) -> Result<VfAttributes, Unread> {
        let value = |file: &str| {
            let absent = || Unread::because(format!("there is no {}", self.path(vf, file)));
            self.read(vf, file)?.ok_or_else(absent)
        };
        let guid = |file: &str| {
            let text = value(file)?;
            let guid: Guid = text.parse().map_err(|error| Unread::of(&error))?;
            Ok::<_, Unread>(if guid.is_zero() { Setting::NotSet } else { Setting::Set(guid) })
        };
        let policy = value("policy")?;
        let link_state = match policy.as_str() {
            "Follow" => VfLinkState::Auto,
            "Up" => VfLinkState::Enable,
            "Down" => VfLinkState::Disable,
            other => {
                let why = format!("{} holds {}, which is no policy", self.path(vf, "policy"), Foreign(other));
                return Err(Unread::because(why));
            }
        };
        Ok(VfAttributes {
            node_guid: guid("node")?,
            port_guid: guid("port")?,
            link_state,
            ..VfAttributes::new(vf)
        })
    }

    fn read(&self, vf: u32, file: &str) -> Result<Option<String>, Unread> {
        self.host.attribute(self.path(vf, file)).map_err(|error| Unread::of(&error))
    }

    fn path(&self, vf: u32, file: &str) -> String {
        format!("{}/sriov/{vf}/{file}", self.pf.sysfs())
    }
}

/// The node GUIDs of the PF's own RDMA devices, in the form of the VFs' files. In `node_guid` they stand in groups of two bytes
/// (`node_guid_show` in `drivers/infiniband/core/sysfs.c`).
fn own_guids(host: &Host, pf: &DeviceAddress) -> Vec<String> {
    let folder = format!("{}/infiniband", pf.sysfs());
    let names = host.list_if_exists(&folder).unwrap_or_default();
    let guid = |name: String| {
        let text = host.attribute(format!("{folder}/{name}/node_guid")).ok()??;
        let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
        let pairs: Vec<String> = digits.chunks(2).map(|pair| pair.iter().collect()).collect();
        (pairs.len() == 8).then(|| pairs.join(":"))
    };
    names.into_iter().filter_map(guid).collect()
}
