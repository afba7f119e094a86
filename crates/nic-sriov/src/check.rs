//! Whether a state of NICs can be at all: one that was written down may have been edited since, or damaged.

use std::collections::HashSet;

use nic_host::Foreign;
use nic_netlink::VlanTag;

use crate::{Component, NicState, PfState, VfState};

/// The most VFs that a PF can have: `TotalVFs` has 16 bits (PCI Express, SR-IOV extended capability).
pub const MOST_VFS: u32 = 65_535;

/// The highest VLAN ID that drivers take (`igb_ndo_set_vf_vlan` in drivers/net/ethernet/intel/igb/igb_main.c): it has 12 bits.
const HIGHEST_VLAN: u16 = 4095;
/// The highest priority that they take: it has 3 bits.
const HIGHEST_PRIORITY: u8 = 7;
/// The longest name of a driver that is taken. Names are file names in sysfs.
const LONGEST_DRIVER: usize = 64;

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
            seen.names(pf.netdev.as_set().map(|netdev| netdev.name.as_str()).into_iter()).map_err(wrong)?;
            for (number, vf) in (0_u32..).zip(&pf.vfs) {
                let component = Component::of_vf(pf, vf);
                let wrong = |what| Contradiction { component: component.clone(), what };
                check_vf(number, vf).map_err(wrong)?;
                if let Some(address) = vf.address
                    && !seen.devices.insert(crate::DeviceAddress::from(address).to_string())
                {
                    return Err(wrong("address: the device is there twice".to_owned()));
                }
                seen.names(vf.netdev.here().map(|netdev| netdev.name.as_str()).into_iter()).map_err(wrong)?;
            }
            for representor in &pf.representors {
                let component = Component::Representor { pf: pf.address.clone(), port: representor.port };
                let wrong = |what| Contradiction { component, what };
                seen.names(std::iter::once(representor.netdev.name.as_str())).map_err(wrong)?;
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
struct Seen {
    devices: HashSet<String>,
    names: HashSet<String>,
}

impl Seen {
    fn names<'n>(&mut self, mut names: impl Iterator<Item = &'n str>) -> Result<(), String> {
        match names.find(|name| !self.names.insert((*name).to_owned())) {
            Some(name) => Err(format!("netdev.name: {} is there twice", Foreign(name))),
            None => Ok(()),
        }
    }
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
    let is_name = !name.is_empty()
        && name.len() <= LONGEST_DRIVER
        && name.chars().all(|character| character.is_ascii_graphic() && character != '/')
        && !name.starts_with('.');
    if is_name { Ok(()) } else { Err(format!("{field}: {} is no driver's name", Foreign(name))) }
}
