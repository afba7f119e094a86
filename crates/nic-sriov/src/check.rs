//! Whether a state of NICs can be at all: one that was written down may have been edited since, or damaged.

use std::collections::HashSet;

use nic_host::Foreign;
use nic_netlink::{HIGHEST_INT, IfIndex, VlanTag, ensure_address_fits, ensure_alias_fits, is_altname};

use crate::{Component, NetdevState, NicState, PfState, VfState};

/// The most VFs that a PF can have: `TotalVFs` has 16 bits (PCI Express, SR-IOV extended capability).
pub const MOST_VFS: u32 = 65_535;

/// The highest VLAN ID that drivers take (`igb_ndo_set_vf_vlan` in drivers/net/ethernet/intel/igb/igb_main.c): it has 12 bits.
const HIGHEST_VLAN: u16 = 4095;
/// The highest priority that they take: it has 3 bits.
const HIGHEST_PRIORITY: u8 = 7;
/// The longest name of a driver that is taken. Names are file names in sysfs.
const LONGEST_DRIVER: usize = 64;
/// The longest name of an RDMA device: `IB_DEVICE_NAME_MAX` less the closing NUL (`include/rdma/ib_verbs.h`).
const LONGEST_RDMA: usize = 63;

/// Two statements that cannot both be true, or one that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{component}: {what}")]
pub struct Contradiction {
    /// Whose statement it is.
    pub component: Component,
    /// The field, its value, and what speaks against it.
    pub what: String,
}

impl NicState {
    /// Looks whether the state can be: what is counted is there, nothing is there twice, and every value is one that the kernel could
    /// have told. A restore makes paths and messages of it.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), Contradiction> {
        let mut seen = Seen::default();
        for pf in &self.pfs {
            let component = Component::Pf(pf.address.clone());
            let wrong = |what| Contradiction { component: component.clone(), what };
            if !seen.devices.insert(pf.address.to_string()) {
                return Err(wrong("address: the device is there twice".to_owned()));
            }
            check_pf(pf).map_err(wrong)?;
            pf.netdev.as_set().map_or(Ok(()), |netdev| seen.netdev(netdev)).map_err(wrong)?;
            pf.rdma.as_set().map_or(Ok(()), |names| seen.rdma(names)).map_err(wrong)?;
            for (number, vf) in (0_u32..).zip(&pf.vfs) {
                let component = Component::of_vf(pf, vf);
                let wrong = |what| Contradiction { component: component.clone(), what };
                check_vf(number, vf).map_err(wrong)?;
                if let Some(address) = vf.address
                    && !seen.devices.insert(crate::DeviceAddress::from(address).to_string())
                {
                    return Err(wrong("address: the device is there twice".to_owned()));
                }
                vf.netdev.here().map_or(Ok(()), |netdev| seen.netdev(netdev)).map_err(wrong)?;
                vf.rdma.as_set().map_or(Ok(()), |names| seen.rdma(names)).map_err(wrong)?;
            }
            for representor in &pf.representors {
                let component = Component::Representor { pf: pf.address.clone(), port: representor.port };
                let wrong = |what| Contradiction { component, what };
                seen.netdev(&representor.netdev).map_err(wrong)?;
            }
        }
        for pf in &self.unread {
            if !seen.devices.insert(pf.address.to_string()) {
                let what = "address: the device is there twice".to_owned();
                return Err(Contradiction { component: Component::Pf(pf.address.clone()), what });
            }
        }
        Ok(())
    }
}

/// What may be there once.
#[derive(Default)]
struct Seen<'a> {
    devices: HashSet<String>,
    indexes: HashSet<IfIndex>,
    /// Names and alternative names are of one space (`netdev_name_in_use` in `net/core/dev.c`).
    names: HashSet<&'a str>,
    rdma: HashSet<&'a str>,
}

impl<'a> Seen<'a> {
    fn netdev(&mut self, netdev: &'a NetdevState) -> Result<(), String> {
        check_netdev(netdev)?;
        if !self.indexes.insert(netdev.index) {
            return Err(format!("netdev.index: {} is there twice", netdev.index));
        }
        if !self.names.insert(netdev.name.as_str()) {
            return Err(format!("netdev.name: {} is there twice", Foreign(netdev.name.as_str())));
        }
        match netdev.altnames.iter().find(|name| !self.names.insert(name.as_str())) {
            Some(name) => Err(format!("netdev.altnames: {} is there twice", Foreign(name))),
            None => Ok(()),
        }
    }

    fn rdma(&mut self, names: &'a [String]) -> Result<(), String> {
        for name in names {
            if !is_file_name(name, LONGEST_RDMA) {
                return Err(format!("rdma: {} is no name of an RDMA device", Foreign(name)));
            }
            if !self.rdma.insert(name) {
                return Err(format!("rdma: {} is there twice", Foreign(name)));
            }
        }
        Ok(())
    }
}

fn check_netdev(netdev: &NetdevState) -> Result<(), String> {
    for (field, value) in [("index", netdev.index.0), ("mtu", netdev.mtu)] {
        if value > HIGHEST_INT {
            return Err(format!("netdev.{field}: {value} is above {HIGHEST_INT}"));
        }
    }
    if netdev.index.0 == 0 {
        return Err("netdev.index: 0 is no interface's index".to_owned());
    }
    for (field, address) in
        [("address", Some(&netdev.address)), ("address_as_port", netdev.address_as_port.as_ref())]
    {
        let fits = address.map_or(Ok(()), ensure_address_fits);
        fits.map_err(|what| format!("netdev.{field}: {what}"))?;
    }
    if let Some(name) = netdev.altnames.iter().find(|name| !is_altname(name)) {
        return Err(format!("netdev.altnames: {} is no name of an interface", Foreign(name)));
    }
    netdev.alias.as_deref().map_or(Ok(()), ensure_alias_fits).map_err(|what| format!("netdev.alias: {what}"))
}

fn check_pf(pf: &PfState) -> Result<(), String> {
    let most = pf.total_vfs.unwrap_or(MOST_VFS).min(MOST_VFS);
    if pf.num_vfs > most {
        return Err(format!("num_vfs: {} are more than the {most} that the PF can have", pf.num_vfs));
    }
    let known = u32::try_from(pf.vfs.len()).ok();
    if known != Some(pf.num_vfs) {
        return Err(format!("vfs: {} are told of, and num_vfs is {}", pf.vfs.len(), pf.num_vfs));
    }
    check_driver("driver", pf.driver.as_deref())
}

fn check_vf(number: u32, vf: &VfState) -> Result<(), String> {
    if vf.index != number {
        return Err(format!("index: {} stands in the place of {number}", vf.index));
    }
    check_driver("driver", vf.driver.as_deref())?;
    check_driver("driver_override", vf.driver_override.as_deref())?;
    if let Some(vlan) =
        vf.ofed.trunk.as_set().and_then(|vlans| vlans.iter().find(|vlan| **vlan > HIGHEST_VLAN))
    {
        return Err(format!("ofed.trunk: {vlan} is above {HIGHEST_VLAN}"));
    }
    let Some(admin) = vf.admin.as_set() else { return Ok(()) };
    if admin.index != vf.index {
        return Err(format!("admin.index: {} are the attributes of another VF", admin.index));
    }
    admin.vlan.as_set().into_iter().chain(&admin.vlans).try_for_each(check_vlan)
}

fn check_vlan(vlan: &VlanTag) -> Result<(), String> {
    if vlan.id > HIGHEST_VLAN {
        return Err(format!("admin.vlan.id: {} is above {HIGHEST_VLAN}", vlan.id));
    }
    if vlan.qos > HIGHEST_PRIORITY {
        return Err(format!("admin.vlan.qos: {} is above {HIGHEST_PRIORITY}", vlan.qos));
    }
    Ok(())
}

/// A driver's name becomes part of a path in sysfs.
fn check_driver(field: &str, name: Option<&str>) -> Result<(), String> {
    let Some(name) = name else { return Ok(()) };
    let is_name = is_file_name(name, LONGEST_DRIVER);
    if is_name { Ok(()) } else { Err(format!("{field}: {} is no driver's name", Foreign(name))) }
}

/// A word that becomes part of a path.
fn is_file_name(name: &str, longest: usize) -> bool {
    (1..=longest).contains(&name.len())
        && name.chars().all(|character| character.is_ascii_graphic() && character != '/')
        && !name.starts_with('.')
}
