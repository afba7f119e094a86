//! NICs whose state changes by steps, by the rules of the kernel, of the drivers and of udev.

mod netdevs;
mod others;
mod rdma;
mod tried;
mod vfs;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub(super) use self::netdevs::DATAGRAM_MTU;
use self::netdevs::netdev;
pub(super) use self::others::{Disturbance, Event, Hang, HungPf};
pub(super) use self::tried::Tried;
use nic_netlink::{
    EswitchChange, EswitchMode, IfIndex, LinkAddress, LinkName, MacAddress, PhysPort, PhysPortName, Setting,
    VfAttributes, VfLinkState,
};
use rustix::io::Errno;

use crate::plan::{PfStep, RestoreStep};
use crate::{NicState, OfedAttributes, PciAddress, RepresentorState, VfNetdev, VfState};

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
    /// udev gives a netdev that was renamed the name back that it would have, as an alternative one (systemd's
    /// `src/udev/net/link-config.c`, `link_apply_config`).
    pub(super) udev_altnames: bool,
    /// Netdevs have a mode, as those of IP over InfiniBand have, and an MTU that goes with it (`ipoib_set_mode` and
    /// `ipoib_change_mtu` in drivers/infiniband/ulp/ipoib/ipoib_main.c).
    pub(super) ipoib: bool,
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
    /// Attempts, by number, that do not return.
    pub(super) hangs: BTreeMap<usize, Hang>,
    /// A PF of which every attempt hangs.
    pub(super) hung_pf: Option<HungPf>,
    /// Observations of a PF, by number, that fail.
    pub(super) observations: BTreeSet<usize>,
}

/// Who alone makes a netdev the port of a master.
#[derive(Debug, Clone, Default)]
pub(super) struct Daemon {
    /// After how many lists of all links it gets round to its ports; `None`: never.
    pub(super) takes_after: Option<usize>,
    /// The ports, each with its master.
    pub(super) ports: BTreeMap<IfIndex, LinkName>,
}

/// What came of an attempt.
pub(super) type Attempt = Result<(), Errno>;

#[derive(Clone)]
pub(super) struct Kernel {
    pub(super) rules: Rules,
    /// What can be observed.
    pub(super) state: NicState,
    /// What a PF's driver says of a VF that it has just made, by PF.
    pub(super) fresh: Vec<VfAttributes>,
    pub(super) faults: Faults,
    /// VFs that somebody uses through VFIO.
    pub(super) in_use: BTreeSet<PciAddress>,
    /// After which question each of them was opened.
    opened: BTreeMap<PciAddress, usize>,
    /// PFs of which somebody has the device itself open, and after which question.
    pub(super) pf_users: BTreeMap<usize, usize>,
    /// When it was last told of each PF that nobody has.
    looked_at_pf: BTreeMap<usize, usize>,
    /// The mode that each PF's eswitch is to get, by PF: until then its VFs lose their drivers all together or not at all.
    pub(super) wanted_modes: BTreeMap<usize, EswitchMode>,
    /// The ports that a daemon is to take back, since their master takes them from it alone; `None` where masters take ports from anybody.
    pub(super) daemon: Option<Daemon>,
    /// Interfaces that belong to no NIC.
    pub(super) strangers: BTreeMap<IfIndex, LinkName>,
    /// What others may do at any moment.
    pub(super) others: Vec<Disturbance>,
    pub(super) attempts: usize,
    /// How often a PF was observed.
    pub(super) observations: usize,
    /// How often all links were read.
    pub(super) dumps: usize,
    /// How many messages there were about what PFs hold for VFs.
    pub(super) vf_messages: usize,
    /// What was changed.
    pub(super) changes: Vec<String>,
    /// What must never be tried.
    pub(super) violations: Vec<String>,
    /// What was tried, in its order.
    pub(super) tried: Vec<Tried>,
    /// The addresses of netdevs that have not come yet.
    late: BTreeMap<PciAddress, LinkAddress>,
    /// Names that udev is about to give.
    pending: BTreeMap<IfIndex, LinkName>,
    /// Netdevs that were renamed, which udev has not got round to yet.
    renamed: BTreeSet<IfIndex>,
    /// The names that netdevs came under.
    first_names: BTreeMap<IfIndex, LinkName>,
    /// The VFs of which it was told that nobody uses them, and when, since they were last bound or unbound.
    looked: BTreeMap<PciAddress, usize>,
    /// The same of netdevs in other network namespaces.
    looked_away: BTreeMap<PciAddress, usize>,
    /// The addresses of netdevs that were taken to other network namespaces meanwhile.
    taken: BTreeMap<PciAddress, LinkAddress>,
    /// When each PF was last observed.
    observed: BTreeMap<usize, usize>,
    questions: usize,
    next_index: u32,
    next_mac: u32,
}

/// Short enough to read what a law fails on.
impl fmt::Debug for Kernel {
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

impl Kernel {
    pub(super) fn new(rules: Rules, state: NicState, fresh: Vec<VfAttributes>) -> Self {
        Self {
            rules,
            state,
            fresh,
            faults: Faults::default(),
            in_use: BTreeSet::new(),
            pf_users: BTreeMap::new(),
            looked_at_pf: BTreeMap::new(),
            opened: BTreeMap::new(),
            wanted_modes: BTreeMap::new(),
            daemon: None,
            strangers: BTreeMap::new(),
            others: Vec::new(),
            attempts: 0,
            observations: 0,
            dumps: 0,
            vf_messages: 0,
            changes: Vec::new(),
            violations: Vec::new(),
            tried: Vec::new(),
            late: BTreeMap::new(),
            pending: BTreeMap::new(),
            renamed: BTreeSet::new(),
            first_names: BTreeMap::new(),
            looked: BTreeMap::new(),
            looked_away: BTreeMap::new(),
            taken: BTreeMap::new(),
            observed: BTreeMap::new(),
            questions: 0,
            next_index: 100,
            next_mac: 0,
        }
    }

    /// The drivers are unloaded and loaded again: the PFs are what their driver makes of them, and udev is done.
    pub(super) fn reload(&mut self) {
        self.late.clear();
        self.pending.clear();
        self.renamed.clear();
        for pf in 0..self.state.pfs.len() {
            let index = self.index();
            let state = &mut self.state.pfs[pf];
            state.num_vfs = 0;
            state.vfs.clear();
            state.representors.clear();
            if let Some(eswitch) = state.eswitch.as_set_mut() {
                eswitch.mode = EswitchMode::Legacy;
            }
            let address = LinkAddress(vec![2, 0xff, 0, 0, 0, u8::try_from(pf).unwrap()]);
            state.netdev = Setting::Set(netdev(index, pf_name(pf), address, self.rules.ipoib));
            state.rdma = Setting::NotThere;
        }
        for pf in 0..self.state.pfs.len() {
            self.state.pfs[pf].rdma = self.new_rdma(pf);
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
        self.attempts += 1;
        if let Some(vf) = vf.filter(|vf| self.in_use.contains(vf) && !self.looked.contains_key(vf)) {
            self.violations.push(format!("{what} on {vf}, which is in use"));
        }
        let fails = self.faults.attempts.remove(&self.attempts)
            || vf.is_some_and(|vf| self.faults.stubborn.contains(&vf));
        if fails { Err(Errno::IO) } else { Ok(()) }
    }

    fn done(&mut self, what: String, result: Result<(), Errno>) -> Attempt {
        if result.is_ok() {
            self.changes.push(what);
        }
        result
    }

    pub(super) fn pf_step(&mut self, pf: usize, step: &PfStep) -> Attempt {
        let what = format!("PF {pf}: {step}");
        self.note_try(Owner::Pf(pf), RestoreStep::Pf(step.clone()));
        self.gate(None, &what)?;
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
            PfStep::Netdev(step) => panic!("{step} is no step on a PF's own files"),
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
        self.expect_unused(pf, "are removed");
        for vf in std::mem::take(&mut self.state.pfs[pf].vfs) {
            let Some(address) = vf.address else { continue };
            self.late.remove(&address);
            self.in_use.remove(&address);
        }
        self.state.pfs[pf].representors.clear();
        self.state.pfs[pf].num_vfs = count;
        let has_ofed = self.fresh[pf].trust.is_there();
        let trunk = if has_ofed { Setting::NotSet } else { Setting::NotThere };
        let ofed = OfedAttributes { trunk, rate_group: Setting::NotThere };
        self.state.pfs[pf].vfs = (0..count)
            .map(|index| VfState {
                index,
                address: Some(vf_address(pf, index)),
                driver: None,
                driver_override: None,
                admin: Setting::Set(VfAttributes { index, ..self.fresh[pf].clone() }),
                rdma: Setting::NotThere,
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
        self.state.pfs[pf].eswitch_mode() == Some(EswitchMode::Switchdev)
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
        if matches!(change, EswitchChange::Mode(_)) {
            self.expect_pf_unused(pf);
            self.expect_unused(pf, "see the eswitch's mode change");
        }
        let bound = self.state.pfs[pf].vfs.iter().any(|vf| vf.driver.is_some());
        let Some(eswitch) = self.state.pfs[pf].eswitch.as_set_mut() else { return Err(Errno::OPNOTSUPP) };
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
