//! What has to be done to bring the NICs from what they are to what they were. Pure: states in, steps out.
//!
//! VFs do not exist before their PF made them, and a netdev not before its driver probed, so a restore is planned
//! in stages with an observation between them. The functions here each plan one stage; [`plan_restore`] puts them
//! together for showing what would be done, with the stages that cannot be seen yet in the form of a promise.

mod text;

use crate::ofed::{OfedStep, plan_ofed};
use crate::{
    DeviceAddress, NetdevState, NicState, OfedAttributes, Part, PciAddress, PciId, PfState, RepresentorState,
    VfNetdev, VfState,
};
use nic_netlink::{
    EswitchChange, EswitchMode, LinkAddress, LinkChange, LinkLayer, LinkName, Setting, VfAttributes,
    VfChange, VlanTag,
};

/// A step on a PF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PfStep {
    /// Set something of its eswitch.
    Eswitch(EswitchChange),
    /// Set something of its netdev.
    Netdev(NetdevStep),
    /// Write `sriov_drivers_autoprobe`.
    Autoprobe(bool),
    /// Write `sriov_numvfs`.
    NumVfs(u32),
}

/// A step on a netdev.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetdevStep {
    /// Set a property.
    Link(LinkChange),
    /// Join this bond, bridge or VRF, or leave the one it is in.
    Master(Option<LinkName>),
}

/// A step that gives a VF the driver it had, or takes one away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindStep {
    /// Unbind it from this driver.
    Unbind(String),
    /// Set or clear `driver_override`.
    Override(Option<String>),
    /// Bind it to this driver.
    Bind(String),
}

/// What is to be done for one VF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfPlan {
    /// Which VF.
    pub part: Part,
    /// Attributes to set on the PF before the VF's driver probes.
    pub admin_before: Vec<VfChange>,
    /// The same, beyond netlink.
    pub ofed: Vec<OfedStep>,
    /// Unbinding and binding.
    pub binding: Vec<BindStep>,
    /// Its netdev's own properties.
    pub netdev: NetdevPlan,
    /// Attributes to set on the PF when the VF is running.
    pub admin_after: Vec<VfChange>,
}

/// What is to be done for a VF's netdev.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetdevPlan {
    /// It is there, and these are the steps.
    Steps(Vec<NetdevStep>),
    /// It is not there yet. When it is, whatever differs from this is set.
    OnceThere(Box<NetdevState>),
}

impl VfPlan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.admin_before.is_empty()
            && self.ofed.is_empty()
            && self.binding.is_empty()
            && self.admin_after.is_empty()
            && matches!(&self.netdev, NetdevPlan::Steps(steps) if steps.is_empty())
    }
}

/// What is to be done for a representor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepresentorPlan {
    /// Which representor.
    pub part: Part,
    /// Its netdev's properties.
    pub netdev: NetdevPlan,
}

/// What is to be done for one PF, its VFs and its representors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PfPlan {
    /// Which PF.
    pub address: DeviceAddress,
    /// Before there are VFs.
    pub prepare: Vec<PfStep>,
    /// When the VFs have their admin attributes and before they are bound: the eswitch.
    pub eswitch: Vec<PfStep>,
    /// For each representor that needs something.
    pub representors: Vec<RepresentorPlan>,
    /// For each VF that needs something.
    pub vfs: Vec<VfPlan>,
    /// When all VFs are back.
    pub finish: Vec<PfStep>,
}

impl PfPlan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prepare.is_empty()
            && self.eswitch.is_empty()
            && self.representors.is_empty()
            && self.vfs.is_empty()
            && self.finish.is_empty()
    }
}

/// What is to be done on the machine. Empty when it already is what it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestorePlan {
    /// The PFs that need something.
    pub pfs: Vec<PfPlan>,
}

impl RestorePlan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pfs.is_empty()
    }
}

/// Why a snapshot cannot be restored on this machine, known before anything is changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreObstacle {
    /// The PF is gone, or another driver has it.
    #[error("PF {pf} had the driver {driver} when the snapshot was taken; now {found}")]
    PfUnavailable {
        /// The PF.
        pf: DeviceAddress,
        /// The driver it had.
        driver: String,
        /// What was found.
        found: String,
    },
    /// Another card sits in the slot.
    #[error("PF {pf} was a {wanted} when the snapshot was taken; now a {found} is there: another card")]
    OtherCard {
        /// The PF's address.
        pf: DeviceAddress,
        /// What card it was.
        wanted: PciId,
        /// What card is there.
        found: PciId,
    },
    /// The PF has no SR-IOV now.
    #[error("PF {pf} had {wanted} VFs when the snapshot was taken; now it has no SR-IOV (no sriov_totalvfs)")]
    NoSriov {
        /// The PF.
        pf: DeviceAddress,
        /// How many VFs it had.
        wanted: u32,
    },
    /// VFs would have to be removed, and one is in use.
    #[error(
        "PF {pf} had {wanted} VFs when the snapshot was taken and has {found} now; they cannot be removed, because {group} is open: {vf} is in use"
    )]
    VfInUse {
        /// The PF.
        pf: DeviceAddress,
        /// How many VFs it had.
        wanted: u32,
        /// How many it has.
        found: u32,
        /// The VF.
        vf: PciAddress,
        /// The device file that is open.
        group: String,
    },
    /// The PF can have fewer VFs now.
    #[error("PF {pf} had {wanted} VFs when the snapshot was taken; now it can have {total} (sriov_totalvfs)")]
    TooFewVfs {
        /// The PF.
        pf: DeviceAddress,
        /// How many VFs it had.
        wanted: u32,
        /// `sriov_totalvfs`.
        total: u32,
    },
}

/// What makes the snapshot impossible to restore on the machine as it is.
#[must_use]
pub fn obstacles(saved: &NicState, found: &NicState) -> Vec<RestoreObstacle> {
    let mut obstacles = Vec::new();
    for pf in &saved.pfs {
        let pf_address = pf.address.clone();
        let now = found.pf(&pf.address);
        if let (Some(wanted), Some(found)) = (&pf.pci_id, now.and_then(|now| now.pci_id.as_ref()))
            && wanted != found
        {
            let (wanted, found) = (wanted.clone(), found.clone());
            obstacles.push(RestoreObstacle::OtherCard { pf: pf_address.clone(), wanted, found });
        }
        let driver_now = now.and_then(|now| now.driver.clone());
        if now.is_none() || driver_now != pf.driver {
            obstacles.push(RestoreObstacle::PfUnavailable {
                pf: pf_address.clone(),
                driver: pf.driver.clone().unwrap_or_else(|| "none".to_owned()),
                found: match (now, driver_now) {
                    (None, _) => "the device is gone".to_owned(),
                    (Some(_), None) => "it has no driver".to_owned(),
                    (Some(_), Some(driver)) => format!("it has {driver}"),
                },
            });
        }
        match now.and_then(|now| now.total_vfs) {
            None if now.is_some() && pf.num_vfs > 0 => {
                obstacles.push(RestoreObstacle::NoSriov { pf: pf_address, wanted: pf.num_vfs });
            }
            Some(total) if total < pf.num_vfs => {
                obstacles.push(RestoreObstacle::TooFewVfs { pf: pf_address, wanted: pf.num_vfs, total });
            }
            None | Some(_) => {}
        }
    }
    obstacles
}

/// Stage 1, before there are VFs: the PF's own properties, then its VFs, created without drivers.
///
/// The PF is up and has its MTU before there are VFs: a VF's MTU may not exceed its PF's, and VFs that probe under a
/// PF that is down wait for it in vain. `sriov_numvfs` takes no change from one count to another
/// (drivers/pci/pci-sysfs.c, `sriov_numvfs_store`: EBUSY), so a wrong count goes through 0.
#[must_use]
pub fn plan_prepare(saved: &PfState, found: &PfState) -> Vec<PfStep> {
    let mut steps = Vec::new();
    let creates = saved.num_vfs != found.num_vfs && saved.num_vfs > 0;
    if saved.num_vfs != found.num_vfs && found.num_vfs > 0 {
        steps.push(PfStep::NumVfs(0));
    }
    // VFs are created in legacy mode: on ConnectX-6 Lx, switchdev with VFs half created is refused.
    let in_legacy = mode_of(found).is_none_or(|mode| mode == EswitchMode::Legacy);
    if !in_legacy && (creates || mode_of(saved) == Some(EswitchMode::Legacy)) {
        steps.push(PfStep::Eswitch(EswitchChange::Mode(EswitchMode::Legacy)));
    }
    if let (Some(saved_netdev), Some(found_netdev)) = (&saved.netdev, &found.netdev) {
        let needs_up = saved.num_vfs > 0
            && (creates || vfs_need_binding(saved, found) || rates_are_to_be_set(saved, found));
        let wanted = NetdevState { up: saved_netdev.up || needs_up, ..saved_netdev.clone() };
        steps.extend(plan_netdev(&wanted, found_netdev).into_iter().map(PfStep::Netdev));
    }
    if creates {
        // Without the attribute (kernels before 4.12) the VFs probe as soon as they exist, and those whose admin MAC
        // comes too late are bound again.
        if found.drivers_autoprobe == Some(true) {
            steps.push(PfStep::Autoprobe(false));
        }
        steps.push(PfStep::NumVfs(saved.num_vfs));
    }
    steps
}

/// Whether [`plan_prepare`] changes the eswitch's mode with the VFs there that are found, and not with none.
pub(crate) fn changes_mode_under_vfs(prepare: &[PfStep]) -> bool {
    let changes = prepare.iter().any(|step| matches!(step, PfStep::Eswitch(EswitchChange::Mode(_))));
    changes && !prepare.contains(&PfStep::NumVfs(0))
}

/// Stage 2, before VFs probe: the attributes that the PF holds for a VF.
///
/// A VF takes the admin MAC when it probes. One whose own MAC was another than its admin MAC probes under its own,
/// and is given the admin MAC when it runs ([`plan_admin_after`]): a running VF does not follow it.
#[must_use]
pub fn plan_admin_before(saved: &VfState, found: &VfState) -> Vec<VfChange> {
    let (Some(saved_admin), Some(found_admin)) = (&saved.admin, &found.admin) else { return Vec::new() };
    let mut changes = Vec::new();
    let probes = binding_to(saved, found).is_some();
    let mac = match own_mac_beside_admin(saved) {
        Some(own) if probes => Setting::Set(own),
        _ => saved_admin.mac,
    };
    if mac != found_admin.mac {
        match mac {
            Setting::Set(mac) => changes.push(VfChange::Mac(mac)),
            Setting::NotSet if found_admin.mac != Setting::Unsupported => {
                changes.push(VfChange::Mac(nic_netlink::MacAddress([0; 6])));
            }
            Setting::NotSet | Setting::Unsupported => {}
        }
    }
    if let Some(vlan) = wanted(&saved_admin.vlan, &found_admin.vlan) {
        changes.push(VfChange::Vlan(vlan.unwrap_or(VlanTag::NONE)));
    }
    if let Some(Some(check)) = wanted(&saved_admin.spoof_check, &found_admin.spoof_check) {
        changes.push(VfChange::SpoofCheck(check));
    }
    if let Some(Some(trust)) = wanted(&saved_admin.trust, &found_admin.trust) {
        changes.push(VfChange::Trust(trust));
    }
    if saved_admin.link_state != found_admin.link_state {
        changes.push(VfChange::LinkState(saved_admin.link_state));
    }
    if let Some(Some(query)) = wanted(&saved_admin.query_rss, &found_admin.query_rss) {
        changes.push(VfChange::QueryRss(query));
    }
    // An all-zero GUID is "not set": writing it would take the VF's GUID away.
    if let Some(Some(guid)) = wanted(&saved_admin.node_guid, &found_admin.node_guid) {
        changes.push(VfChange::NodeGuid(guid));
    }
    if let Some(Some(guid)) = wanted(&saved_admin.port_guid, &found_admin.port_guid) {
        changes.push(VfChange::PortGuid(guid));
    }
    changes
}

/// Stage 3, with all VFs there: the eswitch's mode, which VFs that are bound must not see change
/// ([`vfs_to_unbind`]), then what can be set only in that mode.
#[must_use]
pub fn plan_eswitch(saved: &PfState, found: &PfState) -> Vec<PfStep> {
    let (Some(saved), Some(found)) = (&saved.eswitch, &found.eswitch) else { return Vec::new() };
    let mut changes = Vec::new();
    if saved.mode != found.mode {
        changes.push(EswitchChange::Mode(saved.mode));
    }
    if let Some(inline) = saved.inline_mode.filter(|inline| found.inline_mode != Some(*inline)) {
        changes.push(EswitchChange::InlineMode(inline));
    }
    if let Some(encap) = saved.encap_mode.filter(|encap| found.encap_mode != Some(*encap)) {
        changes.push(EswitchChange::EncapMode(encap));
    }
    changes.into_iter().map(PfStep::Eswitch).collect()
}

/// The VFs that have to lose their drivers before [`plan_prepare`] or [`plan_eswitch`] changes the mode.
#[must_use]
pub fn vfs_to_unbind<'found>(saved: &PfState, found: &'found PfState) -> Vec<&'found VfState> {
    let changes_mode = |step: &PfStep| matches!(step, PfStep::Eswitch(EswitchChange::Mode(_)));
    if !plan_eswitch(saved, found).iter().any(changes_mode) {
        return Vec::new();
    }
    found.vfs.iter().filter(|vf| vf.driver.is_some()).collect()
}

/// The PF as its VFs' attributes are planned for: VFs that lose their drivers to the eswitch will probe again.
pub(crate) fn without_vfs_to_unbind(saved: &PfState, found: &PfState) -> PfState {
    let mut state = found.clone();
    for unbound in vfs_to_unbind(saved, found) {
        for vf in state.vfs.iter_mut().filter(|vf| vf.index == unbound.index) {
            vf.driver = None;
            vf.netdev = VfNetdev::Unbound;
        }
    }
    state
}

/// Stage 4: the driver the VF had, by the way that works for what it has now.
#[must_use]
pub fn plan_binding(saved: &VfState, found: &VfState) -> Vec<BindStep> {
    let mut steps = Vec::new();
    if saved.address.is_none() {
        return steps;
    }
    let target = binding_to(saved, found);
    let leaves = saved.driver.is_none() && found.driver.is_some();
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

/// Stage 5: a netdev's own properties, in an order the kernel takes.
///
/// Down first where the change needs it: kernels before 6.2 rename no interface that is up, and many drivers refuse
/// a MAC change then. Leave a master, MTU and the rest, join a master, and up last.
#[must_use]
pub fn plan_netdev(saved: &NetdevState, found: &NetdevState) -> Vec<NetdevStep> {
    let mut steps = Vec::new();
    let address = new_address(saved, found);
    let renames = saved.name != found.name;
    let leaves = found.master.is_some() && found.master != saved.master;
    let joins = saved.master.is_some() && found.master != saved.master;
    let mut up = found.up;
    if up && (renames || address.is_some() || joins || !saved.up) {
        steps.push(NetdevStep::Link(LinkChange::Up(false)));
        up = false;
    }
    if leaves {
        steps.push(NetdevStep::Master(None));
    }
    for altname in found.altnames.iter().filter(|name| !saved.altnames.contains(name)) {
        steps.push(NetdevStep::Link(LinkChange::RemoveAltName(altname.clone())));
    }
    if renames {
        steps.push(NetdevStep::Link(LinkChange::Name(saved.name.clone())));
    }
    for altname in saved.altnames.iter().filter(|name| !found.altnames.contains(name)) {
        steps.push(NetdevStep::Link(LinkChange::AddAltName(altname.clone())));
    }
    let mut set = |change: LinkChange| steps.push(NetdevStep::Link(change));
    if let Some(address) = address {
        set(LinkChange::Address(address));
    }
    if saved.mtu != found.mtu {
        set(LinkChange::Mtu(saved.mtu));
    }
    if saved.tx_queue_length != found.tx_queue_length {
        set(LinkChange::TxQueueLength(saved.tx_queue_length));
    }
    if saved.alias != found.alias {
        set(LinkChange::Alias(saved.alias.clone().unwrap_or_default()));
    }
    if saved.group != found.group {
        set(LinkChange::Group(saved.group));
    }
    if saved.promiscuous != found.promiscuous {
        set(LinkChange::Promiscuous(saved.promiscuous));
    }
    if saved.all_multicast != found.all_multicast {
        set(LinkChange::AllMulticast(saved.all_multicast));
    }
    if joins {
        steps.push(NetdevStep::Master(saved.master.clone()));
    }
    if saved.up && !up {
        steps.push(NetdevStep::Link(LinkChange::Up(true)));
    }
    steps
}

/// Stage 6, with the VF running: rates, for which drivers want the link to be up (igb refuses them otherwise), and an
/// admin MAC that is not the VF's own.
#[must_use]
pub fn plan_admin_after(saved: &VfState, found: &VfState) -> Vec<VfChange> {
    let (Some(saved_admin), Some(found_admin)) = (&saved.admin, &found.admin) else { return Vec::new() };
    let mut changes = Vec::new();
    if own_mac_beside_admin(saved).is_some()
        && saved_admin.mac != found_admin.mac
        && let Setting::Set(mac) = saved_admin.mac
    {
        changes.push(VfChange::Mac(mac));
    }
    changes.extend(rate_change(saved_admin, found_admin));
    changes
}

/// The rates of a VF, where they have to be set before the eswitch leaves legacy mode: in switchdev mode drivers refuse
/// them (netdevsim's netdev.c, `nsim_set_vf_rate`).
#[must_use]
pub fn plan_rates_before(pf: &PfState, saved: &VfState, found: &VfState) -> Option<VfChange> {
    let (saved_admin, found_admin) = (saved.admin.as_ref()?, found.admin.as_ref()?);
    (mode_of(pf) == Some(EswitchMode::Switchdev)).then(|| rate_change(saved_admin, found_admin))?
}

fn rate_change(saved: &VfAttributes, found: &VfAttributes) -> Option<VfChange> {
    let min = wanted(&saved.min_tx_rate, &found.min_tx_rate);
    let max = wanted(&saved.max_tx_rate, &found.max_tx_rate);
    if min.is_none() && max.is_none() {
        return None;
    }
    let rate = |setting: &Setting<u32>| match setting {
        Setting::Set(rate) => *rate,
        Setting::NotSet | Setting::Unsupported => 0,
    };
    Some(VfChange::Rate { min: rate(&saved.min_tx_rate), max: rate(&saved.max_tx_rate) })
}

/// Stage 7, when all VFs are back: autoprobe, and the PF's netdev as saved.
#[must_use]
pub fn plan_finish(saved: &PfState, found: &PfState) -> Vec<PfStep> {
    let mut steps = Vec::new();
    if let (Some(saved), Some(found)) = (saved.drivers_autoprobe, found.drivers_autoprobe)
        && saved != found
    {
        steps.push(PfStep::Autoprobe(saved));
    }
    if let (Some(saved), Some(found)) = (&saved.netdev, &found.netdev) {
        steps.extend(plan_netdev(saved, found).into_iter().map(PfStep::Netdev));
    }
    steps
}

/// Whether an explicit bind will be needed, for which `sriov_drivers_autoprobe` must be on: with it off the kernel
/// refuses that too (drivers/pci/pci-driver.c, `pci_device_can_probe`).
#[must_use]
pub fn vfs_need_binding(saved: &PfState, found: &PfState) -> bool {
    let found = without_vfs_to_unbind(saved, found);
    saved.vfs.iter().any(|vf| match found.vf(vf.index) {
        Some(now) => binding_to(vf, now).is_some(),
        None => vf.driver.is_some(),
    })
}

/// Whether rates are still to be set, for which some drivers want the PF's link to be up.
fn rates_are_to_be_set(saved: &PfState, found: &PfState) -> bool {
    let is_rate = |change: &VfChange| matches!(change, VfChange::Rate { .. });
    let mut pairs = saved.vfs.iter().filter_map(|vf| Some((vf, found.vf(vf.index)?)));
    pairs.any(|(vf, now)| plan_admin_after(vf, now).iter().any(is_rate))
}

/// The whole plan, as far as it can be seen from here.
#[must_use]
pub fn plan_restore(saved: &NicState, found: &NicState) -> RestorePlan {
    let plan_pf = |pf: &PfState| {
        let now = found.pf(&pf.address)?;
        let prepare = plan_prepare(pf, now);
        let created = prepare.contains(&PfStep::NumVfs(pf.num_vfs));
        let unbound = without_vfs_to_unbind(pf, now);
        let vfs = pf.vfs.iter().filter_map(|vf| {
            let vf_now = if created { None } else { unbound.vf(vf.index) };
            let plan = plan_vf(pf, vf, &vf_now.cloned().unwrap_or_else(|| unprobed(vf)));
            (!plan.is_empty()).then_some(plan)
        });
        let vfs = vfs.collect();
        let prepared = after(&prepare, pf, now);
        let finish = plan_finish(pf, &prepared);
        let eswitch = plan_eswitch(pf, &prepared);
        let stays = prepared.eswitch == now.eswitch && eswitch.is_empty();
        let representors = pf
            .representors
            .iter()
            .filter_map(|saved| plan_representor(pf, saved, if stays { Some(now) } else { None }))
            .collect();
        let plan = PfPlan { address: pf.address.clone(), prepare, eswitch, representors, vfs, finish };
        (!plan.is_empty()).then_some(plan)
    };
    RestorePlan { pfs: saved.pfs.iter().filter_map(plan_pf).collect() }
}

fn plan_vf(pf: &PfState, saved: &VfState, found: &VfState) -> VfPlan {
    let binding = plan_binding(saved, found);
    let probes = binding.iter().any(|step| matches!(step, BindStep::Bind(_)));
    let netdev = match (&saved.netdev, &found.netdev) {
        (VfNetdev::Here(saved), VfNetdev::Here(found)) if !probes => {
            NetdevPlan::Steps(plan_netdev(saved, found))
        }
        (VfNetdev::Here(saved), _) => NetdevPlan::OnceThere(Box::new(saved.clone())),
        _ => NetdevPlan::Steps(Vec::new()),
    };
    let mut admin_before = plan_admin_before(saved, found);
    let mut admin_after = plan_admin_after(saved, found);
    if let Some(rates) = plan_rates_before(pf, saved, found) {
        admin_after.retain(|change| *change != rates);
        admin_before.push(rates);
    }
    VfPlan {
        part: Part::of_vf(pf, saved),
        admin_before,
        ofed: plan_ofed(saved.ofed.as_ref(), found.ofed.as_ref()),
        binding,
        netdev,
        admin_after,
    }
}

fn plan_representor(
    pf: &PfState,
    saved: &RepresentorState,
    now: Option<&PfState>,
) -> Option<RepresentorPlan> {
    let found = now.and_then(|now| now.representors.iter().find(|found| found.port == saved.port));
    let netdev = match found {
        Some(found) => NetdevPlan::Steps(plan_netdev(&saved.netdev, &found.netdev)),
        None => NetdevPlan::OnceThere(Box::new(saved.netdev.clone())),
    };
    let part = Part::Representor { pf: pf.address.clone(), port: saved.port };
    (netdev != NetdevPlan::Steps(Vec::new())).then_some(RepresentorPlan { part, netdev })
}

/// A VF as it is when it has just been created: nothing set, no driver.
fn unprobed(saved: &VfState) -> VfState {
    VfState {
        index: saved.index,
        address: saved.address,
        driver: None,
        driver_override: None,
        admin: saved.admin.as_ref().map(as_created),
        ofed: saved
            .ofed
            .as_ref()
            .map(|ofed| OfedAttributes { rate_group: ofed.rate_group.map(|_| 0), trunk: Vec::new() }),
        netdev: VfNetdev::Unbound,
    }
}

/// The attributes of a VF that nobody has set anything of yet.
fn as_created(saved: &VfAttributes) -> VfAttributes {
    fn unset<T>(setting: &Setting<T>) -> Setting<T> {
        if setting.is_supported() { Setting::NotSet } else { Setting::Unsupported }
    }
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

/// What the PF will be after `steps`, as far as [`plan_finish`] looks at it.
fn after(steps: &[PfStep], saved: &PfState, found: &PfState) -> PfState {
    let mut state = found.clone();
    for step in steps {
        match step {
            PfStep::Autoprobe(value) => state.drivers_autoprobe = Some(*value),
            PfStep::NumVfs(count) => state.num_vfs = *count,
            PfStep::Eswitch(change) => {
                if let (Some(eswitch), EswitchChange::Mode(mode)) = (&mut state.eswitch, change) {
                    eswitch.mode = *mode;
                }
            }
            PfStep::Netdev(step) => {
                if let (Some(netdev), Some(saved)) = (&mut state.netdev, &saved.netdev) {
                    let up = match step {
                        NetdevStep::Link(LinkChange::Up(up)) => *up,
                        _ => netdev.up,
                    };
                    *netdev = NetdevState { up, index: netdev.index, ..saved.clone() };
                }
            }
        }
    }
    if vfs_need_binding(saved, found) && state.drivers_autoprobe == Some(false) {
        state.drivers_autoprobe = Some(true);
    }
    state
}

/// The driver a VF has to be bound to: another than it has, or the same again where only a new probe can help. That
/// is so when there is no netdev, or one that did not take the admin MAC or port GUID: a running VF does not follow
/// them, and one with an admin MAC may not change its own (ixgbe_sriov.c, `ixgbe_set_vf_mac_addr`). Whether the PF was told
/// the right one in the meantime is no matter: a restore that was cut short may have done that.
fn binding_to<'saved>(saved: &'saved VfState, found: &VfState) -> Option<&'saved str> {
    let driver = saved.driver.as_deref()?;
    if found.driver.as_deref() != Some(driver) {
        return Some(driver);
    }
    let VfNetdev::Here(saved_netdev) = &saved.netdev else { return None };
    let VfNetdev::Here(found_netdev) = &found.netdev else { return Some(driver) };
    let (saved_admin, found_admin) = (saved.admin.as_ref()?, found.admin.as_ref()?);
    let by_pf = (saved_admin.mac.as_set().is_some() && found_admin.mac.is_supported())
        || (saved_admin.port_guid.as_set().is_some() && found_admin.port_guid.is_supported());
    (by_pf && !saved_netdev.has_address_of(found_netdev)).then_some(driver)
}

/// The VF's own MAC, where it was another than the admin MAC that was set.
fn own_mac_beside_admin(saved: &VfState) -> Option<nic_netlink::MacAddress> {
    let own = saved.netdev.here()?.address.as_mac()?;
    match saved.admin.as_ref()?.mac {
        Setting::Set(admin) if admin != own => Some(own),
        Setting::Set(_) | Setting::NotSet | Setting::Unsupported => None,
    }
}

/// `None`: nothing to do. `Some(None)`: was not set, and is now. `Some(Some(value))`: to be set.
fn wanted<T: Copy + PartialEq>(saved: &Setting<T>, found: &Setting<T>) -> Option<Option<T>> {
    match (saved, found) {
        (Setting::Unsupported, _) | (_, Setting::Unsupported) => None,
        (saved, found) if saved == found => None,
        (Setting::Set(value), _) => Some(Some(*value)),
        (Setting::NotSet, _) => Some(None),
    }
}

/// The MAC to set. An InfiniBand port's address follows its GUID.
fn new_address(saved: &NetdevState, found: &NetdevState) -> Option<LinkAddress> {
    let settable = saved.link_layer == LinkLayer::Ethernet && saved.address != found.address;
    settable.then(|| saved.address.clone())
}

fn mode_of(pf: &PfState) -> Option<EswitchMode> {
    pf.eswitch.as_ref().map(|eswitch| eswitch.mode)
}

#[cfg(test)]
mod tests;
