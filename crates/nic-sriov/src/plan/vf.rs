//! The stages of a VF: what its PF holds for it, its driver, and what can be set only when it runs.

use nic_netlink::{Agreement, EswitchMode, Setting, Unread, VfAttributes, VfChange, VlanTag};

use super::BindStep;
use crate::{OfedAttributes, PfState, VfNetdev, VfState};

/// [`Stage::Admin`](crate::Stage::Admin), before VFs probe: the attributes that the PF holds for a VF.
///
/// A VF takes the admin MAC when it probes. One whose own MAC was another than its admin MAC probes under its own,
/// and is given the admin MAC when it runs ([`plan_admin_after`]): a running VF does not follow it.
#[must_use]
pub fn plan_admin_before(saved: &VfState, found: &VfState) -> Vec<VfChange> {
    let Some((saved_admin, found_admin)) = admins(saved, found) else { return Vec::new() };
    let mut changes = Vec::new();
    let probes = binding_to(saved, found).is_some();
    let mac = match own_mac_if_not_admin(saved) {
        Some(own) if probes => Setting::Set(own),
        _ => saved_admin.mac.clone(),
    };
    match SettingChange::of(&mac, &found_admin.mac) {
        SettingChange::Keep => {}
        SettingChange::Clear => changes.push(VfChange::Mac(nic_netlink::MacAddress([0; 6]))),
        SettingChange::Set(mac) => changes.push(VfChange::Mac(mac)),
    }
    match SettingChange::of(&saved_admin.vlan, &found_admin.vlan) {
        SettingChange::Keep => {}
        SettingChange::Clear => changes.push(VfChange::Vlan(VlanTag::NONE)),
        SettingChange::Set(vlan) => changes.push(VfChange::Vlan(vlan)),
    }
    if let Some(check) = SettingChange::of(&saved_admin.spoof_check, &found_admin.spoof_check).value() {
        changes.push(VfChange::SpoofCheck(check));
    }
    if let Some(trust) = SettingChange::of(&saved_admin.trust, &found_admin.trust).value() {
        changes.push(VfChange::Trust(trust));
    }
    if found.admin.unread().is_some() || saved_admin.link_state != found_admin.link_state {
        changes.push(VfChange::LinkState(saved_admin.link_state));
    }
    if let Some(query) = SettingChange::of(&saved_admin.query_rss, &found_admin.query_rss).value() {
        changes.push(VfChange::QueryRss(query));
    }
    // An all-zero GUID is "not set": writing it would take the VF's GUID away.
    if let Some(guid) = SettingChange::of(&saved_admin.node_guid, &found_admin.node_guid).value() {
        changes.push(VfChange::NodeGuid(guid));
    }
    if let Some(guid) = SettingChange::of(&saved_admin.port_guid, &found_admin.port_guid).value() {
        changes.push(VfChange::PortGuid(guid));
    }
    changes
}

/// [`Stage::Vfs`](crate::Stage::Vfs): the driver the VF had, by the way that works for what it has now.
#[must_use]
pub fn plan_binding(saved: &VfState, found: &VfState) -> Vec<BindStep> {
    let mut steps = Vec::new();
    if saved.address.is_none() {
        return steps;
    }
    let target = binding_to(saved, found);
    let leaves = saved.driver.is_none() && found.driver.is_some() && !found.is_in_use();
    if let Some(driver) = &found.driver
        && (target.is_some() || leaves)
    {
        steps.push(BindStep::Unbind(driver.clone()));
    }
    let mut current_override = found.driver_override.clone();
    if let Some(driver) = target {
        // A driver outside the family does not claim the VF by its ids: the override makes it match.
        let foreign = matches!(saved.netdev, VfNetdev::OtherDriver);
        let needed = if foreign { Some(driver.to_owned()) } else { None };
        if needed != current_override && (needed.is_some() || current_override.is_some()) {
            steps.push(BindStep::Override(needed.clone()));
            current_override = needed;
        }
        steps.push(BindStep::Bind(driver.to_owned()));
    }
    if current_override != saved.driver_override {
        steps.push(BindStep::Override(saved.driver_override.clone()));
    }
    steps
}

/// [`Stage::Finish`](crate::Stage::Finish), with the VF running: rates, for which drivers want the link to be up
/// (igb refuses them otherwise), and an admin MAC that is not the VF's own.
#[must_use]
pub fn plan_admin_after(saved: &VfState, found: &VfState) -> Vec<VfChange> {
    let Some((saved_admin, found_admin)) = admins(saved, found) else { return Vec::new() };
    let mut changes = Vec::new();
    if own_mac_if_not_admin(saved).is_some()
        && let SettingChange::Set(mac) = SettingChange::of(&saved_admin.mac, &found_admin.mac)
    {
        changes.push(VfChange::Mac(mac));
    }
    changes.extend(rate_change(saved_admin, &found_admin));
    changes
}

/// The admin MAC once more, for a VF that runs: its probe may have replaced it. A trusted igbvf whose PF did not answer in
/// time makes up a MAC, and the PF takes that for the VF's (igbvf's netdev.c, `igbvf_probe`; igb_main.c,
/// `igb_set_vf_mac_addr`).
#[must_use]
pub(crate) fn plan_admin_mac_again(saved: &VfState, found: &VfState) -> Option<VfChange> {
    let (saved_admin, found_admin) = admins(saved, found)?;
    if found.driver.is_none() || own_mac_if_not_admin(saved).is_some() {
        return None;
    }
    match SettingChange::of(&saved_admin.mac, &found_admin.mac) {
        SettingChange::Set(mac) => Some(VfChange::Mac(mac)),
        SettingChange::Keep | SettingChange::Clear => None,
    }
}

/// The rates of a VF, where they have to be set before the eswitch leaves legacy mode: in switchdev mode drivers refuse
/// them (netdevsim's netdev.c, `nsim_set_vf_rate`).
#[must_use]
pub fn plan_rates_before(pf: &PfState, saved: &VfState, found: &VfState) -> Option<VfChange> {
    let (saved_admin, found_admin) = admins(saved, found)?;
    (pf.eswitch_mode() == Some(EswitchMode::Switchdev)).then(|| rate_change(saved_admin, &found_admin))?
}

/// The attributes that a VF had, and those it has. What is not known of a VF whose attributes could not be read is written: that is right
/// whatever is there.
fn admins<'s>(saved: &'s VfState, found: &VfState) -> Option<(&'s VfAttributes, VfAttributes)> {
    let found = match &found.admin {
        Setting::Set(found) => found.clone(),
        Setting::NotKnown(unread) => attributes_not_known(found.index, unread),
        Setting::NotThere | Setting::NotSet => return None,
    };
    Some((saved.admin.as_set()?, found))
}

fn attributes_not_known(index: u32, unread: &Unread) -> VfAttributes {
    fn not_known<T>(unread: &Unread) -> Setting<T> {
        Setting::NotKnown(unread.clone())
    }
    VfAttributes {
        mac: not_known(unread),
        vlan: not_known(unread),
        spoof_check: not_known(unread),
        trust: not_known(unread),
        query_rss: not_known(unread),
        min_tx_rate: not_known(unread),
        max_tx_rate: not_known(unread),
        node_guid: not_known(unread),
        port_guid: not_known(unread),
        ..VfAttributes::new(index)
    }
}

fn rate_change(saved: &VfAttributes, found: &VfAttributes) -> Option<VfChange> {
    let stays = |saved, found| matches!(SettingChange::of(saved, found), SettingChange::Keep);
    if stays(&saved.min_tx_rate, &found.min_tx_rate) && stays(&saved.max_tx_rate, &found.max_tx_rate) {
        return None;
    }
    let rate = |setting: &Setting<u32>| match setting {
        Setting::Set(rate) => *rate,
        Setting::NotThere | Setting::NotSet | Setting::NotKnown(_) => 0,
    };
    Some(VfChange::Rate { min: rate(&saved.min_tx_rate), max: rate(&saved.max_tx_rate) })
}

/// A VF as it is when it has just been created: nothing set, no driver.
pub(super) fn vf_as_created(saved: &VfState) -> VfState {
    VfState {
        index: saved.index,
        address: saved.address,
        driver: None,
        driver_override: None,
        admin: match &saved.admin {
            Setting::Set(admin) => Setting::Set(attributes_as_created(admin)),
            Setting::NotThere | Setting::NotSet | Setting::NotKnown(_) => Setting::NotThere,
        },
        ofed: OfedAttributes { trunk: unset(&saved.ofed.trunk), rate_group: unset(&saved.ofed.rate_group) },
        rdma: Setting::NotThere,
        netdev: VfNetdev::Unbound,
    }
}

/// What was there and is not set yet.
fn unset<T>(setting: &Setting<T>) -> Setting<T> {
    if setting.is_there() { Setting::NotSet } else { Setting::NotThere }
}

/// The attributes of a VF that nobody has set anything of yet.
fn attributes_as_created(saved: &VfAttributes) -> VfAttributes {
    VfAttributes {
        mac: unset(&saved.mac),
        vlan: unset(&saved.vlan),
        spoof_check: unset(&saved.spoof_check),
        trust: unset(&saved.trust),
        query_rss: unset(&saved.query_rss),
        min_tx_rate: unset(&saved.min_tx_rate),
        max_tx_rate: unset(&saved.max_tx_rate),
        node_guid: unset(&saved.node_guid),
        port_guid: unset(&saved.port_guid),
        ..VfAttributes::new(saved.index)
    }
}

/// The driver a VF has to be bound to: another than it has, or the same again where only a new probe can help. That
/// is so when there is no netdev, or one that did not take the admin MAC or port GUID: a running VF does not follow
/// them, and one with an admin MAC may not change its own (ixgbe_sriov.c, `ixgbe_set_vf_mac_addr`). Whether the PF was told
/// the right one in the meantime is no matter: a restore that was cut short may have done that.
pub(super) fn binding_to<'saved>(saved: &'saved VfState, found: &VfState) -> Option<&'saved str> {
    if found.is_in_use() {
        return None;
    }
    let driver = saved.driver.as_deref()?;
    if found.driver.as_deref() != Some(driver) {
        return Some(driver);
    }
    let VfNetdev::Here(saved_netdev) = &saved.netdev else { return None };
    let VfNetdev::Here(found_netdev) = &found.netdev else { return Some(driver) };
    let (saved_admin, found_admin) = (saved.admin.as_set()?, found.admin.as_set()?);
    let by_pf = (saved_admin.mac.as_set().is_some() && found_admin.mac.is_there())
        || (saved_admin.port_guid.as_set().is_some() && found_admin.port_guid.is_there());
    (by_pf && !saved_netdev.has_address_of(found_netdev)).then_some(driver)
}

/// The VF's own MAC, where it was another than the admin MAC that was set.
fn own_mac_if_not_admin(saved: &VfState) -> Option<nic_netlink::MacAddress> {
    let own = saved.netdev.here()?.address.as_mac()?;
    saved.admin.as_set()?.mac.as_set().filter(|admin| **admin != own).map(|_| own)
}

/// What is to be done about an attribute that the PF holds for a VF.
pub(super) enum SettingChange<T> {
    /// Nothing.
    Keep,
    /// It was not set, and is now.
    Clear,
    /// It gets this value.
    Set(T),
}

impl<T: Copy + PartialEq> SettingChange<T> {
    pub(super) fn of(saved: &Setting<T>, found: &Setting<T>) -> Self {
        match saved.against(found) {
            Agreement::Same
            | Agreement::WasNotThere
            | Agreement::IsNotThere { .. }
            | Agreement::SavedNotKnown(_) => Self::Keep,
            Agreement::Differs { saved: Some(value), .. } => Self::Set(*value),
            Agreement::Differs { saved: None, .. } => Self::Clear,
            Agreement::FoundNotKnown(_) => saved.as_set().map_or(Self::Keep, |value| Self::Set(*value)),
        }
    }

    /// The value to be set. What cannot be cleared stays.
    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }
}
