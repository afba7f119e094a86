//! Machines of any kind: what could have been set up by an administrator, and by another one instead.

use std::collections::BTreeSet;

use nic_netlink::{
    EncapMode, Eswitch, EswitchMode, Guid, IfIndex, InlineMode, IpoibMode, LinkAddress, LinkLayer, LinkName,
    MacAddress, Setting, VfAttributes, VfLinkState, VlanProtocol, VlanTag,
};
use proptest::prelude::*;

use super::kernel::{
    DATAGRAM_MTU, Kernel, NETWORK_DRIVER, Rules, USER_SPACE_DRIVER, fresh_attributes, pf_name, port,
    representor_name, vf_address, vf_name,
};
use crate::{
    DeviceAddress, NetdevState, NicState, OfedAttributes, PfState, RepresentorState, VfNetdev, VfState,
};

/// The bond that netdevs join. It is there all the time.
const BOND: (IfIndex, &str) = (IfIndex(1), "bond0");

/// What the machine's kernel and its NIC have at all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) rules: Rules,
    pub(super) has_autoprobe: bool,
    pub(super) has_eswitch: bool,
    /// Whether the driver has all attributes.
    pub(super) rich: bool,
}

pub(super) fn any_kind() -> impl Strategy<Value = Kind> {
    let ipoib = prop::bool::weighted(0.3);
    (any::<[bool; 11]>(), prop::bool::weighted(0.6), prop::bool::weighted(0.3), any::<bool>(), ipoib)
        .prop_map(|(rules, has_autoprobe, has_eswitch, rich, ipoib)| {
            let [a, b, c, d, e, f, g, h, i, j, k] = rules;
            let rules = Rules {
                renames_while_up: a,
                addresses_while_up: b,
                own_mac_locked: c,
                rates_need_link: d,
                probes_need_link: e,
                mode_needs_unbound: f,
                link_state_refused: g,
                legacy_only: h,
                udev: i,
                late_netdevs: j,
                udev_altnames: k,
                ipoib,
            };
            Kind { rules, has_autoprobe, has_eswitch, rich }
        })
}

#[derive(Debug, Clone)]
struct NetdevWish {
    /// Whether its name is any, and not the one udev gives.
    renamed: bool,
    altnames: usize,
    mtu: u32,
    flags: [bool; 4],
    in_bond: bool,
    group: u32,
    queue: u32,
    ipoib: (IpoibMode, bool),
}

#[derive(Debug, Clone, Copy)]
enum DriverWish {
    Network,
    Away,
    UserSpace,
    None,
}

#[derive(Debug, Clone)]
struct VfWish {
    driver: DriverWish,
    overridden: bool,
    admin_mac: bool,
    own_mac: bool,
    vlan: Option<(u16, u8, bool)>,
    flags: [bool; 3],
    link_state: VfLinkState,
    rates: (u32, u32),
    guids: (Option<u8>, Option<u8>),
    trunk: Vec<u16>,
    netdev: NetdevWish,
}

#[derive(Debug, Clone)]
struct PfWish {
    autoprobe: bool,
    switchdev: bool,
    inline: bool,
    own_mac: bool,
    netdev: NetdevWish,
    ports: Vec<NetdevWish>,
    vfs: Vec<VfWish>,
}

/// Whether interfaces have names of the user's own, which can be one another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Udevs,
    Any,
}

prop_compose! {
    fn any_netdev()(
        renamed in prop::bool::weighted(0.4),
        altnames in 0..3usize,
        mtu in prop_oneof![Just(1500), 68..9000u32],
        flags in any::<[bool; 4]>(),
        in_bond in prop::bool::weighted(0.2),
        group in 0..2u32,
        queue in prop_oneof![Just(1000), Just(500)],
        ipoib in (prop_oneof![Just(IpoibMode::Datagram), Just(IpoibMode::Connected)], any::<bool>()),
    ) -> NetdevWish {
        NetdevWish { renamed, altnames, mtu, flags, in_bond, group, queue, ipoib }
    }
}

prop_compose! {
    fn any_vf()(
        driver in prop_oneof![
            4 => Just(DriverWish::Network),
            1 => Just(DriverWish::Away),
            1 => Just(DriverWish::UserSpace),
            1 => Just(DriverWish::None),
        ],
        overridden in any::<bool>(),
        macs in (prop::bool::weighted(0.7), any::<bool>()),
        vlan in prop::option::of((1..4095u16, 0..8u8, any::<bool>())),
        flags in any::<[bool; 3]>(),
        link_state in prop_oneof![Just(VfLinkState::Auto), Just(VfLinkState::Enable), Just(VfLinkState::Disable)],
        rates in prop_oneof![Just((0, 0)), (0..2u32, 0..900u32)],
        guids in (prop::option::of(1..9u8), prop::option::of(1..9u8)),
        trunk in prop_oneof![Just(Vec::new()), Just(vec![10, 11, 40])],
        netdev in any_netdev(),
    ) -> VfWish {
        let (admin_mac, own_mac) = macs;
        VfWish { driver, overridden, admin_mac, own_mac, vlan, flags, link_state, rates, guids, trunk, netdev }
    }
}

prop_compose! {
    fn any_pf()(
        flags in any::<[bool; 4]>(),
        netdev in any_netdev(),
        ports in prop::collection::vec(any_netdev(), 3),
        vfs in prop::collection::vec(any_vf(), 0..4),
    ) -> PfWish {
        let [autoprobe, switchdev, inline, own_mac] = flags;
        PfWish { autoprobe, switchdev, inline, own_mac, netdev, ports, vfs }
    }
}

/// A machine of this kind with so many PFs, whatever is set on it.
pub(super) fn any_machine(kind: Kind, pfs: usize, names: Names) -> impl Strategy<Value = Kernel> {
    (prop::collection::vec(any_pf(), pfs), any::<u64>())
        .prop_map(move |(wishes, seed)| assemble(kind, &wishes, names, seed))
}

fn assemble(kind: Kind, wishes: &[PfWish], names: Names, seed: u64) -> Kernel {
    let fresh = fresh_attributes(kind.rich);
    let pfs = wishes.iter().enumerate().map(|(pf, wish)| pf_state(kind, pf, wish, &fresh)).collect();
    let mut state = NicState { pfs, ..NicState::default() };
    let keeps_names = kind.rules.udev && kind.rules.udev_altnames;
    name_all(&mut state, wishes, names, keeps_names, seed);
    if kind.rich {
        name_rdma(&mut state);
    }
    let mut machine = Kernel::new(kind.rules, state, vec![fresh; wishes.len()]);
    machine.strangers.insert(BOND.0, BOND.1.parse().unwrap());
    machine
}

fn pf_state(kind: Kind, pf: usize, wish: &PfWish, fresh: &VfAttributes) -> PfState {
    let number = u8::try_from(pf).unwrap();
    let permanent = [2, 0xff, 0, 0, 0, number];
    let address = if wish.own_mac { [2, 0xaa, 0, 0, 0, number] } else { permanent };
    let uplink = netdev(kind, &wish.netdev, address, u32::MAX);
    let switchdev = kind.has_eswitch && wish.switchdev;
    let eswitch = Eswitch {
        mode: if switchdev { EswitchMode::Switchdev } else { EswitchMode::Legacy },
        inline_mode: Some(if wish.inline { InlineMode::Link } else { InlineMode::None }),
        encap_mode: Some(EncapMode::Basic),
    };
    let vfs: Vec<VfState> =
        (0..).zip(&wish.vfs).map(|(index, vf)| vf_state(kind, pf, index, vf, uplink.mtu, fresh)).collect();
    let ports = (0..).zip(&vfs).zip(&wish.ports).filter(|_| switchdev);
    let representors = ports
        .map(|((vf, _), wish)| {
            let address = [2, 0xbb, 0, 0, number, u8::try_from(vf).unwrap()];
            RepresentorState {
                port: port(pf, vf),
                switch_id: None,
                address_is_random: false,
                netdev: netdev(kind, wish, address, u32::MAX),
            }
        })
        .collect();
    PfState {
        pci_id: None,
        address: DeviceAddress::new("pci", &format!("0000:{:02x}:00.0", pf + 1)).unwrap(),
        driver: Some("pfdrv".to_owned()),
        total_vfs: Some(7),
        num_vfs: u32::try_from(vfs.len()).unwrap(),
        drivers_autoprobe: kind.has_autoprobe.then_some(wish.autoprobe),
        eswitch: if kind.has_eswitch { Setting::Set(eswitch) } else { Setting::NotThere },
        netdev: Setting::Set(uplink),
        rdma: Setting::NotThere,
        vfs,
        representors,
    }
}

fn vf_state(kind: Kind, pf: usize, index: u32, wish: &VfWish, pf_mtu: u32, fresh: &VfAttributes) -> VfState {
    let mac = |kind: u8| MacAddress([2, kind, 0, 0, u8::try_from(pf).unwrap(), u8::try_from(index).unwrap()]);
    let admin_mac = if wish.admin_mac { Setting::Set(mac(1)) } else { Setting::NotSet };
    let own = if wish.own_mac || !wish.admin_mac { mac(2) } else { mac(1) };
    let set =
        |fresh: &Setting<bool>, value| if fresh.is_there() { Setting::Set(value) } else { fresh.clone() };
    let guid = |fresh: &Setting<Guid>, byte: Option<u8>| match byte {
        Some(byte) if fresh.is_there() => Setting::Set(Guid([byte; 8])),
        _ => fresh.clone(),
    };
    let rate = |rate: u32| if rate == 0 { Setting::NotSet } else { Setting::Set(rate) };
    let vlan = wish.vlan.map(|(id, qos, provider)| VlanTag {
        id,
        qos,
        protocol: if provider { VlanProtocol::Ieee8021Ad } else { VlanProtocol::Ieee8021Q },
    });
    let (driver, state) = match wish.driver {
        DriverWish::Network => {
            (Some(NETWORK_DRIVER), VfNetdev::Here(netdev(kind, &wish.netdev, own.0, pf_mtu)))
        }
        DriverWish::Away => (Some(NETWORK_DRIVER), VfNetdev::NotVisible),
        DriverWish::UserSpace => (Some(USER_SPACE_DRIVER), VfNetdev::OtherDriver),
        DriverWish::None => (None, VfNetdev::Unbound),
    };
    let trunk = match (kind.rich, wish.trunk.is_empty()) {
        (false, _) => Setting::NotThere,
        (true, true) => Setting::NotSet,
        (true, false) => Setting::Set(wish.trunk.clone()),
    };
    VfState {
        index,
        address: Some(vf_address(pf, index)),
        driver: driver.map(str::to_owned),
        driver_override: driver.filter(|_| wish.overridden).map(str::to_owned),
        admin: Setting::Set(VfAttributes {
            index,
            mac: admin_mac,
            vlan: vlan.map_or(Setting::NotSet, Setting::Set),
            spoof_check: set(&fresh.spoof_check, wish.flags[0]),
            trust: set(&fresh.trust, wish.flags[1]),
            query_rss: set(&fresh.query_rss, wish.flags[2]),
            link_state: wish.link_state,
            min_tx_rate: rate(wish.rates.0),
            max_tx_rate: rate(wish.rates.1),
            node_guid: guid(&fresh.node_guid, wish.guids.0),
            port_guid: guid(&fresh.port_guid, wish.guids.1),
            ..VfAttributes::new(index)
        }),
        ofed: OfedAttributes { trunk, rate_group: Setting::NotThere },
        rdma: Setting::NotThere,
        netdev: state,
    }
}

/// Gives each device with its network driver an RDMA device. They were named in another order than a driver does it that is loaded.
fn name_rdma(state: &mut NicState) {
    fn of_pf(pf: &mut PfState) -> Vec<&mut Setting<Vec<String>>> {
        let vfs = pf.vfs.iter_mut().filter(|vf| vf.driver.as_deref() == Some(NETWORK_DRIVER));
        std::iter::once(&mut pf.rdma).chain(vfs.map(|vf| &mut vf.rdma)).collect()
    }
    let all: Vec<&mut Setting<Vec<String>>> = state.pfs.iter_mut().flat_map(of_pf).collect();
    for (number, rdma) in all.into_iter().rev().enumerate() {
        *rdma = Setting::Set(vec![format!("mlx5_{number}")]);
    }
}

fn netdev(kind: Kind, wish: &NetdevWish, address: [u8; 6], limit: u32) -> NetdevState {
    let (mode, user_multicast) = wish.ipoib;
    let limit = if kind.rules.ipoib && mode == IpoibMode::Datagram { limit.min(DATAGRAM_MTU) } else { limit };
    let [up, promiscuous, all_multicast, described] = wish.flags;
    NetdevState {
        index: IfIndex(0),
        name: "unnamed".parse().unwrap(),
        altnames: Vec::new(),
        link_layer: LinkLayer::Ethernet,
        address: LinkAddress(address.to_vec()),
        address_as_port: wish.in_bond.then(|| LinkAddress(address.to_vec())),
        mtu: wish.mtu.min(limit),
        up,
        tx_queue_length: wish.queue,
        alias: described.then(|| "described".to_owned()),
        group: wish.group,
        promiscuous,
        all_multicast,
        master: wish.in_bond.then(|| BOND.1.parse().unwrap()),
        ipoib_mode: if kind.rules.ipoib { Setting::Set(mode) } else { Setting::NotThere },
        user_multicast: if kind.rules.ipoib { Setting::Set(user_multicast) } else { Setting::NotThere },
    }
}

/// Gives every netdev an index and names, no two the same. Names of the user's own may be those that udev gives to
/// others, the kernel's, or new.
fn name_all(state: &mut NicState, wishes: &[PfWish], names: Names, keeps_names: bool, mut seed: u64) {
    let mut slots: Vec<(&mut NetdevState, &NetdevWish, LinkName)> = Vec::new();
    for (pf, (state, wish)) in state.pfs.iter_mut().zip(wishes).enumerate() {
        slots.extend(state.netdev.as_set_mut().into_iter().map(|netdev| (netdev, &wish.netdev, pf_name(pf))));
        for (vf, wish) in state.vfs.iter_mut().zip(&wish.vfs) {
            if let VfNetdev::Here(netdev) = &mut vf.netdev {
                slots.push((netdev, &wish.netdev, vf_name(pf, vf.index)));
            }
        }
        for (vf, (port, wish)) in (0..).zip(state.representors.iter_mut().zip(&wish.ports)) {
            slots.push((&mut port.netdev, wish, representor_name(pf, vf)));
        }
    }
    let renamed = |wish: &NetdevWish| wish.renamed && names == Names::Any;
    let given = slots.iter().filter(|(_, wish, _)| renamed(wish)).map(|(_, _, name)| name.to_string());
    let mut pool: Vec<String> = given.collect();
    if names == Names::Any {
        pool.extend(["eth0", "eth1", "eth2"].map(str::to_owned));
    }
    pool.extend((0..12).map(|number| format!("user{number}")));
    // What comes first is taken first; the pool stays larger than what is asked of it.
    let mut draw = |pool: &mut Vec<String>| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let preferred = pool.len().min(8);
        pool.swap_remove(usize::try_from(seed >> 33).unwrap() % preferred)
    };
    for (index, (netdev, wish, default)) in (2..).zip(&mut slots) {
        netdev.index = IfIndex(index);
        netdev.name = if renamed(wish) { draw(&mut pool).parse().unwrap() } else { default.clone() };
    }
    for (netdev, wish, _) in &mut slots {
        for _ in 0..wish.altnames.min(pool.len().saturating_sub(1)) {
            netdev.altnames.push(draw(&mut pool));
        }
        netdev.altnames.sort_unstable();
    }
    // Where udev gives the old name of a renamed interface back, it has done so, unless another has it.
    let all = |slots: &[(&mut NetdevState, &NetdevWish, LinkName)]| -> BTreeSet<String> {
        let of = |netdev: &NetdevState| [netdev.altnames.clone(), vec![netdev.name.to_string()]].concat();
        slots.iter().flat_map(|(netdev, ..)| of(netdev)).collect()
    };
    for at in (0..slots.len()).filter(|_| keeps_names) {
        let taken = all(&slots);
        let (netdev, _, default) = &mut slots[at];
        if !taken.contains(default.as_str()) {
            netdev.altnames.push(default.to_string());
            netdev.altnames.sort_unstable();
        }
    }
}
