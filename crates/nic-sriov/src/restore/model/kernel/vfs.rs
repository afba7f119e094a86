//! VFs: what their PF holds for them, their drivers, and what comes of a probe.

use std::collections::{BTreeMap, BTreeSet};

use nic_netlink::{Setting, VfChange, VlanTag};
use rustix::io::Errno;

use super::{Attempt, Kernel, NETWORK_DRIVER, Owner, vf_address, vf_name};
use crate::plan::{AdminStep, BindStep, RestoreStep};
use crate::{OfedStep, PciAddress, VfNetdev};

impl Kernel {
    fn note_vf_try(&mut self, pf: usize, vf: u32, step: AdminStep) {
        if let Some(at) = self.state.pfs[pf].vfs.iter().position(|state| state.index == vf) {
            self.note_try(Owner::Vf(pf, at), RestoreStep::Admin(step));
        }
    }

    /// One message: the first of the changes that is refused is the last that is tried.
    pub(in crate::restore::model) fn admin_steps(
        &mut self,
        pf: usize,
        vf: u32,
        changes: &[VfChange],
    ) -> Attempt {
        self.vf_messages += 1;
        changes.iter().try_for_each(|change| self.admin_step(pf, vf, change))
    }

    fn admin_step(&mut self, pf: usize, vf: u32, change: &VfChange) -> Attempt {
        let what = format!("PF {pf}, VF {vf}: {change}");
        self.note_vf_try(pf, vf, AdminStep::Netlink(*change));
        self.gate(Some(vf_address(pf, vf)), &what)?;
        let result = self.set_admin(pf, vf, change);
        self.done(what, result)
    }

    fn set_admin(&mut self, pf: usize, vf: u32, change: &VfChange) -> Result<(), Errno> {
        let has_link = self.state.pfs[pf].netdev.as_set().is_some_and(|netdev| netdev.up);
        let in_switchdev = self.is_in_switchdev(pf);
        let rules = self.rules;
        let vf = self.state.pfs[pf].vfs.iter_mut().find(|state| state.index == vf).ok_or(Errno::INVAL)?;
        let admin = vf.admin.as_set_mut().ok_or(Errno::OPNOTSUPP)?;
        fn set<T>(setting: &mut Setting<T>, value: Setting<T>) -> Result<(), Errno> {
            if !setting.is_there() {
                return Err(Errno::OPNOTSUPP);
            }
            *setting = value;
            Ok(())
        }
        let unless = |unset: bool| move |value| if unset { Setting::NotSet } else { Setting::Set(value) };
        match *change {
            VfChange::Vlan(_) | VfChange::SpoofCheck(_) | VfChange::Trust(_) | VfChange::Rate { .. }
                if rules.legacy_only && in_switchdev =>
            {
                Err(Errno::OPNOTSUPP)
            }
            VfChange::Mac(mac) if mac.is_zero() => set(&mut admin.mac, Setting::NotSet),
            VfChange::Mac(mac) => set(&mut admin.mac, Setting::Set(mac)),
            VfChange::Vlan(tag) if tag == VlanTag::NONE => set(&mut admin.vlan, Setting::NotSet),
            VfChange::Vlan(tag) => set(&mut admin.vlan, Setting::Set(tag)),
            VfChange::SpoofCheck(on) => set(&mut admin.spoof_check, Setting::Set(on)),
            VfChange::Trust(on) => set(&mut admin.trust, Setting::Set(on)),
            VfChange::QueryRss(on) => set(&mut admin.query_rss, Setting::Set(on)),
            VfChange::LinkState(_) if rules.link_state_refused => Err(Errno::OPNOTSUPP),
            VfChange::LinkState(state) => {
                admin.link_state = state;
                Ok(())
            }
            VfChange::Rate { .. } if rules.rates_need_link && !has_link => Err(Errno::INVAL),
            VfChange::Rate { min, max } => {
                set(&mut admin.min_tx_rate, unless(min == 0)(min))?;
                set(&mut admin.max_tx_rate, unless(max == 0)(max))
            }
            VfChange::NodeGuid(guid) | VfChange::PortGuid(guid) if guid.is_zero() => {
                self.violations.push("an all-zero GUID was written".to_owned());
                Ok(())
            }
            VfChange::NodeGuid(guid) => set(&mut admin.node_guid, Setting::Set(guid)),
            VfChange::PortGuid(guid) => set(&mut admin.port_guid, Setting::Set(guid)),
        }
    }

    pub(in crate::restore::model) fn ofed_step(&mut self, pf: usize, vf: u32, step: OfedStep) -> Attempt {
        let what = format!("PF {pf}, VF {vf}: {step}");
        self.note_vf_try(pf, vf, AdminStep::Ofed(step));
        self.gate(Some(vf_address(pf, vf)), &what)?;
        let state = self.state.pfs[pf].vfs.iter_mut().find(|state| state.index == vf);
        if let OfedStep::NodeGuid(_) | OfedStep::PortGuid(_) | OfedStep::Policy(_) = step {
            self.violations.push(format!("{what} with a netdev to ask"));
            return self.done(what, Err(Errno::NOENT));
        }
        let ofed = state.map(|vf| &mut vf.ofed).filter(|ofed| !ofed.is_not_there());
        let result = ofed.ok_or(Errno::NOENT).map(|ofed| {
            let mut vlans: BTreeSet<u16> = ofed.trunk.as_set().into_iter().flatten().copied().collect();
            match step {
                OfedStep::TrunkAdd(first, last) => vlans.extend(first..=last),
                OfedStep::TrunkRemove(first, last) => vlans.retain(|vlan| !(first..=last).contains(vlan)),
                OfedStep::RateGroup(0) => ofed.rate_group = Setting::NotSet,
                OfedStep::RateGroup(group) => ofed.rate_group = Setting::Set(group),
                OfedStep::NodeGuid(_) | OfedStep::PortGuid(_) | OfedStep::Policy(_) => {}
            }
            ofed.trunk =
                if vlans.is_empty() { Setting::NotSet } else { Setting::Set(vlans.into_iter().collect()) };
        });
        self.done(what, result)
    }

    pub(in crate::restore::model) fn bind_step(&mut self, address: PciAddress, step: &BindStep) -> Attempt {
        let what = format!("{address}: {step}");
        if let Some((pf, vf)) = self.place(address) {
            self.note_try(Owner::Vf(pf, vf), RestoreStep::Bind(step.clone()));
        }
        // Whoever has opened the VF does not notice an override: it is for the next probe.
        let disturbs = !matches!(step, BindStep::Override(_));
        self.gate(Some(address).filter(|_| disturbs), &what)?;
        self.looked.remove(&address);
        let looked_away = self.looked_away.remove(&address).is_some();
        let (pf, vf) = self.place(address).ok_or(Errno::NODEV)?;
        if matches!(step, BindStep::Unbind(_)) {
            self.expect_unused_for_mode(pf, &what);
        }
        let state = &mut self.state.pfs[pf].vfs[vf];
        let result = match step {
            BindStep::Unbind(driver) if state.driver.as_ref() != Some(driver) => Err(Errno::NODEV),
            BindStep::Unbind(_) => {
                if state.is_in_use() && !looked_away {
                    self.violations.push(format!("{what} while its netdev is in another namespace"));
                }
                state.driver = None;
                state.netdev = VfNetdev::Unbound;
                state.rdma = Setting::NotThere;
                self.late.remove(&address);
                Ok(())
            }
            BindStep::Override(driver) => {
                state.driver_override.clone_from(driver);
                Ok(())
            }
            // drivers/pci/pci-driver.c, `pci_device_can_probe`.
            BindStep::Bind(_)
                if self.state.pfs[pf].drivers_autoprobe == Some(false)
                    && self.state.pfs[pf].vfs[vf].driver_override.is_none() =>
            {
                Err(Errno::NODEV)
            }
            BindStep::Bind(driver) => self.probe(pf, vf, driver),
        };
        self.done(what, result)
    }

    /// drivers/base/dd.c, `device_driver_attach`: the driver has to match, and the device to be free.
    pub(super) fn probe(&mut self, pf: usize, vf: usize, driver: &str) -> Result<(), Errno> {
        let state = &self.state.pfs[pf].vfs[vf];
        let address = state.address.ok_or(Errno::NODEV)?;
        if state.driver.is_some() {
            return Err(Errno::BUSY);
        }
        let matches =
            state.driver_override.as_deref().map_or(driver == NETWORK_DRIVER, |name| name == driver);
        if !matches {
            return Err(Errno::NODEV);
        }
        if spend(&mut self.faults.probes, address) {
            return Err(Errno::IO);
        }
        let mac = state.admin.as_set().and_then(|admin| admin.mac.as_set().copied());
        let index = state.index;
        let has_link = self.state.pfs[pf].netdev.as_set().is_some_and(|netdev| netdev.up);
        let netdev = if driver == NETWORK_DRIVER {
            let silent = spend(&mut self.faults.silent, address);
            if silent || (self.rules.probes_need_link && !has_link) {
                VfNetdev::NotVisible
            } else {
                let mac = mac.unwrap_or_else(|| self.random_mac());
                if self.rules.late_netdevs {
                    self.late.insert(address, mac.into());
                    VfNetdev::NotVisible
                } else {
                    VfNetdev::Here(self.register(vf_name(pf, index), mac.into()))
                }
            }
        } else {
            VfNetdev::OtherDriver
        };
        let rdma = if driver == NETWORK_DRIVER { self.new_rdma(pf) } else { Setting::NotThere };
        let state = &mut self.state.pfs[pf].vfs[vf];
        state.driver = Some(driver.to_owned());
        state.netdev = netdev;
        state.rdma = rdma;
        Ok(())
    }
}

fn spend(left: &mut BTreeMap<PciAddress, usize>, address: PciAddress) -> bool {
    match left.get_mut(&address) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    }
}
