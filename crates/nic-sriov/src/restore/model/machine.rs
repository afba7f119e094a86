//! The machine: NICs whose state changes by steps, by the kernel's rules.

mod netdevs;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use self::netdevs::netdev;
use nic_netlink::{
    EswitchChange, EswitchMode, IfIndex, LinkAddress, LinkName, MacAddress, PhysPort, PhysPortName, Setting,
    VfAttributes, VfChange, VfLinkState, VlanTag,
};
use rustix::io::Errno;

use crate::plan::{BindStep, PfStep};
use crate::{NetdevState, NicState, OfedStep, PciAddress, RepresentorState, VfNetdev, VfState};

/// The driver that claims VFs by their ids, and makes netdevs.
pub(super) const NETWORK_DRIVER: &str = "vfdrv";
/// One that claims none, and makes none.
pub(super) const USER_SPACE_DRIVER: &str = "vfio-pci";

/// In what kernels and drivers differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Kernels before 6.2 rename no link that is up (net/core/dev.c, `dev_change_name`).
    pub(super) renames_while_up: bool,
    /// Many drivers take no address while up.
    pub(super) addresses_while_up: bool,
    /// A VF with an admin MAC may not change its own, unless trusted (ixgbe_sriov.c, `ixgbe_set_vf_mac_addr`).
    pub(super) own_mac_locked: bool,
    /// Rates are refused without a link (igb_main.c, `igb_ndo_set_vf_bw`).
    pub(super) rates_need_link: bool,
    /// A VF that probes under a PF that is down gets no netdev.
    pub(super) probes_need_link: bool,
    /// The eswitch changes its mode only with all VFs unbound.
    pub(super) mode_needs_unbound: bool,
    /// The driver knows no link state of a VF, which shows only when it is set.
    pub(super) link_state_refused: bool,
    /// VLAN, spoof check, trust (mlx5's esw/legacy.c, `mlx5_eswitch_set_vport_vlan`) and rates are refused in switchdev mode.
    pub(super) legacy_only: bool,
    /// udev runs, and renames.
    pub(super) udev: bool,
    /// A netdev comes some time after the bind.
    pub(super) late_netdevs: bool,
}

/// What goes wrong, beyond what the kernel's rules refuse.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    /// Attempts, by number, that fail once.
    pub(super) attempts: BTreeSet<usize>,
    /// VFs whose next probes fail, and how many.
    pub(super) probes: BTreeMap<PciAddress, usize>,
    /// VFs that get no netdev at their next binds, and how many.
    pub(super) silent: BTreeMap<PciAddress, usize>,
    /// VFs on which nothing can be set, by the PF or on their netdev.
    pub(super) stubborn: BTreeSet<PciAddress>,
}

/// The process was killed before this attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Killed;

/// What came of an attempt; or none was made, for the process is gone.
pub(super) type Attempt = Result<Result<(), Errno>, Killed>;

#[derive(Clone)]
pub(super) struct Machine {
    pub(super) rules: Rules,
    /// What can be observed.
    pub(super) state: NicState,
    /// What a PF's driver says of a VF that it has just made, by PF.
    pub(super) fresh: Vec<VfAttributes>,
    pub(super) faults: Faults,
    /// VFs that somebody uses through VFIO.
    pub(super) in_use: BTreeSet<PciAddress>,
    /// Interfaces that belong to no NIC.
    pub(super) strangers: BTreeMap<IfIndex, LinkName>,
    /// How many attempts are left before the process is killed.
    pub(super) life: Option<usize>,
    pub(super) attempts: usize,
    /// What was changed.
    pub(super) changes: Vec<String>,
    /// What must never be tried.
    pub(super) violations: Vec<String>,
    /// Netdevs that have not come yet.
    late: BTreeMap<PciAddress, NetdevState>,
    /// Names that udev is about to give.
    pending: BTreeMap<IfIndex, LinkName>,
    next_index: u32,
    next_mac: u32,
}

/// Short enough to read what a law fails on.
impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = serde_json::to_string(&self.state).map_err(|_| fmt::Error)?;
        write!(f, "{:?} {:?} in use {:?}\n{state}", self.rules, self.faults, self.in_use)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Pf(usize),
    Vf(usize, usize),
    Representor(usize, usize),
}

pub(super) fn pf_name(pf: usize) -> LinkName {
    format!("enp{}s0", pf + 1).parse().unwrap()
}

pub(super) fn vf_name(pf: usize, vf: u32) -> LinkName {
    format!("enp{}s0v{vf}", pf + 1).parse().unwrap()
}

pub(super) fn representor_name(pf: usize, vf: u32) -> LinkName {
    format!("enp{}s0r{vf}", pf + 1).parse().unwrap()
}

pub(super) fn vf_address(pf: usize, vf: u32) -> PciAddress {
    PciAddress {
        domain: 0,
        bus: u8::try_from(pf + 1).unwrap(),
        device: 0x10,
        function: u8::try_from(vf).unwrap(),
    }
}

pub(super) fn port(pf: usize, vf: u32) -> PhysPortName {
    PhysPortName { controller: None, port: PhysPort::Vf { pf: u32::try_from(pf).unwrap(), vf } }
}

impl Machine {
    pub(super) fn new(rules: Rules, state: NicState, fresh: Vec<VfAttributes>) -> Self {
        Self {
            rules,
            state,
            fresh,
            faults: Faults::default(),
            in_use: BTreeSet::new(),
            strangers: BTreeMap::new(),
            life: None,
            attempts: 0,
            changes: Vec::new(),
            violations: Vec::new(),
            late: BTreeMap::new(),
            pending: BTreeMap::new(),
            next_index: 100,
            next_mac: 0,
        }
    }

    /// The drivers are unloaded and loaded again: the PFs are what their driver makes of them, and udev is done.
    pub(super) fn reload(&mut self) {
        self.late.clear();
        self.pending.clear();
        for pf in 0..self.state.pfs.len() {
            let index = self.index();
            let state = &mut self.state.pfs[pf];
            state.num_vfs = 0;
            state.vfs.clear();
            state.representors.clear();
            if let Some(eswitch) = &mut state.eswitch {
                eswitch.mode = EswitchMode::Legacy;
            }
            let address = LinkAddress(vec![2, 0xff, 0, 0, 0, u8::try_from(pf).unwrap()]);
            state.netdev = Some(netdev(index, pf_name(pf), address));
        }
    }

    fn index(&mut self) -> IfIndex {
        self.next_index += 1;
        IfIndex(self.next_index)
    }

    fn random_mac(&mut self) -> MacAddress {
        self.next_mac += 1;
        let [a, b, c, d] = self.next_mac.to_be_bytes();
        MacAddress([0x06, 0xee, a, b, c, d])
    }

    fn gate(&mut self, vf: Option<PciAddress>, what: &str) -> Attempt {
        match &mut self.life {
            Some(0) => return Err(Killed),
            Some(left) => *left -= 1,
            None => {}
        }
        self.attempts += 1;
        if vf.is_some_and(|vf| self.in_use.contains(&vf)) {
            self.violations.push(format!("{what} on {vf:?}, which is in use"));
        }
        let fails = self.faults.attempts.remove(&self.attempts)
            || vf.is_some_and(|vf| self.faults.stubborn.contains(&vf));
        Ok(if fails { Err(Errno::IO) } else { Ok(()) })
    }

    fn done(&mut self, what: String, result: Result<(), Errno>) -> Attempt {
        if result.is_ok() {
            self.changes.push(what);
        }
        Ok(result)
    }

    pub(super) fn pf_step(&mut self, pf: usize, step: &PfStep) -> Attempt {
        if let PfStep::Netdev(step) = step {
            let Some(index) = self.state.pfs[pf].netdev.as_ref().map(|netdev| netdev.index) else {
                return Ok(Err(Errno::NODEV));
            };
            return self.netdev_step(index, step);
        }
        let what = format!("PF {pf}: {step}");
        if let Err(errno) = self.gate(None, &what)? {
            return Ok(Err(errno));
        }
        let result = match step {
            PfStep::Autoprobe(on) => match &mut self.state.pfs[pf].drivers_autoprobe {
                Some(autoprobe) => {
                    *autoprobe = *on;
                    Ok(())
                }
                None => Err(Errno::NOENT),
            },
            PfStep::NumVfs(count) => self.set_num_vfs(pf, *count),
            PfStep::Eswitch(change) => self.set_eswitch(pf, *change),
            PfStep::Netdev(_) => Ok(()),
        };
        self.done(what, result)
    }

    /// drivers/pci/pci-sysfs.c, `sriov_numvfs_store`.
    fn set_num_vfs(&mut self, pf: usize, count: u32) -> Result<(), Errno> {
        let now = self.state.pfs[pf].num_vfs;
        if now == count {
            self.violations.push(format!("sriov_numvfs of PF {pf} was {count} and was written"));
            return Ok(());
        }
        if self.state.pfs[pf].total_vfs.is_none_or(|total| count > total) {
            return Err(Errno::RANGE);
        }
        if count != 0 && now != 0 {
            return Err(Errno::BUSY);
        }
        for vf in std::mem::take(&mut self.state.pfs[pf].vfs) {
            let Some(address) = vf.address else { continue };
            self.late.remove(&address);
            if self.in_use.contains(&address) {
                self.violations.push(format!("{address} was removed while in use"));
            }
        }
        self.state.pfs[pf].representors.clear();
        self.state.pfs[pf].num_vfs = count;
        let ofed = self.fresh[pf].trust.is_supported().then(Default::default);
        self.state.pfs[pf].vfs = (0..count)
            .map(|index| VfState {
                index,
                address: Some(vf_address(pf, index)),
                driver: None,
                driver_override: None,
                admin: Some(VfAttributes { index, ..self.fresh[pf].clone() }),
                ofed: ofed.clone(),
                netdev: VfNetdev::Unbound,
            })
            .collect();
        if self.state.pfs[pf].drivers_autoprobe != Some(false) {
            for vf in 0..self.state.pfs[pf].vfs.len() {
                // A probe that fails does not fail the write.
                let _ = self.probe(pf, vf, NETWORK_DRIVER);
            }
        }
        self.make_representors(pf);
        Ok(())
    }

    fn is_in_switchdev(&self, pf: usize) -> bool {
        self.state.pfs[pf].eswitch.is_some_and(|eswitch| eswitch.mode == EswitchMode::Switchdev)
    }

    fn make_representors(&mut self, pf: usize) {
        let in_switchdev = self.is_in_switchdev(pf);
        for vf in (0..self.state.pfs[pf].num_vfs).filter(|_| in_switchdev) {
            let address = self.random_mac().into();
            let netdev = self.register(representor_name(pf, vf), address);
            let representor =
                RepresentorState { port: port(pf, vf), switch_id: None, address_is_random: false, netdev };
            self.state.pfs[pf].representors.push(representor);
        }
    }

    fn set_eswitch(&mut self, pf: usize, change: EswitchChange) -> Result<(), Errno> {
        let bound = self.state.pfs[pf].vfs.iter().any(|vf| vf.driver.is_some());
        let Some(eswitch) = &mut self.state.pfs[pf].eswitch else { return Err(Errno::OPNOTSUPP) };
        match change {
            EswitchChange::Mode(mode) if mode == eswitch.mode => {}
            EswitchChange::Mode(_) if bound && self.rules.mode_needs_unbound => return Err(Errno::BUSY),
            EswitchChange::Mode(mode) => {
                eswitch.mode = mode;
                self.state.pfs[pf].representors.clear();
                self.make_representors(pf);
            }
            EswitchChange::InlineMode(mode) => eswitch.inline_mode = Some(mode),
            EswitchChange::EncapMode(mode) => eswitch.encap_mode = Some(mode),
        }
        Ok(())
    }

    pub(super) fn admin_step(&mut self, pf: usize, vf: u32, change: &VfChange) -> Attempt {
        let what = format!("PF {pf}, VF {vf}: {change}");
        if let Err(errno) = self.gate(Some(vf_address(pf, vf)), &what)? {
            return Ok(Err(errno));
        }
        let result = self.set_admin(pf, vf, change);
        self.done(what, result)
    }

    fn set_admin(&mut self, pf: usize, vf: u32, change: &VfChange) -> Result<(), Errno> {
        let has_link = self.state.pfs[pf].netdev.as_ref().is_some_and(|netdev| netdev.up);
        let in_switchdev = self.is_in_switchdev(pf);
        let rules = self.rules;
        let vf = self.state.pfs[pf].vfs.iter_mut().find(|state| state.index == vf).ok_or(Errno::INVAL)?;
        let admin = vf.admin.as_mut().ok_or(Errno::OPNOTSUPP)?;
        fn set<T>(setting: &mut Setting<T>, value: Setting<T>) -> Result<(), Errno> {
            if !setting.is_supported() {
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

    pub(super) fn ofed_step(&mut self, pf: usize, vf: u32, step: OfedStep) -> Attempt {
        let what = format!("PF {pf}, VF {vf}: {step}");
        if let Err(errno) = self.gate(Some(vf_address(pf, vf)), &what)? {
            return Ok(Err(errno));
        }
        let state = self.state.pfs[pf].vfs.iter_mut().find(|state| state.index == vf);
        let result = state.and_then(|vf| vf.ofed.as_mut()).ok_or(Errno::NOENT).map(|ofed| match step {
            OfedStep::TrunkAdd(first, last) => {
                let vlans: BTreeSet<u16> = ofed.trunk.iter().copied().chain(first..=last).collect();
                ofed.trunk = vlans.into_iter().collect();
            }
            OfedStep::TrunkRemove(first, last) => ofed.trunk.retain(|vlan| !(first..=last).contains(vlan)),
            OfedStep::RateGroup(group) => ofed.rate_group = Some(group),
        });
        self.done(what, result)
    }

    /// Whether somebody uses it through VFIO; asked before an unbind.
    pub(super) fn is_in_use(&self, address: PciAddress) -> bool {
        self.in_use.contains(&address)
    }

    pub(super) fn bind_step(&mut self, address: PciAddress, step: &BindStep) -> Attempt {
        let what = format!("{address}: {step}");
        if let Err(errno) = self.gate(Some(address), &what)? {
            return Ok(Err(errno));
        }
        let Some((pf, vf)) = self.place(address) else { return Ok(Err(Errno::NODEV)) };
        let state = &mut self.state.pfs[pf].vfs[vf];
        let result = match step {
            BindStep::Unbind(driver) if state.driver.as_ref() != Some(driver) => Err(Errno::NODEV),
            BindStep::Unbind(_) => {
                state.driver = None;
                state.netdev = VfNetdev::Unbound;
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
    fn probe(&mut self, pf: usize, vf: usize, driver: &str) -> Result<(), Errno> {
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
        let mac = state.admin.as_ref().and_then(|admin| admin.mac.into_set());
        let index = state.index;
        let has_link = self.state.pfs[pf].netdev.as_ref().is_some_and(|netdev| netdev.up);
        let netdev = if driver == NETWORK_DRIVER {
            let silent = spend(&mut self.faults.silent, address);
            if silent || (self.rules.probes_need_link && !has_link) {
                VfNetdev::NotVisible
            } else {
                let mac = mac.unwrap_or_else(|| self.random_mac());
                let netdev = self.register(vf_name(pf, index), mac.into());
                if self.rules.late_netdevs {
                    self.late.insert(address, netdev);
                    VfNetdev::NotVisible
                } else {
                    VfNetdev::Here(netdev)
                }
            }
        } else {
            VfNetdev::OtherDriver
        };
        let state = &mut self.state.pfs[pf].vfs[vf];
        state.driver = Some(driver.to_owned());
        state.netdev = netdev;
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

/// What a driver with all attributes, or with fewer, says of a VF of which nothing has been set.
pub(super) fn fresh_attributes(rich: bool) -> VfAttributes {
    let base = VfAttributes {
        mac: Setting::NotSet,
        vlan: Setting::NotSet,
        spoof_check: Setting::Set(true),
        min_tx_rate: Setting::NotSet,
        max_tx_rate: Setting::NotSet,
        link_state: VfLinkState::Auto,
        ..VfAttributes::new(0)
    };
    if !rich {
        return base;
    }
    VfAttributes {
        trust: Setting::Set(false),
        query_rss: Setting::Set(false),
        node_guid: Setting::NotSet,
        port_guid: Setting::NotSet,
        ..base
    }
}
