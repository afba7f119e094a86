//! What is observed of the trees below `fixtures/`, and of trees that differ from them in one thing, and what is
//! planned for it.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::Duration;

    use nic_host::{Host, Replay};
    use nic_netlink::{Guid, IfIndex, IpoibMode, LinkLayer, Setting, VfChange};
    use nic_sriov::{
        Attribute, Component, DeviceSelector, DeviceUsers, LinkSource, NicState, ObserveError, PfStep,
        PlannedStep, RepresentorState, VfNetdev, VfState, compare, find_pfs, observe, observe_whole,
        plan_admin_before, plan_binding, plan_netdev, plan_prepare, plan_restore,
    };
    use serde_json::{Value, json};

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");
    const NODE: &str = "documented-node/before";
    const LONG: Duration = Duration::from_secs(60);

    fn mlx5() -> DeviceSelector {
        DeviceSelector {
            bus: "pci".to_owned(),
            vendor: Some("0x15b3".to_owned()),
            pf_drivers: vec!["mlx5_core".to_owned()],
            vf_drivers: vec!["mlx5_core".to_owned()],
        }
    }

    fn look(root: &Path) -> NicState {
        let host = Host::at(root);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let source = LinkSource::open(&host).await.unwrap();
            let pfs = find_pfs(&host, &mlx5()).unwrap();
            observe(&host, &source, &mlx5(), &pfs, LONG).await.unwrap()
        })
    }

    fn fixture(name: &str) -> NicState {
        look(&Path::new(FIXTURES).join(name))
    }

    /// A copy of the documented node that a test may change.
    struct Copy(tempfile::TempDir);

    impl Copy {
        fn new() -> Self {
            let copy = Self(tempfile::tempdir().unwrap());
            copy_tree(&Path::new(FIXTURES).join(NODE), copy.0.path());
            copy
        }

        fn look(&self) -> NicState {
            look(self.0.path())
        }

        fn change_links(&self, change: impl FnOnce(&mut Vec<Value>)) {
            let file = self.0.path().join("netlink/links.json");
            let mut links = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            change(&mut links);
            fs::write(&file, serde_json::to_vec(&links).unwrap()).unwrap();
        }

        fn drop_link(&self, name: &str) {
            self.change_links(|links| {
                let before = links.len();
                links.retain(|link| link["name"] != name);
                assert_eq!(links.len(), before - 1, "{name}");
            });
        }

        fn device(&self, address: &str) -> std::path::PathBuf {
            self.0.path().join("sys/bus/pci/devices").join(address)
        }
    }

    fn copy_tree(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            let kind = entry.file_type().unwrap();
            if kind.is_symlink() {
                symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
            } else if kind.is_dir() {
                fs::create_dir(&target).unwrap();
                copy_tree(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }

    fn only_vf(state: &NicState, index: u32) -> &VfState {
        state.pfs[0].vf(index).unwrap()
    }

    #[test]
    fn the_documented_node_equals_itself_and_needs_nothing() {
        let state = fixture(NODE);
        assert_eq!((state.pfs.len(), state.pfs[0].vfs.len(), state.pfs[1].vfs.len()), (2, 50, 0));
        assert_eq!(state.pfs[1].netdev.as_set().unwrap().mtu, 9000);
        assert_eq!(compare(&state, &state), []);
        assert!(plan_restore(&state, &state, &DeviceUsers::new()).is_empty());
        let kinds = |kind: fn(&VfNetdev) -> bool| {
            let vfs = state.pfs[0].vfs.iter().filter(|vf| kind(&vf.netdev));
            vfs.map(|vf| vf.index).collect::<Vec<_>>()
        };
        assert_eq!(kinds(|netdev| matches!(netdev, VfNetdev::NotVisible)), [46]);
        assert_eq!(kinds(|netdev| matches!(netdev, VfNetdev::OtherDriver)), [47]);
        assert_eq!(kinds(|netdev| netdev.here().is_some()).len(), 48);
        assert_eq!(only_vf(&state, 47).driver_override.as_deref(), Some("vfio-pci"));
    }

    #[test]
    fn a_bus_that_is_not_there_has_no_devices_and_one_that_cannot_be_listed_is_an_error() {
        let copy = Copy::new();
        let devices = copy.0.path().join("sys/bus/pci/devices");
        let host = Host::at(copy.0.path());
        // A subfunction is on a bus of its own, and none of these.
        let other = copy.0.path().join("sys/bus/auxiliary/devices/mlx5_core.sf.4");
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("vendor"), "0x15b3\n").unwrap();
        symlink("../../../pci/drivers/mlx5_core", other.join("driver")).unwrap();
        assert_eq!(find_pfs(&host, &mlx5()).unwrap().len(), 2);
        fs::remove_dir_all(&devices).unwrap();
        assert_eq!(find_pfs(&host, &mlx5()).unwrap(), []);
        // A link to itself leads nowhere, and is there.
        symlink("devices", &devices).unwrap();
        let error = find_pfs(&host, &mlx5()).unwrap_err();
        assert!(
            matches!(&error, ObserveError::List(_)) && error.to_string().contains("pci/devices"),
            "{error}"
        );
    }

    #[test]
    fn a_number_that_is_none_is_not_known_and_no_guess() {
        let copy = Copy::new();
        let number = copy.0.path().join("sys/bus/pci/devices/0000:01:00.0/sriov_numvfs");
        fs::write(&number, "many\n").unwrap();
        let state = copy.look();
        let [unread] = &state.unread[..] else { panic!("{state:?}") };
        assert!(unread.not_known.to_string().contains("sriov_numvfs holds \"many\""), "{}", unread.not_known);
    }

    #[test]
    fn after_the_reload_all_vfs_are_missing_and_the_plan_makes_them() {
        let (saved, found) = (fixture(NODE), fixture("documented-node/after-reload"));
        let absent =
            compare(&saved, &found).into_iter().filter(|it| it.attribute == Attribute::Presence).count();
        assert_eq!(absent, 50);
        let steps = plan_prepare(&saved.pfs[0], &found.pfs[0]);
        assert!(steps.contains(&PfStep::NumVfs(50)), "{steps:?}");
        let plan = plan_restore(&saved, &found, &DeviceUsers::new());
        let is_vf = |step: &&PlannedStep| matches!(step.component, Component::Vf { .. });
        let vfs: BTreeSet<_> = plan.steps.iter().filter(is_vf).map(|step| &step.component).collect();
        assert_eq!(vfs.len(), 50);
    }

    #[test]
    fn a_vf_without_a_netdev_here_is_recorded_as_what_it_is() {
        let before = fixture(NODE);

        // Its netdev has been moved to another network namespace.
        let copy = Copy::new();
        copy.drop_link("enp1s0f0v5");
        let state = copy.look();
        assert!(matches!(only_vf(&state, 5).netdev, VfNetdev::NotVisible));
        let admin = |state| serde_json::to_value(&only_vf(state, 5).admin).unwrap();
        assert_eq!(admin(&state), admin(&before), "the PF still knows it");

        // It has no driver.
        let address = only_vf(&before, 5).address.unwrap().to_string();
        fs::remove_file(copy.device(&address).join("driver")).unwrap();
        let state = copy.look();
        assert!(matches!(
            (&only_vf(&state, 5).netdev, &only_vf(&state, 5).driver),
            (VfNetdev::Unbound, None)
        ));

        // It has been given to user space.
        symlink("../../drivers/vfio-pci", copy.device(&address).join("driver")).unwrap();
        fs::write(copy.device(&address).join("driver_override"), "vfio-pci\n").unwrap();
        let state = copy.look();
        let vf = only_vf(&state, 5);
        assert!(matches!(vf.netdev, VfNetdev::OtherDriver));
        assert_eq!(
            (vf.driver.as_deref(), vf.driver_override.as_deref()),
            (Some("vfio-pci"), Some("vfio-pci"))
        );

        let differing = compare(&before, &state);
        assert!(differing.iter().all(|it| it.component.to_string().starts_with("VF 5 of")), "{differing:?}");
        assert!(!differing.is_empty());
    }

    #[test]
    fn under_one_pf_only_the_uplink_is_its_netdev_and_representors_are_those_of_vfs_and_sfs() {
        let copy = Copy::new();
        copy.change_links(|links| {
            let uplink = links.iter().position(|link| link["phys_port_name"] == "p0").unwrap();
            links[uplink]["phys_switch_id"] = json!("0c42a10300b4a5f2");
            // Lower indexes than the uplink's: what comes first is not what the PF's netdev is told by.
            links[uplink]["index"] = json!(900);
            let ports =
                [("pf0", 200), ("pf0vf3", 201), ("pf0sf88", 202), ("c1pf0vf0", 203), ("pf0vf12", 204)];
            for (port, index) in ports {
                let mut link = links[uplink].clone();
                link["phys_port_name"] = json!(port);
                link["index"] = json!(index);
                link["name"] = json!(format!("rep{index}"));
                link["num_vf"] = json!(0);
                link["vfs"] = json!([]);
                links.push(link);
            }
        });
        let state = copy.look();
        let pf = &state.pfs[0];
        assert_eq!(pf.netdev.as_set().unwrap().name, *"enp1s0f0np0");
        assert!(pf.vfs.iter().all(|vf| vf.admin.as_set().is_some()), "the uplink is whom to ask for the VFs");
        let port = |representor: &RepresentorState| representor.port.to_string();
        let ports: Vec<_> = pf.representors.iter().map(port).collect();
        assert_eq!(ports, ["pf0vf3", "pf0vf12", "pf0sf88", "c1pf0vf0"]);
        assert_eq!(pf.representors[3].port.controller, Some(1));
        assert!(
            pf.representors.iter().all(|it| it.switch_id.as_ref().unwrap().to_string() == "0c42a10300b4a5f2")
        );
        assert!(state.pfs[1].representors.is_empty());
        assert_eq!(compare(&state, &state), []);
    }

    /// The InfiniBand node's PF, and the VF with this index.
    fn infiniband_vf(index: u32) -> VfState {
        only_vf(&fixture("infiniband"), index).clone()
    }

    /// As it is when it has just been made.
    fn unset(saved: &VfState) -> VfState {
        let mut found = saved.clone();
        let admin = found.admin.as_set_mut().unwrap();
        (admin.node_guid, admin.port_guid) = (Setting::NotSet, Setting::NotSet);
        (found.driver, found.netdev) = (None, VfNetdev::Unbound);
        found
    }

    #[test]
    fn an_infiniband_vf_gets_node_and_port_guid_each_its_own() {
        let state = fixture("infiniband");
        assert_eq!(state.pfs[0].vfs.len(), 4);
        assert_eq!(compare(&state, &state), []);
        assert!(plan_restore(&state, &state, &DeviceUsers::new()).is_empty());
        for saved in &state.pfs[0].vfs[..3] {
            let last = u8::try_from(saved.index).unwrap();
            let guid = |end| Guid([0x00, 0x11, 0x22, 0x33, 0x44, 0x55, last, end]);
            assert_eq!(
                plan_admin_before(saved, &unset(saved)),
                [VfChange::NodeGuid(guid(0x0a)), VfChange::PortGuid(guid(0x0b))]
            );
        }
    }

    #[test]
    fn guids_that_are_all_zero_are_not_written() {
        let saved = infiniband_vf(3);
        let admin = saved.admin.as_set().unwrap();
        assert!(matches!((&admin.node_guid, &admin.port_guid), (Setting::NotSet, Setting::NotSet)));
        assert_eq!(plan_admin_before(&saved, &unset(&saved)), []);
        // Nor are they where somebody has set some since; that this cannot be undone is stated.
        let mut found = saved.clone();
        found.admin.as_set_mut().unwrap().node_guid = Setting::Set(Guid([7; 8]));
        assert_eq!(plan_admin_before(&saved, &found), []);
        let mut state = fixture("infiniband");
        let before = state.clone();
        state.pfs[0].vfs[3] = found;
        let stated = compare(&before, &state);
        assert_eq!(
            stated.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "VF 3 of 0000:01:00.0 (0000:01:00.4): admin.node_guid is 07:07:07:07:07:07:07:07, was not set (cannot be given back)"
            ]
        );
    }

    #[test]
    fn an_infiniband_address_is_its_guid_and_is_never_set() {
        let before = fixture("infiniband");
        let mut after = before.clone();
        let renumber = |vf: &mut VfState, at: usize| {
            let VfNetdev::Here(netdev) = &mut vf.netdev else { panic!("{:?}", vf.netdev) };
            assert_eq!(netdev.address.0.len(), 20);
            netdev.address.0[at] ^= 0x55;
        };
        // The number of the queue pair is another after every probe.
        renumber(&mut after.pfs[0].vfs[0], 3);
        assert_eq!(compare(&before, &after), []);
        assert!(plan_restore(&before, &after, &DeviceUsers::new()).is_empty());
        // Another GUID is another address. It is the PF's to give, and is taken with a new probe.
        renumber(&mut after.pfs[0].vfs[0], 19);
        assert_eq!(compare(&before, &after).len(), 1);
        let (saved, found) = (only_vf(&before, 0), only_vf(&after, 0));
        let (VfNetdev::Here(saved_netdev), VfNetdev::Here(found_netdev)) = (&saved.netdev, &found.netdev)
        else {
            panic!("{saved:?} {found:?}");
        };
        assert_eq!(plan_netdev(saved_netdev, found_netdev), []);
        let steps: Vec<String> = plan_binding(saved, found).iter().map(ToString::to_string).collect();
        assert_eq!(steps, ["unbind from mlx5_core", "bind to mlx5_core"]);
    }

    #[test]
    fn fault_6_5_a_port_in_connected_mode_is_saved_as_such_and_gets_its_mode_before_its_mtu() {
        let saved = fixture("infiniband");
        let port = saved.pfs[0].netdev.as_set().unwrap();
        assert!(matches!((&port.ipoib_mode, port.mtu), (Setting::Set(IpoibMode::Connected), 65520)));
        let mut found = saved.clone();
        let port = found.pfs[0].netdev.as_set_mut().unwrap();
        (port.ipoib_mode, port.mtu) = (Setting::Set(IpoibMode::Datagram), 2044);
        (found.pfs[0].num_vfs, found.pfs[0].vfs) = (0, Vec::new());
        let plan = plan_restore(&saved, &found, &DeviceUsers::new());
        let steps: Vec<String> = plan.steps.iter().map(|planned| planned.step.to_string()).collect();
        assert_eq!(steps[..2], ["type ipoib mode connected", "mtu 65520"], "{plan}");
        let promised: Vec<&String> =
            steps.iter().filter(|step| step.contains("once its netdev is there")).collect();
        assert!(promised[0].ends_with("mode connected, mtu 65520, up"), "{plan}");
        assert!(promised[1].ends_with("mode datagram, mtu 2044, up"), "{plan}");
    }

    #[test]
    fn the_link_layer_is_told_by_its_number_and_not_by_a_name() {
        let state = fixture("infiniband");
        let netdevs =
            state.pfs[0].vfs.iter().filter_map(|vf| vf.netdev.here()).chain(state.pfs[0].netdev.as_set());
        let netdevs: Vec<_> = netdevs.map(|netdev| (netdev.name.as_str(), netdev.link_layer)).collect();
        assert_eq!(netdevs[0], ("storage0", LinkLayer::InfiniBand));
        assert!(netdevs.iter().all(|(_, layer)| *layer == LinkLayer::InfiniBand), "{netdevs:?}");

        let copy = Copy::new();
        copy.change_links(|links| {
            let link = links.iter_mut().find(|link| link["name"] == "enp1s0f0v7").unwrap();
            link["name"] = json!("ib7");
        });
        let state = copy.look();
        let netdev = only_vf(&state, 7).netdev.here().unwrap();
        assert_eq!((netdev.name.as_str(), netdev.link_layer), ("ib7", LinkLayer::Ethernet));
    }

    #[test]
    fn fault_2_a_link_that_cannot_be_read_is_not_none_and_is_one_pfs_alone() {
        let whole = fixture(NODE);
        let copy = Copy::new();
        let host = Host::at(copy.0.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let show = |device: &str, index: IfIndex| {
            let folder = copy.0.path().join(format!("sys/bus/pci/devices/{device}/net/any"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("ifindex"), format!("{index}\n")).unwrap();
        };
        let look = |index: IfIndex| {
            runtime.block_on(async {
                let LinkSource::Recorded(mut recording) = LinkSource::open(&host).await.unwrap() else {
                    panic!("a tree has a recording")
                };
                recording.links.set_unread(index, "it is cut off".to_owned());
                let pfs = find_pfs(&host, &mlx5()).unwrap();
                observe(&host, &LinkSource::Recorded(recording), &mlx5(), &pfs, LONG).await.unwrap()
            })
        };
        let of_vf = whole.pfs[0].vfs[3].netdev.here().unwrap().index;
        let of_pf = whole.pfs[1].netdev.as_set().unwrap().index;
        show(&whole.pfs[0].vfs[3].address.unwrap().to_string(), of_vf);
        show(whole.pfs[1].address.name(), of_pf);
        for (index, pf) in [(of_vf, 0), (of_pf, 1)] {
            let found = look(index);
            let [unread] = &found.unread[..] else { panic!("{found:?}") };
            assert_eq!((&unread.address, found.pfs.len()), (&whole.pfs[pf].address, 1));
            assert!(unread.not_known.to_string().contains("it is cut off"), "{}", unread.not_known);
        }
        // A stranger's is nobody's.
        assert!(look(IfIndex(9999)).unread.is_empty());
    }

    #[tokio::test]
    async fn fault_5_2_a_pf_that_hangs_is_not_known_and_the_others_are() {
        let root = format!("{FIXTURES}/documented-node/before");
        for hanging in ["0000:01:00.0/sriov_numvfs", "0000:01:02.3/driver_override"] {
            let replay = Replay::default().hanging_at(format!("/sys/bus/pci/devices/{hanging}"));
            let host = Host::at(&root).with_replay(replay);
            let source = LinkSource::open(&host).await.unwrap();
            let pfs = find_pfs(&host, &mlx5()).unwrap();
            let deadline = Duration::from_secs(2);
            for state in [
                observe(&host, &source, &mlx5(), &pfs, deadline).await.unwrap(),
                observe_whole(&host, &source, &mlx5(), &pfs, deadline).await.unwrap(),
            ] {
                assert_eq!(state.pfs.len(), pfs.len() - 1);
                let [unread] = &state.unread[..] else { panic!("{:?}", state.unread) };
                assert_eq!(unread.address.name(), "0000:01:00.0");
                let why = unread.not_known.to_string();
                assert!(
                    why.starts_with("looking at 0000:01:00.0 has not ended after 2 s: reading "),
                    "{why}"
                );
                assert!(why.ends_with(&format!("{hanging} hangs in the kernel")), "{why}");
            }
        }
    }
}
