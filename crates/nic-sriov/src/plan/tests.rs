use insta::assert_snapshot;
use nic_netlink::{
    EncapMode, Eswitch, EswitchMode, Guid, IfIndex, InlineMode, IpoibMode, Link, LinkAddress, LinkLayer,
    Links, MacAddress, Setting, VfAttributes, VfLinkState, VlanProtocol, VlanTag,
};
use proptest::prelude::*;

mod bonds;

use super::*;
use crate::{
    DeviceUser, Gravity, OfedAttributes, PciAddress, PciId, RepresentorState, Usage, VfNetdev, VfState,
};

fn mac(last: u8) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, last])
}

fn netdev(index: u32, name: &str, last: u8) -> NetdevState {
    let link = Link {
        address: mac(last).into(),
        mtu: 1500,
        up: true,
        tx_queue_length: 1000,
        ..Link::new(IfIndex(index), name.parse().unwrap())
    };
    NetdevState::of(&link, &Links::default())
}

fn vf(index: u32) -> VfState {
    let last = u8::try_from(index + 1).unwrap();
    VfState {
        index,
        address: Some(PciAddress { domain: 0, bus: 1, device: 0x10, function: u8::try_from(index).unwrap() }),
        driver: Some("igbvf".into()),
        driver_override: None,
        admin: Setting::Set(VfAttributes {
            mac: Setting::Set(mac(last)),
            vlan: Setting::NotSet,
            spoof_check: Setting::Set(true),
            trust: Setting::Set(false),
            max_tx_rate: Setting::NotSet,
            min_tx_rate: Setting::NotSet,
            ..VfAttributes::new(index)
        }),
        ofed: OfedAttributes::default(),
        rdma: Setting::Set(vec![format!("mlx5_{}", index + 2)]),
        netdev: VfNetdev::Here(netdev(10 + index, &format!("enp1s0v{index}"), last)),
    }
}

fn pf(vfs: Vec<VfState>) -> PfState {
    PfState {
        address: "0000:01:00.0".parse().unwrap(),
        pci_id: Some(PciId("8086:10c9".into())),
        driver: Some("igb".into()),
        total_vfs: Some(7),
        num_vfs: u32::try_from(vfs.len()).unwrap(),
        drivers_autoprobe: Some(true),
        eswitch: Setting::NotThere,
        rdma: Setting::Set(vec!["mlx5_0".to_owned()]),
        netdev: Setting::Set(netdev(2, "enp1s0", 200)),
        vfs,
        representors: Vec::new(),
    }
}

fn state(pf: PfState) -> NicState {
    NicState { pfs: vec![pf], ..NicState::default() }
}

/// The PF right after its driver was loaded.
fn reloaded(saved: &PfState) -> PfState {
    let mut found = saved.clone();
    found.num_vfs = 0;
    found.vfs.clear();
    found.representors.clear();
    let netdev = found.netdev.as_set_mut().unwrap();
    netdev.up = false;
    netdev.index = IfIndex(40);
    found
}

fn admin(vf: &mut VfState) -> &mut VfAttributes {
    vf.admin.as_set_mut().unwrap()
}

fn here(vf: &mut VfState) -> &mut NetdevState {
    match &mut vf.netdev {
        VfNetdev::Here(netdev) => netdev,
        other => panic!("no netdev: {other:?}"),
    }
}

#[test]
fn after_a_reload_everything_is_planned_in_the_kernels_order() {
    let mut saved = pf(vec![vf(0), vf(1), vf(2), vf(3)]);
    saved.netdev.as_set_mut().unwrap().mtu = 9000;
    admin(&mut saved.vfs[0]).vlan =
        Setting::Set(VlanTag { id: 100, qos: 3, protocol: VlanProtocol::Ieee8021Q });
    admin(&mut saved.vfs[0]).max_tx_rate = Setting::Set(100);
    // Its own MAC is another than its admin MAC.
    admin(&mut saved.vfs[1]).mac = Setting::Set(mac(77));
    saved.vfs[2].driver = Some("vfio-pci".into());
    saved.vfs[2].driver_override = Some("vfio-pci".into());
    saved.vfs[2].netdev = VfNetdev::OtherDriver;
    saved.vfs[3].driver = None;
    saved.vfs[3].netdev = VfNetdev::Unbound;
    let found = reloaded(&saved);
    assert_snapshot!(plan_restore(&state(saved), &state(found), &DeviceUsers::new()));
}

#[test]
fn switchdev_is_entered_with_all_vfs_there_and_before_they_are_bound() {
    let mut saved = pf(vec![vf(0), vf(1)]);
    let eswitch = |mode| Setting::Set(Eswitch { mode, inline_mode: None, encap_mode: None });
    saved.eswitch = eswitch(EswitchMode::Switchdev);
    saved.representors = vec![RepresentorState {
        port: "pf0vf0".parse().unwrap(),
        switch_id: None,
        address_is_random: false,
        netdev: netdev(30, "rep0", 99),
    }];
    let mut found = reloaded(&saved);
    found.eswitch = eswitch(EswitchMode::Legacy);
    assert_snapshot!(plan_restore(&state(saved.clone()), &state(found), &DeviceUsers::new()));

    // The mode alone is lost: VFs that are bound must not see it change.
    let mut found = saved.clone();
    found.eswitch = eswitch(EswitchMode::Legacy);
    found.representors.clear();
    assert!(plan_prepare(&saved, &found).is_empty());
    assert_eq!(plan_eswitch(&saved, &found), [PfStep::Eswitch(EswitchChange::Mode(EswitchMode::Switchdev))]);
    assert_eq!(vfs_to_unbind(&saved, &found).len(), 2);
}

#[test]
fn what_only_legacy_mode_takes_leads_through_it_once() {
    let mut saved = pf(vec![vf(0), vf(1)]);
    saved.eswitch =
        Setting::Set(Eswitch { mode: EswitchMode::Switchdev, inline_mode: None, encap_mode: None });
    let tag = VlanTag { id: 7, qos: 0, protocol: VlanProtocol::Ieee8021Q };
    admin(&mut saved.vfs[1]).vlan = Setting::Set(tag);
    let mut found = saved.clone();
    admin(&mut found.vfs[1]).vlan = Setting::NotSet;
    let legacy = PfStep::Eswitch(EswitchChange::Mode(EswitchMode::Legacy));
    assert!(plan_prepare(&saved, &found).contains(&legacy));
    assert_eq!(vfs_to_unbind(&saved, &found).len(), 2);
    assert!(is_refused_by_mode(&found, &VfChange::Vlan(tag)));

    // What both modes take does not.
    let mut found = saved.clone();
    admin(&mut found.vfs[1]).link_state = VfLinkState::Disable;
    assert_eq!((plan_prepare(&saved, &found), vfs_to_unbind(&saved, &found).len()), (Vec::new(), 0));

    // Nor does anything when a VF works in another namespace, as it did.
    admin(&mut found.vfs[1]).vlan = Setting::NotSet;
    saved.vfs[0].netdev = VfNetdev::NotVisible;
    found.vfs[0].netdev = VfNetdev::NotVisible;
    assert!(!plan_prepare(&saved, &found).contains(&legacy));
}

#[test]
fn a_vf_that_somebody_uses_in_another_namespace_is_left_alone() {
    let saved = pf(vec![vf(0), vf(1)]);
    let mut found = saved.clone();
    let used = &mut found.vfs[0];
    used.netdev = VfNetdev::InNamespace;
    // As a container's network plugin does.
    admin(used).mac = Setting::Set(MacAddress([2, 0, 0, 0, 0, 9]));
    admin(used).vlan = Setting::Set(VlanTag { id: 7, qos: 0, protocol: VlanProtocol::Ieee8021Q });
    let plan = plan_restore(&state(saved.clone()), &state(found.clone()), &DeviceUsers::new());
    assert!(plan.is_empty(), "{plan}");
    assert!(!vfs_need_binding(&saved, &found));
    let differences = compare(&state(saved.clone()), &state(found.clone()));
    assert_eq!(differences.len(), 3, "{differences:?}");
    assert!(
        differences.iter().all(|difference| difference.gravity == Gravity::CannotRestore),
        "{differences:?}"
    );

    // Where the kernel does not say so, the netdev may have failed to appear: a new probe can help.
    found.vfs[0].netdev = VfNetdev::NotVisible;
    assert!(vfs_need_binding(&saved, &found));
}

#[test]
fn a_random_address_of_a_representor_is_not_given_back() {
    let mut saved = RepresentorState {
        port: "pf0vf0".parse().unwrap(),
        switch_id: None,
        address_is_random: true,
        netdev: netdev(30, "rep0", 1),
    };
    let found = netdev(40, "rep0", 2);
    assert!(plan_netdev(&saved.netdev_for(&found), &found).is_empty());
    saved.address_is_random = false;
    assert!(!plan_netdev(&saved.netdev_for(&found), &found).is_empty());
}

#[test]
fn a_wrong_count_goes_through_zero_and_a_right_one_is_never_written() {
    let saved = pf(vec![vf(0), vf(1)]);
    let mut found = saved.clone();
    found.vfs.push(vf(2));
    found.num_vfs = 3;
    let steps = plan_prepare(&saved, &found);
    assert_eq!(steps, [PfStep::NumVfs(0), PfStep::Autoprobe(false), PfStep::NumVfs(2)]);
    assert!(plan_prepare(&saved, &saved).is_empty());
}

#[test]
fn without_autoprobe_vfs_are_bound_again_only_where_the_admin_mac_came_too_late() {
    let mut saved = pf(vec![vf(0), vf(1)]);
    saved.drivers_autoprobe = None;
    let mut found = saved.clone();
    // Both probed before their attributes were set. The second has by chance the MAC it should have.
    for vf in &mut found.vfs {
        admin(vf).mac = Setting::NotSet;
    }
    here(&mut found.vfs[0]).address = LinkAddress(mac(250).0.to_vec());
    assert!(!plan_prepare(&saved, &found).iter().any(|step| matches!(step, PfStep::Autoprobe(_))));
    let rebind = [BindStep::Unbind("igbvf".into()), BindStep::Bind("igbvf".into())];
    assert_eq!(plan_binding(&saved.vfs[0], &found.vfs[0]), rebind);
    assert_eq!(plan_binding(&saved.vfs[1], &found.vfs[1]), []);
    assert_eq!(plan_admin_before(&saved.vfs[1], &found.vfs[1]), [VfChange::Mac(mac(2))]);
}

#[test]
fn a_pf_that_was_down_is_up_while_its_vfs_probe() {
    let mut saved = pf(vec![vf(0)]);
    saved.netdev.as_set_mut().unwrap().up = false;
    let found = reloaded(&saved);
    let up = |up| PfStep::Netdev(NetdevStep::Link(LinkChange::Up(up)));
    assert!(plan_prepare(&saved, &found).contains(&up(true)));
    let mut prepared = saved.clone();
    prepared.netdev.as_set_mut().unwrap().up = true;
    assert_eq!(plan_finish(&saved, &prepared), [up(false)]);
}

#[test]
fn a_netdev_is_down_for_what_needs_it_and_up_last() {
    let mut saved = netdev(5, "mine", 1);
    saved.altnames = vec!["eth0".into()];
    saved.mtu = 1400;
    saved.master = Some("bond0".parse().unwrap());
    let mut found = netdev(9, "eth0", 9);
    found.altnames = vec!["mine".into()];
    let steps: Vec<String> = plan_netdev(&saved, &found).iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "down",
            "removal of the additional name \"mine\"",
            "name mine",
            "additional name \"eth0\"",
            "address 02:00:00:00:00:01",
            "mtu 1400",
            "master bond0",
            "up",
        ]
    );
    // What needs no link that is down does not get one.
    let mut found = saved.clone();
    found.mtu = 1500;
    assert_eq!(plan_netdev(&saved, &found), [NetdevStep::Link(LinkChange::Mtu(1400))]);
}

#[test]
fn guids_are_each_their_own_and_never_zeroed() {
    let (mut saved, mut found) = (vf(0), vf(0));
    admin(&mut saved).node_guid = Setting::Set(Guid([1; 8]));
    admin(&mut saved).port_guid = Setting::Set(Guid([2; 8]));
    admin(&mut found).node_guid = Setting::NotSet;
    admin(&mut found).port_guid = Setting::NotSet;
    let expected = [VfChange::NodeGuid(Guid([1; 8])), VfChange::PortGuid(Guid([2; 8]))];
    assert_eq!(plan_admin_before(&saved, &found), expected);
    assert_eq!(plan_admin_before(&found, &saved), [], "a GUID that was not set is left alone");
}

#[test]
fn an_infiniband_address_is_not_set() {
    let (mut saved, mut found) = (netdev(5, "ib0", 1), netdev(5, "ib0", 2));
    saved.link_layer = LinkLayer::InfiniBand;
    found.link_layer = LinkLayer::InfiniBand;
    assert_eq!(plan_netdev(&saved, &found), []);
}

#[test]
fn what_the_driver_does_not_have_is_not_asked_for() {
    let (mut saved, mut found) = (vf(0), vf(0));
    admin(&mut saved).trust = Setting::Set(true);
    admin(&mut found).trust = Setting::NotThere;
    assert_eq!(plan_admin_before(&saved, &found), []);
    assert_eq!(plan_admin_before(&found, &saved), []);
}

#[test]
fn obstacles_name_the_pf() {
    let saved = pf(vec![vf(0), vf(1)]);
    let mut found = reloaded(&saved);
    found.total_vfs = Some(1);
    let text = |found: &NicState| {
        obstacles(&state(saved.clone()), found).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(
        text(&state(found.clone())).contains("0000:01:00.0 had 2 VFs"),
        "{}",
        text(&state(found.clone()))
    );
    found.total_vfs = None;
    assert!(text(&state(found.clone())).contains("no SR-IOV"));
    found.driver = None;
    assert!(text(&state(found)).contains("it has no driver"));
    assert!(text(&NicState::default()).contains("the device is gone"));
    assert_eq!(text(&state(saved.clone())), "");
}

fn any_setting<T: Clone + std::fmt::Debug + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Setting<T>> {
    prop_oneof![Just(Setting::NotThere), Just(Setting::NotSet), value.prop_map(Setting::Set)].boxed()
}

/// What is on or off is never "not set" (`decode_vf` in nic-netlink).
fn any_switch() -> impl Strategy<Value = Setting<bool>> {
    prop_oneof![Just(Setting::NotThere), any::<bool>().prop_map(Setting::Set)]
}

prop_compose! {
    fn any_netdev()(
        name in "[a-z]{1,15}",
        altnames in prop::collection::btree_set("[A-Z]{1,20}", 0..3),
        last in 0..9u8,
        mtu in 68..9000u32,
        flags in any::<(bool, bool, bool)>(),
        master in prop::option::of("[a-z]{3,8}"),
        alias in prop::option::of("[a-z ]{1,9}"),
        ipoib in prop::option::of((any::<bool>(), any::<bool>())),
    ) -> NetdevState {
        let mode = |connected| if connected { IpoibMode::Connected } else { IpoibMode::Datagram };
        NetdevState {
            ipoib_mode: ipoib.map_or(Setting::NotThere, |(connected, _)| Setting::Set(mode(connected))),
            user_multicast: ipoib.map_or(Setting::NotThere, |(_, user)| Setting::Set(user)),
            altnames: altnames.into_iter().collect(),
            mtu,
            up: flags.0,
            promiscuous: flags.1,
            all_multicast: flags.2,
            alias,
            master: master.map(|name| name.parse().unwrap()),
            ..netdev(7, &name, last)
        }
    }
}

prop_compose! {
    fn any_vf(index: u32)(
        driver in prop_oneof![Just(None), Just(Some("igbvf".to_owned())), Just(Some("vfio-pci".to_owned()))],
        netdev in any_netdev(),
        away in prop::bool::weighted(0.2),
        admin_mac in any_setting((0..9u8).prop_map(mac)),
        vlan in any_setting((1..4095u16, 0..8u8).prop_map(|(id, qos)| VlanTag { id, qos, ..VlanTag::NONE })),
        bools in (any_switch(), any_switch(), any_switch()),
        rates in (any_setting(1..999u32), any_setting(1..999u32)),
        link_state in prop_oneof![Just(VfLinkState::Auto), Just(VfLinkState::Enable), Just(VfLinkState::Disable)],
        overridden in any::<bool>(),
        ofed in (any_setting(Just(vec![7_u16, 8])), any_setting(1..9u32)),
    ) -> VfState {
        let netdev = match driver.as_deref() {
            None => VfNetdev::Unbound,
            Some("igbvf") if away => VfNetdev::NotVisible,
            Some("igbvf") => VfNetdev::Here(netdev),
            Some(_) => VfNetdev::OtherDriver,
        };
        VfState {
            driver_override: driver.clone().filter(|_| overridden),
            driver,
            admin: Setting::Set(VfAttributes {
                mac: admin_mac,
                vlan,
                spoof_check: bools.0,
                trust: bools.1,
                query_rss: bools.2,
                min_tx_rate: rates.0,
                max_tx_rate: rates.1,
                link_state,
                ..VfAttributes::new(index)
            }),
            ofed: OfedAttributes { trunk: ofed.0, rate_group: ofed.1 },
            netdev,
            ..vf(index)
        }
    }
}

prop_compose! {
    fn any_pf()(vfs in (0..4u32).prop_flat_map(|count| (0..count).map(any_vf).collect::<Vec<_>>()), autoprobe in prop::option::of(any::<bool>()), eswitch in any_eswitch()) -> PfState {
        PfState { drivers_autoprobe: autoprobe, eswitch: Setting::Set(eswitch), ..pf(vfs) }
    }
}

fn any_eswitch() -> impl Strategy<Value = Eswitch> {
    any::<(bool, bool, bool)>().prop_map(|(switchdev, link, basic)| Eswitch {
        mode: if switchdev { EswitchMode::Switchdev } else { EswitchMode::Legacy },
        inline_mode: Some(if link { InlineMode::Link } else { InlineMode::None }),
        encap_mode: Some(if basic { EncapMode::Basic } else { EncapMode::None }),
    })
}

/// The places of all settings in a state's JSON.
fn settings(value: &serde_json::Value, at: &str, found: &mut Vec<String>) {
    use serde_json::Value;
    match value {
        Value::String(text) if text == "not_there" || text == "not_set" => found.push(at.to_owned()),
        Value::Object(fields) => {
            if fields.contains_key("set") {
                found.push(at.to_owned());
            }
            fields.iter().for_each(|(key, value)| settings(value, &format!("{at}/{key}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(key, value)| settings(value, &format!("{at}/{key}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The same state, in which one value is not known.
fn without(state: &NicState, which: prop::sample::Index) -> (String, NicState) {
    let mut value = serde_json::to_value(state).unwrap();
    let mut places = Vec::new();
    settings(&value, "", &mut places);
    let place = which.get(&places).clone();
    *value.pointer_mut(&place).unwrap() = serde_json::json!({"not_known": {"why": "it hangs"}});
    (place, serde_json::from_value(value).unwrap())
}

proptest! {
    #[test]
    fn whatever_is_not_known_is_never_equal(pf in any_pf(), which: prop::sample::Index) {
        let state = state(pf);
        let (place, unknown) = without(&state, which);
        prop_assert_eq!(unknown.not_known().len(), 1, "{}", place);
        for (saved, found) in [(&state, &unknown), (&unknown, &state), (&unknown, &unknown)] {
            let differences = compare(saved, found);
            prop_assert!(differences.iter().any(Difference::is_wrong), "{}: {:?}", place, differences);
        }
        // Where that was taken into account before it was saved, it is said, and no fault.
        let accepted = unknown.clone().accepting_not_known();
        prop_assert!(accepted.not_known().is_empty());
        let differences = compare(&accepted, &state);
        prop_assert!(!differences.is_empty(), "{}", place);
        prop_assert!(!differences.iter().any(Difference::is_wrong), "{}: {:?}", place, differences);
    }

    #[test]
    fn nothing_is_planned_for_what_already_is(pf in any_pf()) {
        let state = state(pf);
        let plan = plan_restore(&state, &state, &DeviceUsers::new());
        prop_assert!(plan.is_empty(), "{plan}");
        prop_assert!(compare(&state, &state).is_empty());
    }

    #[test]
    fn whatever_differs_wrongly_is_planned_for(saved in any_pf(), found in any_pf()) {
        let (saved, found) = (state(saved), state(found));
        let wrong = compare(&saved, &found).into_iter().any(|difference| {
            // What only a new probe in another namespace could bring, or a driver that cannot tell, has no step.
            difference.gravity == Gravity::Wrong
        });
        prop_assert!(!wrong || !plan_restore(&saved, &found, &DeviceUsers::new()).is_empty());
    }

    #[test]
    fn a_netdevs_steps_lead_to_what_was_saved(saved in any_netdev(), mut found in any_netdev()) {
        // Both are of the same link layer.
        if saved.ipoib_mode.is_there() != found.ipoib_mode.is_there() {
            found.ipoib_mode.clone_from(&saved.ipoib_mode);
            found.user_multicast.clone_from(&saved.user_multicast);
        }
        let mut model = found.clone();
        for step in plan_netdev(&saved, &found) {
            match step {
                NetdevStep::Master(master) => model.master = master,
                NetdevStep::Link(change) => match change {
                    LinkChange::Name(name) => {
                        prop_assert!(!model.up, "renamed while up");
                        prop_assert!(!model.altnames.contains(&name.to_string()), "its own alternative name");
                        model.name = name;
                    }
                    LinkChange::Address(address) => {
                        prop_assert!(!model.up, "address changed while up");
                        model.address = address;
                    }
                    LinkChange::Up(up) => model.up = up,
                    LinkChange::Mtu(mtu) => model.mtu = mtu,
                    LinkChange::IpoibMode(mode) => {
                        model.ipoib_mode = Setting::Set(mode);
                        model.mtu = if mode == IpoibMode::Connected { 65520 } else { model.mtu.min(2044) };
                    }
                    LinkChange::UserMulticast(wanted) => model.user_multicast = Setting::Set(wanted),
                    LinkChange::TxQueueLength(length) => model.tx_queue_length = length,
                    LinkChange::Alias(alias) => model.alias = Some(alias).filter(|alias| !alias.is_empty()),
                    LinkChange::Group(group) => model.group = group,
                    LinkChange::Promiscuous(on) => model.promiscuous = on,
                    LinkChange::AllMulticast(on) => model.all_multicast = on,
                    LinkChange::AddAltName(name) => model.altnames.push(name),
                    LinkChange::RemoveAltName(name) => model.altnames.retain(|altname| *altname != name),
                    other @ (LinkChange::Master(_) | LinkChange::NamespaceOfPid(_)) => {
                        prop_assert!(false, "{other} is not planned");
                    }
                },
            }
        }
        model.altnames.sort_unstable();
        prop_assert_eq!(format!("{model:?}"), format!("{saved:?}"));
    }
}

#[test]
fn another_card_in_the_slot_is_another_pf() {
    let saved = state(pf(vec![vf(0)]));
    let mut found = saved.clone();
    assert_eq!(obstacles(&saved, &found), []);
    found.pfs[0].pci_id = Some(PciId("8086:1521".into()));
    let named = obstacles(&saved, &found);
    assert!(matches!(&named[..], [RestoreObstacle::OtherCard { .. }]), "{named:?}");
    assert!(named[0].to_string().contains("8086:1521"), "{}", named[0]);
}

/// A bond's port, with its own address and the one that it has of the bond.
fn port(own: u8, as_port: u8) -> NetdevState {
    let bond = Link::new(IfIndex(50), "bond0".parse().unwrap());
    let link = Link {
        address: mac(as_port).into(),
        own_address: Some(mac(own).into()),
        master: Some(bond.index),
        up: true,
        ..Link::new(IfIndex(2), "enp1s0".parse().unwrap())
    };
    NetdevState::of(&link, &[bond].into_iter().collect())
}

#[test]
fn fault_6_3_a_port_joins_its_bond_with_its_own_address() {
    fn words(saved: &NetdevState, found: &NetdevState) -> Vec<String> {
        plan_netdev(saved, found).iter().map(ToString::to_string).collect()
    }
    let saved = port(7, 1);
    let alone = NetdevState { master: None, address_as_port: None, up: false, ..port(3, 3) };
    let set = format!("address {}", LinkAddress::from(mac(7)));
    let steps = words(&saved, &alone);
    let position = |text: &str| steps.iter().position(|step| step.contains(text));
    assert!(position(&set).is_some() && position(&set) < position("bond0"), "{steps:?}");
    // Whose the rest of the bond is does not matter.
    assert!(words(&saved, &port(7, 9)).is_empty());
    // A manager was first, and the bond has the address of the card for the port's own.
    let steps = words(&saved, &port(3, 1));
    assert_eq!(steps.len(), 5, "{steps:?}");
    assert!(saved.has_address_of(&port(7, 9)) && !saved.has_address_of(&port(3, 1)));
}

#[test]
fn all_that_stands_in_the_way_is_told_and_the_other_pf_is_planned_for() {
    let mut saved = state(pf(vec![vf(0), vf(1)]));
    let other = PfState { address: "0000:02:00.0".parse().unwrap(), ..pf(Vec::new()) };
    saved.pfs.push(other);
    let mut found = saved.clone();
    // One VF too many: all of them would be removed.
    found.pfs[0].vfs.push(vf(2));
    found.pfs[0].num_vfs = 3;
    found.pfs[0].total_vfs = Some(1);
    found.pfs[0].vfs[1].netdev = VfNetdev::InNamespace;
    found.pfs[1].netdev.as_set_mut().unwrap().mtu = 1400;
    assert_eq!(devices_to_ask(&saved, &found).len(), 3);
    let open = Usage::InUse(DeviceUser::Open("/dev/vfio/7".to_owned()));
    let free = (found.pfs[0].vfs[2].address.unwrap().into(), Usage::Free);
    let users = DeviceUsers::from([(found.pfs[0].vfs[0].address.unwrap().into(), open.clone()), free]);
    let plan = plan_restore(&saved, &found, &users);
    let kinds: Vec<_> = plan.obstacles.iter().map(RestoreObstacle::kind).collect();
    assert_eq!(kinds, ["too_few_vfs", "vf_in_use", "vf_in_use"], "{plan}");
    let of_other = |step: &PlannedStep| step.component == Component::Pf(saved.pfs[1].address.clone());
    assert!(!plan.steps.is_empty() && plan.steps.iter().all(of_other), "{plan}");

    // Where nothing is removed, who uses a VF keeps a restore from that one alone.
    let mut found = saved.clone();
    for vf in &mut found.pfs[0].vfs {
        vf.driver = Some("vfio-pci".to_owned());
        vf.netdev = VfNetdev::OtherDriver;
    }
    let users = DeviceUsers::from([(found.pfs[0].vfs[0].address.unwrap().into(), open)]);
    let plan = plan_restore(&saved, &found, &users);
    assert!(plan.obstacles.is_empty(), "{plan}");
    let left_alone: Vec<_> = plan.left_alone.iter().map(|vf| vf.component.clone()).collect();
    assert_eq!(left_alone, [Component::of_vf(&saved.pfs[0], &saved.pfs[0].vfs[0])]);
    assert!(plan.steps.iter().all(|step| !left_alone.contains(&step.component)), "{plan}");
    assert!(plan.to_string().ends_with("; left alone: 0 PFs and 1 VF\n"), "{plan}");
}

#[test]
fn fault_6_5_connected_mode_comes_before_its_mtu() {
    let ipoib = |mode, user_multicast, mtu| {
        let ipoib = Some(nic_netlink::Ipoib { mode, user_multicast });
        let link = Link {
            link_layer: LinkLayer::InfiniBand,
            mtu,
            ipoib,
            ..Link::new(IfIndex(2), "ib0".parse().unwrap())
        };
        NetdevState::of(&link, &Links::default())
    };
    let words = |saved: &NetdevState, found: &NetdevState| -> Vec<String> {
        plan_netdev(saved, found).iter().map(ToString::to_string).collect()
    };
    let saved = ipoib(IpoibMode::Connected, true, 65520);
    let fresh = ipoib(IpoibMode::Datagram, false, 2044);
    assert_eq!(words(&saved, &fresh), ["type ipoib mode connected", "type ipoib umcast 1", "mtu 65520"]);
    // The mode brings an MTU of its own, so that the one that is there already has to be set again.
    let small = ipoib(IpoibMode::Connected, false, 2044);
    assert_eq!(words(&small, &fresh), ["type ipoib mode connected", "mtu 2044"]);
    assert_eq!(words(&fresh, &saved), ["type ipoib mode datagram", "type ipoib umcast 0", "mtu 2044"]);
    assert!(words(&saved, &saved).is_empty());

    let with = |netdev: &NetdevState| {
        let mut pf = pf(Vec::new());
        pf.netdev = Setting::Set(netdev.clone());
        state(pf)
    };
    let told: Vec<String> =
        compare(&with(&saved), &with(&fresh)).iter().map(|one| one.attribute.to_string()).collect();
    assert_eq!(told, ["ipoib_mode", "user_multicast", "mtu"]);
    // A snapshot of an earlier version says nothing of it.
    let mut earlier = serde_json::to_value(&fresh).unwrap();
    assert_eq!(
        earlier.as_object_mut().unwrap().remove("ipoib_mode").unwrap(),
        serde_json::json!({"set": "datagram"})
    );
    earlier.as_object_mut().unwrap().remove("user_multicast");
    let earlier: NetdevState = serde_json::from_value(earlier).unwrap();
    assert_eq!(words(&earlier, &saved), ["mtu 2044"]);
    assert_eq!(compare(&with(&earlier), &with(&saved)).len(), 1);
}
