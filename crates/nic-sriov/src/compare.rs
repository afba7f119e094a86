//! Two states of the same NICs, compared field by field.

use std::collections::HashMap;
use std::fmt;

use nic_netlink::{
    Agreement, Eswitch, EswitchMode, Guid, IpoibMode, PhysPortName, Setting, Unread, VfAttributes,
};
use serde::{Deserialize, Serialize};

use crate::{
    Attribute, Component, NetdevState, NicState, OfedAttributes, PfSeen, PfState, RepresentorState, VfNetdev,
    VfState,
};

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
            PfSeen::Here(found) => compare_pf(pf, found, &mut differences),
            PfSeen::Unread(unread) => collector.note(Attribute::Observation, &"known", &unknown(unread)),
            PfSeen::Gone => collector.note(Attribute::Presence, &"present", &"absent"),
        }
    }
    for pf in &saved.unread {
        let mut collector = Collector::new(Component::Pf(pf.address.clone()), &mut differences);
        collector.saved_not_known(Attribute::Observation, &pf.not_known, &"not compared");
    }
    differences
}

fn compare_pf(saved: &PfState, found: &PfState, differences: &mut Vec<Difference>) {
    let mut pf = Collector::new(Component::Pf(saved.address.clone()), differences);
    pf.option(Attribute::Driver, saved.driver.as_ref(), found.driver.as_ref());
    pf.value(Attribute::NumVfs, &saved.num_vfs, &found.num_vfs);
    match (saved.drivers_autoprobe, found.drivers_autoprobe) {
        (Some(saved), Some(found)) => pf.value(Attribute::DriversAutoprobe, &saved, &found),
        (Some(saved), None) => {
            pf.note_as(Gravity::Unsupported, Attribute::DriversAutoprobe, &saved, &"unsupported");
        }
        (None, _) => {}
    }
    pf.eswitch(&saved.eswitch, &found.eswitch);
    pf.rdma(&saved.rdma, &found.rdma);
    match (&saved.netdev, &found.netdev) {
        (Setting::Set(saved), Setting::Set(found)) => pf.netdev(saved, found),
        (Setting::Set(saved), Setting::NotThere | Setting::NotSet) => {
            pf.note(Attribute::Netdev, &saved.name, &"absent");
        }
        (Setting::Set(saved), Setting::NotKnown(unread)) => {
            pf.note(Attribute::Netdev, &saved.name, &unknown(unread));
        }
        (Setting::NotThere | Setting::NotSet, Setting::NotKnown(unread)) => {
            pf.note(Attribute::Netdev, &"none", &unknown(unread));
        }
        (Setting::NotThere | Setting::NotSet, _) => {}
        (Setting::NotKnown(unread), found) => {
            let found = found.as_set().map_or("absent", |netdev| netdev.name.as_str());
            pf.saved_not_known(Attribute::Netdev, unread, &found);
        }
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
    let ports: HashMap<PhysPortName, &RepresentorState> =
        found.representors.iter().map(|representor| (representor.port, representor)).collect();
    for saved_port in &saved.representors {
        let component = Component::Representor { pf: saved.address.clone(), port: saved_port.port };
        let mut representor = Collector::new(component, differences);
        match ports.get(&saved_port.port) {
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

    /// What the PF's driver keeps of a VF: one that has no such thing is excused.
    fn setting<T: PartialEq + fmt::Display>(
        &mut self,
        attribute: Attribute,
        saved: &Setting<T>,
        found: &Setting<T>,
    ) {
        self.setting_as(attribute, saved, found, Gravity::Unsupported, T::to_string);
    }

    /// `lost` is what it means that it is not there now, and `text` what is said of a value.
    fn setting_as<T: PartialEq>(
        &mut self,
        attribute: Attribute,
        saved: &Setting<T>,
        found: &Setting<T>,
        lost: Gravity,
        text: impl Fn(&T) -> String,
    ) {
        let told = |value: Option<&T>| value.map_or_else(|| "not set".to_owned(), &text);
        match saved.against(found) {
            Agreement::Same | Agreement::WasNotThere => {}
            Agreement::Differs { saved, found } => self.note(attribute, &told(saved), &told(found)),
            Agreement::IsNotThere { saved } => {
                self.note_as(lost, attribute, &text(saved), &"unsupported");
            }
            Agreement::FoundNotKnown(unread) => {
                self.note(attribute, &told_of(saved, &text), &unknown(unread));
            }
            Agreement::SavedNotKnown(unread) => {
                self.saved_not_known(attribute, unread, &told_of(found, &text));
            }
        }
    }

    /// What was not known is never equal to anything. Where that was taken into account, that it is lost is said, and no fault.
    fn saved_not_known(&mut self, attribute: Attribute, unread: &Unread, found: &dyn fmt::Display) {
        let gravity = if unread.is_accepted() { Gravity::CannotRestore } else { self.gravity };
        self.note_as(gravity, attribute, &unknown(unread), found);
    }

    fn eswitch(&mut self, saved: &Setting<Eswitch>, found: &Setting<Eswitch>) {
        if let (Setting::Set(saved), Setting::Set(found)) = (saved, found) {
            self.value(Attribute::EswitchMode, &saved.mode, &found.mode);
            let (inline, encap) = (saved.inline_mode.as_ref(), saved.encap_mode.as_ref());
            self.reported(Attribute::EswitchInlineMode, inline, found.inline_mode.as_ref());
            self.reported(Attribute::EswitchEncapMode, encap, found.encap_mode.as_ref());
            return;
        }
        // A driver without an eswitch is in legacy mode, whatever it calls that; switchdev is lost with it.
        let lost = match saved.as_set().map(|eswitch| eswitch.mode) {
            Some(EswitchMode::Legacy) => Gravity::Unsupported,
            Some(_) | None => self.gravity,
        };
        self.setting_as(Attribute::EswitchMode, saved, found, lost, |eswitch| eswitch.mode.to_string());
    }

    fn rdma(&mut self, saved: &Setting<Vec<String>>, found: &Setting<Vec<String>>) {
        self.setting_as(Attribute::Rdma, saved, found, self.gravity, |names| names.join(" "));
    }

    fn vf(&mut self, saved: &VfState, found: &VfState) {
        self.option(Attribute::PciAddress, saved.address.as_ref(), found.address.as_ref());
        self.option(Attribute::Driver, saved.driver.as_ref(), found.driver.as_ref());
        self.option(
            Attribute::DriverOverride,
            saved.driver_override.as_ref(),
            found.driver_override.as_ref(),
        );
        self.vf_attributes(&saved.admin, &found.admin);
        self.ofed(&saved.ofed, &found.ofed);
        self.rdma(&saved.rdma, &found.rdma);
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

    fn vf_attributes(&mut self, saved: &Setting<VfAttributes>, found: &Setting<VfAttributes>) {
        match (saved, found) {
            (Setting::Set(saved), Setting::Set(found)) => self.admin(saved, found),
            (Setting::Set(_), Setting::NotThere | Setting::NotSet) => {
                self.note(Attribute::Admin, &"known", &"unsupported");
            }
            (Setting::Set(_), Setting::NotKnown(unread)) => {
                self.note(Attribute::Admin, &"known", &unknown(unread));
            }
            (Setting::NotThere | Setting::NotSet, Setting::NotKnown(unread)) => {
                self.note(Attribute::Admin, &"none", &unknown(unread));
            }
            (Setting::NotThere | Setting::NotSet, _) => {}
            (Setting::NotKnown(unread), _) => {
                self.saved_not_known(Attribute::Admin, unread, &"not compared");
            }
        }
    }

    fn ofed(&mut self, saved: &OfedAttributes, found: &OfedAttributes) {
        let vlans = |trunk: &Vec<u16>| trunk.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        self.setting_as(Attribute::OfedTrunk, &saved.trunk, &found.trunk, Gravity::Unsupported, vlans);
        self.setting(Attribute::OfedRateGroup, &saved.rate_group, &found.rate_group);
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
        let lost = self.gravity;
        self.setting_as(
            Attribute::IpoibMode,
            &saved.ipoib_mode,
            &found.ipoib_mode,
            lost,
            IpoibMode::to_string,
        );
        let (was, is) = (&saved.user_multicast, &found.user_multicast);
        self.setting_as(Attribute::UserMulticast, was, is, lost, bool::to_string);
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

/// What is said of a setting, with the words that its `Display` has.
fn told_of<T>(setting: &Setting<T>, text: impl Fn(&T) -> String) -> String {
    match setting {
        Setting::Set(value) => text(value),
        Setting::NotSet => "not set".to_owned(),
        Setting::NotThere => "unsupported".to_owned(),
        Setting::NotKnown(unread) => unknown(unread),
    }
}

fn unknown(unread: &Unread) -> String {
    format!("unknown: {unread}")
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
