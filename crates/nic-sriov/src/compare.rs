//! Two states of the same NICs, compared field by field.

use std::fmt;

use nic_netlink::{Eswitch, EswitchMode, Guid, PhysPortName, Setting, VfAttributes};
use serde::{Deserialize, Serialize};

use crate::{
    Attribute, DeviceAddress, NetdevState, NicState, OfedAttributes, PciAddress, PfState, VfNetdev, VfState,
};

/// The thing that differs: a PF, one of its VFs, or one of its representors.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// A PF.
    Pf(DeviceAddress),
    /// A VF.
    Vf {
        /// The VF's PF.
        pf: DeviceAddress,
        /// The VF's index on its PF, from 0.
        index: u32,
        /// Its own address, where it has one.
        address: Option<PciAddress>,
    },
    /// A representor.
    Representor {
        /// The PF on whose eswitch it is.
        pf: DeviceAddress,
        /// The port it stands for.
        port: PhysPortName,
    },
}

impl Component {
    pub(crate) fn of_vf(pf: &PfState, vf: &VfState) -> Self {
        Self::Vf { pf: pf.address.clone(), index: vf.index, address: vf.address }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pf(address) => write!(f, "PF {address}"),
            Self::Vf { pf, index, address: None } => write!(f, "VF {index} of {pf}"),
            Self::Vf { pf, index, address: Some(address) } => write!(f, "VF {index} of {pf} ({address})"),
            Self::Representor { pf, port } => write!(f, "representor {port} of {pf}"),
        }
    }
}

/// Whether a difference is a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gravity {
    /// The machine is not as it was.
    Wrong,
    /// The driver that runs now has no such attribute: it cannot be given back.
    Unsupported,
    /// It cannot be equal by its nature, as with a netdev that was in a pod's network namespace.
    #[serde(rename = "stated")]
    CannotRestore,
}

/// One attribute that is not what the snapshot says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Whose it is.
    #[serde(rename = "part")]
    pub component: Component,
    /// The attribute.
    pub attribute: Attribute,
    /// What the snapshot says.
    pub saved: String,
    /// What was found.
    pub found: String,
    /// Whether that is a fault.
    pub gravity: Gravity,
}

impl Difference {
    /// Whether it is a fault.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.gravity == Gravity::Wrong
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} is {}, was {}", self.component, self.attribute, self.found, self.saved)?;
        match self.gravity {
            Gravity::Wrong => Ok(()),
            Gravity::Unsupported => f.write_str(" (the driver has no such attribute)"),
            Gravity::CannotRestore => f.write_str(" (cannot be given back)"),
        }
    }
}

const ELSEWHERE: &str = "in another network namespace";

/// All that is different on the machine (`found`) from the snapshot (`saved`), in the snapshot's order.
#[must_use]
pub fn compare(saved: &NicState, found: &NicState) -> Vec<Difference> {
    let mut differences = Vec::new();
    for pf in &saved.pfs {
        let mut collector = Collector::new(Component::Pf(pf.address.clone()), &mut differences);
        match found.pf(&pf.address) {
            None => collector.note(Attribute::Presence, &"present", &"absent"),
            Some(found) => compare_pf(pf, found, &mut differences),
        }
    }
    differences
}

fn compare_pf(saved: &PfState, found: &PfState, differences: &mut Vec<Difference>) {
    let mut pf = Collector::new(Component::Pf(saved.address.clone()), differences);
    pf.option(Attribute::Driver, saved.driver.as_ref(), found.driver.as_ref());
    pf.value(Attribute::NumVfs, &saved.num_vfs, &found.num_vfs);
    if let (Some(saved), Some(found)) = (saved.drivers_autoprobe, found.drivers_autoprobe) {
        pf.value(Attribute::DriversAutoprobe, &saved, &found);
    }
    pf.eswitch(saved.eswitch.as_ref(), found.eswitch.as_ref());
    match (&saved.netdev, &found.netdev) {
        (Some(saved), Some(found)) => pf.netdev(saved, found),
        (Some(saved), None) => pf.note(Attribute::Netdev, &saved.name, &"absent"),
        (None, _) => {}
    }
    for saved_vf in &saved.vfs {
        let mut vf = Collector::new(Component::of_vf(saved, saved_vf), differences);
        match found.vf(saved_vf.index) {
            None => vf.note(Attribute::Presence, &"present", &"absent"),
            Some(found_vf) => {
                // Whoever has it configures it.
                if found_vf.is_in_use() {
                    vf.gravity = Gravity::CannotRestore;
                }
                vf.vf(saved_vf, found_vf);
            }
        }
    }
    for saved_port in &saved.representors {
        let component = Component::Representor { pf: saved.address.clone(), port: saved_port.port };
        let mut representor = Collector::new(component, differences);
        match found.representors.iter().find(|found| found.port == saved_port.port) {
            None => representor.note(Attribute::Presence, &"present", &"absent"),
            Some(found) => representor.netdev(&saved_port.netdev_for(&found.netdev), &found.netdev),
        }
    }
}

struct Collector<'a> {
    component: Component,
    /// Of differences that nothing excuses.
    gravity: Gravity,
    differences: &'a mut Vec<Difference>,
}

impl<'a> Collector<'a> {
    fn new(component: Component, differences: &'a mut Vec<Difference>) -> Self {
        Self { component, gravity: Gravity::Wrong, differences }
    }

    fn note(&mut self, attribute: Attribute, saved: &dyn fmt::Display, found: &dyn fmt::Display) {
        self.note_as(self.gravity, attribute, saved, found);
    }

    fn note_as(
        &mut self,
        gravity: Gravity,
        attribute: Attribute,
        saved: &dyn fmt::Display,
        found: &dyn fmt::Display,
    ) {
        self.differences.push(Difference {
            component: self.component.clone(),
            attribute,
            saved: saved.to_string(),
            found: found.to_string(),
            gravity,
        });
    }

    fn value<T: PartialEq + fmt::Display>(&mut self, attribute: Attribute, saved: &T, found: &T) {
        if saved != found {
            self.note(attribute, saved, found);
        }
    }

    fn option<T: PartialEq + fmt::Display>(
        &mut self,
        attribute: Attribute,
        saved: Option<&T>,
        found: Option<&T>,
    ) {
        if saved != found {
            self.note(attribute, &OrNone(saved), &OrNone(found));
        }
    }

    /// Of what the old driver did not report, nothing was there that could be lost.
    fn reported<T: PartialEq + fmt::Display>(
        &mut self,
        attribute: Attribute,
        saved: Option<&T>,
        found: Option<&T>,
    ) {
        if saved.is_some() {
            self.option(attribute, saved, found);
        }
    }

    fn setting<T: PartialEq + fmt::Display>(
        &mut self,
        attribute: Attribute,
        saved: &Setting<T>,
        found: &Setting<T>,
    ) {
        match (saved, found) {
            // What the old driver could not report was never known.
            (Setting::Unsupported, _) | (Setting::NotSet, Setting::Unsupported) => {}
            (Setting::Set(saved), Setting::Unsupported) => {
                self.note_as(Gravity::Unsupported, attribute, saved, &"unsupported");
            }
            (saved, found) if saved == found => {}
            (saved, found) => self.note(attribute, saved, found),
        }
    }

    fn eswitch(&mut self, saved: Option<&Eswitch>, found: Option<&Eswitch>) {
        match (saved, found) {
            (Some(saved), Some(found)) => {
                self.value(Attribute::EswitchMode, &saved.mode, &found.mode);
                self.reported(
                    Attribute::EswitchInlineMode,
                    saved.inline_mode.as_ref(),
                    found.inline_mode.as_ref(),
                );
                self.reported(
                    Attribute::EswitchEncapMode,
                    saved.encap_mode.as_ref(),
                    found.encap_mode.as_ref(),
                );
            }
            // A driver without an eswitch is in legacy mode, whatever it calls that; switchdev is lost with it.
            (Some(saved), None) if saved.mode == EswitchMode::Legacy => {
                self.note_as(Gravity::Unsupported, Attribute::EswitchMode, &saved.mode, &"unsupported");
            }
            (Some(saved), None) => self.note(Attribute::EswitchMode, &saved.mode, &"unsupported"),
            (None, _) => {}
        }
    }

    fn vf(&mut self, saved: &VfState, found: &VfState) {
        self.option(Attribute::PciAddress, saved.address.as_ref(), found.address.as_ref());
        self.option(Attribute::Driver, saved.driver.as_ref(), found.driver.as_ref());
        self.option(
            Attribute::DriverOverride,
            saved.driver_override.as_ref(),
            found.driver_override.as_ref(),
        );
        match (&saved.admin, &found.admin) {
            (Some(saved), Some(found)) => self.admin(saved, found),
            (Some(_), None) => self.note(Attribute::Admin, &"known", &"unknown: the PF has no netdev"),
            (None, _) => {}
        }
        self.ofed(saved.ofed.as_ref(), found.ofed.as_ref());
        match (&saved.netdev, &found.netdev) {
            (VfNetdev::Here(saved), VfNetdev::Here(found)) => self.netdev(saved, found),
            (VfNetdev::Here(saved), VfNetdev::InNamespace) => {
                self.note(Attribute::Netdev, &saved.name, &ELSEWHERE);
            }
            (VfNetdev::Here(saved), _) => self.note(Attribute::Netdev, &saved.name, &"absent"),
            (VfNetdev::InNamespace | VfNetdev::NotVisible, VfNetdev::Here(found)) => {
                let here = format!("{} in this namespace", found.name);
                self.note_as(Gravity::CannotRestore, Attribute::Netdev, &ELSEWHERE, &here);
            }
            // A wrong driver is a difference of its own, above.
            (VfNetdev::InNamespace | VfNetdev::NotVisible | VfNetdev::Unbound | VfNetdev::OtherDriver, _) => {
            }
        }
    }

    fn ofed(&mut self, saved: Option<&OfedAttributes>, found: Option<&OfedAttributes>) {
        let vlans = |trunk: &[u16]| List(trunk.iter().map(ToString::to_string).collect());
        match (saved, found) {
            (Some(saved), Some(found)) => {
                if saved.trunk != found.trunk {
                    self.note(Attribute::OfedTrunk, &vlans(&saved.trunk), &vlans(&found.trunk));
                }
                self.reported(Attribute::OfedRateGroup, saved.rate_group.as_ref(), found.rate_group.as_ref());
            }
            (Some(saved), None) => {
                if !saved.trunk.is_empty() {
                    let trunk = vlans(&saved.trunk);
                    self.note_as(Gravity::Unsupported, Attribute::OfedTrunk, &trunk, &"unsupported");
                }
                // 0 is the group of those that are in none.
                if let Some(group) = saved.rate_group.filter(|group| *group != 0) {
                    self.note_as(Gravity::Unsupported, Attribute::OfedRateGroup, &group, &"unsupported");
                }
            }
            // Nothing was known.
            (None, _) => {}
        }
    }

    fn admin(&mut self, saved: &VfAttributes, found: &VfAttributes) {
        self.setting(Attribute::AdminMac, &saved.mac, &found.mac);
        self.setting(Attribute::AdminVlan, &saved.vlan, &found.vlan);
        self.setting(Attribute::AdminSpoofCheck, &saved.spoof_check, &found.spoof_check);
        self.setting(Attribute::AdminTrust, &saved.trust, &found.trust);
        self.value(Attribute::AdminLinkState, &saved.link_state, &found.link_state);
        self.setting(Attribute::AdminMinTxRate, &saved.min_tx_rate, &found.min_tx_rate);
        self.setting(Attribute::AdminMaxTxRate, &saved.max_tx_rate, &found.max_tx_rate);
        self.setting(Attribute::AdminQueryRss, &saved.query_rss, &found.query_rss);
        self.guid(Attribute::AdminNodeGuid, &saved.node_guid, &found.node_guid);
        self.guid(Attribute::AdminPortGuid, &saved.port_guid, &found.port_guid);
    }

    fn guid(&mut self, attribute: Attribute, saved: &Setting<Guid>, found: &Setting<Guid>) {
        match (saved, found) {
            // There is no way back to a GUID that nobody has set.
            (Setting::NotSet, Setting::Set(_)) => {
                self.note_as(Gravity::CannotRestore, attribute, saved, found);
            }
            _ => self.setting(attribute, saved, found),
        }
    }

    fn netdev(&mut self, saved: &NetdevState, found: &NetdevState) {
        self.value(Attribute::Name, &saved.name, &found.name);
        if saved.altnames != found.altnames {
            self.note(Attribute::Altnames, &List(saved.altnames.clone()), &List(found.altnames.clone()));
        }
        if !saved.has_address_of(found) {
            self.note(Attribute::Address, &saved.address, &found.address);
        }
        self.value(Attribute::Mtu, &saved.mtu, &found.mtu);
        self.value(Attribute::Up, &saved.up, &found.up);
        self.value(Attribute::TxQueueLength, &saved.tx_queue_length, &found.tx_queue_length);
        self.option(Attribute::Alias, saved.alias.as_ref(), found.alias.as_ref());
        self.value(Attribute::Group, &saved.group, &found.group);
        self.value(Attribute::Promiscuous, &saved.promiscuous, &found.promiscuous);
        self.value(Attribute::AllMulticast, &saved.all_multicast, &found.all_multicast);
        self.option(Attribute::Master, saved.master.as_ref(), found.master.as_ref());
    }
}

struct OrNone<'a, T>(Option<&'a T>);

impl<T: fmt::Display> fmt::Display for OrNone<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("none"),
        }
    }
}

struct List(Vec<String>);

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("none") } else { f.write_str(&self.0.join(" ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_in_json_are_those_of_the_reports() {
        let difference = Difference {
            component: Component::Pf("0000:01:00.0".parse().unwrap()),
            attribute: Attribute::Observation,
            saved: "known".to_owned(),
            found: "unknown".to_owned(),
            gravity: Gravity::CannotRestore,
        };
        let json = serde_json::json!({
            "part": {"pf": "0000:01:00.0"}, "attribute": "state", "saved": "known", "found": "unknown",
            "gravity": "stated",
        });
        assert_eq!(serde_json::to_value(&difference).unwrap(), json);
    }
}
