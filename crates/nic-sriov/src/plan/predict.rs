//! What a PF will be when a step has been carried out, as far as that can be told beforehand: what the next stage is planned on.

use nic_netlink::{EswitchChange, LinkChange, Setting, VfAttributes, VfChange, VlanTag};

use super::vf::vf_as_created;
use super::{AdminStep, BindStep, NetdevStep, PfStep, PlannedStep, RestoreStep};
use crate::{Component, NetdevState, OfedStep, PfState, VfNetdev, VfState};

/// Changes the PF's state `now` as this step of its plan does.
pub(super) fn apply(now: &mut PfState, saved: &PfState, planned: &PlannedStep) {
    match &planned.component {
        Component::Pf(_) => apply_to_pf(now, saved, &planned.step),
        Component::Vf { index, .. } => {
            if let (Some(saved), Some(now)) = (saved.vf(*index), now.vf_mut(*index)) {
                apply_to_vf(now, saved, &planned.step);
            }
        }
        // No later stage is planned on it.
        Component::Representor { .. } => {}
    }
}

fn apply_to_pf(now: &mut PfState, saved: &PfState, step: &RestoreStep) {
    match step {
        RestoreStep::Pf(PfStep::Autoprobe(on)) => now.drivers_autoprobe = Some(*on),
        RestoreStep::Pf(PfStep::NumVfs(count)) => {
            now.num_vfs = *count;
            now.vfs = if *count == 0 { Vec::new() } else { saved.vfs.iter().map(vf_as_created).collect() };
            now.representors.clear();
        }
        RestoreStep::Pf(PfStep::Eswitch(change)) => {
            let Some(eswitch) = now.eswitch.as_set_mut() else { return };
            match change {
                EswitchChange::Mode(mode) => {
                    eswitch.mode = *mode;
                    now.representors.clear();
                }
                EswitchChange::InlineMode(mode) => eswitch.inline_mode = Some(*mode),
                EswitchChange::EncapMode(mode) => eswitch.encap_mode = Some(*mode),
            }
        }
        RestoreStep::Pf(PfStep::Netdev(step)) => {
            if let Some(netdev) = now.netdev.as_set_mut() {
                apply_to_netdev(netdev, step);
            }
        }
        RestoreStep::Admin(_)
        | RestoreStep::Bind(_)
        | RestoreStep::Netdev(_)
        | RestoreStep::NetdevOnceThere(_)
        | RestoreStep::Rdma { .. }
        | RestoreStep::RdmaOnceThere(_) => {}
    }
}

fn apply_to_vf(now: &mut VfState, saved: &VfState, step: &RestoreStep) {
    match step {
        RestoreStep::Admin(AdminStep::Netlink(change)) => {
            if let Some(admin) = now.admin.as_set_mut() {
                apply_to_attributes(admin, *change);
            }
        }
        RestoreStep::Admin(AdminStep::Ofed(step)) => match step {
            OfedStep::TrunkAdd(..) | OfedStep::TrunkRemove(..) => now.ofed.trunk = saved.ofed.trunk.clone(),
            OfedStep::RateGroup(_) => now.ofed.rate_group = saved.ofed.rate_group.clone(),
            OfedStep::NodeGuid(_) | OfedStep::PortGuid(_) | OfedStep::Policy(_) => {}
        },
        RestoreStep::Bind(BindStep::Unbind(_)) => unbind(now),
        RestoreStep::Bind(BindStep::Override(driver)) => now.driver_override.clone_from(driver),
        RestoreStep::Bind(BindStep::Bind(driver)) => {
            now.driver = Some(driver.clone());
            now.netdev = match saved.netdev {
                VfNetdev::OtherDriver => VfNetdev::OtherDriver,
                _ => VfNetdev::NotVisible,
            };
        }
        RestoreStep::Netdev(step) => {
            if let VfNetdev::Here(netdev) = &mut now.netdev {
                apply_to_netdev(netdev, step);
            }
        }
        RestoreStep::NetdevOnceThere(netdev) => now.netdev = VfNetdev::Here(netdev.as_ref().clone()),
        RestoreStep::Pf(_) | RestoreStep::Rdma { .. } | RestoreStep::RdmaOnceThere(_) => {}
    }
}

/// What a VF is without a driver.
pub(super) fn unbind(vf: &mut VfState) {
    vf.driver = None;
    vf.netdev = VfNetdev::Unbound;
    vf.rdma = Setting::NotThere;
}

fn apply_to_attributes(admin: &mut VfAttributes, change: VfChange) {
    fn set<T>(setting: &mut Setting<T>, value: Setting<T>) {
        // What the driver does not have, it does not get.
        if setting.is_there() {
            *setting = value;
        }
    }
    let rate = |rate| if rate == 0 { Setting::NotSet } else { Setting::Set(rate) };
    match change {
        VfChange::Mac(mac) if mac.is_zero() => set(&mut admin.mac, Setting::NotSet),
        VfChange::Mac(mac) => set(&mut admin.mac, Setting::Set(mac)),
        VfChange::Vlan(VlanTag::NONE) => set(&mut admin.vlan, Setting::NotSet),
        VfChange::Vlan(tag) => set(&mut admin.vlan, Setting::Set(tag)),
        VfChange::SpoofCheck(on) => set(&mut admin.spoof_check, Setting::Set(on)),
        VfChange::Trust(on) => set(&mut admin.trust, Setting::Set(on)),
        VfChange::QueryRss(on) => set(&mut admin.query_rss, Setting::Set(on)),
        VfChange::LinkState(state) => admin.link_state = state,
        VfChange::Rate { min, max } => {
            set(&mut admin.min_tx_rate, rate(min));
            set(&mut admin.max_tx_rate, rate(max));
        }
        VfChange::NodeGuid(guid) => set(&mut admin.node_guid, Setting::Set(guid)),
        VfChange::PortGuid(guid) => set(&mut admin.port_guid, Setting::Set(guid)),
    }
}

fn apply_to_netdev(netdev: &mut NetdevState, step: &NetdevStep) {
    let change = match step {
        NetdevStep::Master(master) => {
            netdev.master.clone_from(master);
            return;
        }
        NetdevStep::Link(change) => change,
    };
    match change {
        LinkChange::Name(name) => netdev.name.clone_from(name),
        LinkChange::Mtu(mtu) => netdev.mtu = *mtu,
        // The MTU that comes with the mode is set behind it.
        LinkChange::IpoibMode(mode) => netdev.ipoib_mode = Setting::Set(*mode),
        LinkChange::UserMulticast(wanted) => netdev.user_multicast = Setting::Set(*wanted),
        LinkChange::Up(up) => netdev.up = *up,
        LinkChange::Address(address) => netdev.address.clone_from(address),
        LinkChange::TxQueueLength(length) => netdev.tx_queue_length = *length,
        LinkChange::Alias(alias) => netdev.alias = Some(alias.clone()).filter(|alias| !alias.is_empty()),
        LinkChange::Group(group) => netdev.group = *group,
        LinkChange::Promiscuous(on) => netdev.promiscuous = *on,
        LinkChange::AllMulticast(on) => netdev.all_multicast = *on,
        LinkChange::AddAltName(name) => {
            netdev.altnames.push(name.clone());
            netdev.altnames.sort_unstable();
        }
        LinkChange::RemoveAltName(name) => netdev.altnames.retain(|altname| altname != name),
        // The plans name masters, and move nothing.
        LinkChange::Master(_) | LinkChange::NamespaceOfPid(_) => {}
    }
}
