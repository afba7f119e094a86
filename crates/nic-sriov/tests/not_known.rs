//! What is made of values that cannot be read: on trees that differ from the documented node in one thing.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use nic_host::Host;
    use nic_netlink::Setting;
    use nic_sriov::{
        DeviceSelector, DeviceUsers, Difference, Gravity, LinkSource, NicState, PfSeen, RestoreObstacle,
        Stage, VfState, compare, find_pfs, observe_whole, obstacles, plan_restore,
    };
    use serde_json::{Value, json};

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");
    const PF: &str = "0000:01:00.0";

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn of(fixture: &str) -> Self {
            let tree = tempfile::tempdir().unwrap();
            let from = format!("{FIXTURES}/{fixture}/.");
            let copied = Command::new("cp").arg("-a").arg(from).arg(tree.path()).status().unwrap();
            assert!(copied.success());
            Self(tree)
        }

        fn documented() -> Self {
            Self::of("documented-node/before")
        }

        fn path(&self, file: &str) -> PathBuf {
            self.0.path().join(file)
        }

        fn device(&self, file: &str) -> PathBuf {
            self.path("sys/bus/pci/devices").join(file)
        }

        fn edit(&self, file: &str, change: impl FnOnce(&mut Value)) {
            let path = self.path(file);
            let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            change(&mut value);
            fs::write(path, value.to_string()).unwrap();
        }

        fn look(&self) -> NicState {
            look(self.0.path())
        }
    }

    fn look(root: &Path) -> NicState {
        let host = Host::at(root);
        let selector = DeviceSelector {
            bus: "pci".to_owned(),
            vendor: Some("0x15b3".to_owned()),
            pf_drivers: vec!["mlx5_core".to_owned()],
            vf_drivers: vec!["mlx5_core".to_owned()],
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let source = LinkSource::open(&host).await.unwrap();
            let pfs = find_pfs(&host, &selector).unwrap();
            let deadline = std::time::Duration::from_secs(60);
            observe_whole(&host, &source, &selector, &pfs, deadline).await.unwrap()
        })
    }

    fn not_known(state: &NicState) -> Vec<String> {
        state.not_known().iter().map(ToString::to_string).collect()
    }

    fn told(saved: &NicState, found: &NicState) -> Vec<String> {
        compare(saved, found).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_is_known_of_a_whole_node() {
        let state = Tree::documented().look();
        assert!(not_known(&state).is_empty());
        assert!(compare(&state, &state).is_empty());
    }

    #[test]
    fn fault_2_2_a_vf_that_the_kernel_leaves_out_is_not_known() {
        let tree = Tree::documented();
        let whole = tree.look();
        tree.edit("netlink/links.json", |links| {
            let with_vfs =
                links.as_array_mut().unwrap().iter_mut().find(|link| link["num_vf"] == 50).unwrap();
            with_vfs["vfs"].as_array_mut().unwrap().retain(|vf| vf["index"] != 7);
        });
        let cut = tree.look();
        let [one] = &not_known(&cut)[..] else { panic!("{:?}", not_known(&cut)) };
        assert!(one.starts_with("PF 0000:01:00.0, VF 7, admin: the kernel left VF 7 out"), "{one}");
        for (saved, found) in [(&whole, &cut), (&cut, &whole), (&cut, &cut)] {
            let differences = compare(saved, found);
            assert!(differences.len() == 1 && differences[0].is_wrong(), "{differences:?}");
        }
        // What is wanted is known, and right whatever is there now.
        let plan = plan_restore(&whole, &cut, &DeviceUsers::new());
        assert!(plan.steps.iter().any(|step| step.stage == Stage::Admin), "{plan}");
        assert!(plan_restore(&cut, &whole, &DeviceUsers::new()).is_empty());
    }

    #[test]
    fn fault_2_3_what_one_pfs_devlink_refuses_is_not_known_of_that_one() {
        let tree = Tree::documented();
        let whole = tree.look();
        tree.edit("netlink/eswitches.json", |eswitches| {
            eswitches[PF] = json!({"not_known": {"why": "Operation not permitted (os error 1)"}});
        });
        let found = tree.look();
        let expected = "PF 0000:01:00.0, eswitch: Operation not permitted (os error 1)";
        assert_eq!(not_known(&found), [expected]);
        assert_eq!((found.pfs[0].vfs.len(), found.pfs.len()), (50, 2), "all else is known");
        assert!(found.pfs[1].eswitch.as_set().is_some());
        assert_eq!(told(&whole, &found).len(), 1);
        assert!(told(&found, &found)[0].contains("eswitch.mode is unknown: Operation not permitted"));
    }

    #[test]
    fn fault_2_3_a_pf_that_cannot_be_read_is_no_other_pfs_matter() {
        let tree = Tree::documented();
        let whole = tree.look();
        let count = tree.device(&format!("{PF}/sriov_numvfs"));
        fs::remove_file(&count).unwrap();
        fs::create_dir(&count).unwrap();
        let found = tree.look();
        assert_eq!(found.pfs.len(), 1);
        assert!(matches!(found.pf(&PF.parse().unwrap()), PfSeen::Unread(_)));
        assert!(not_known(&found)[0].starts_with("PF 0000:01:00.0: "), "{:?}", not_known(&found));
        let obstacles = obstacles(&whole, &found);
        assert!(matches!(&obstacles[..], [RestoreObstacle::Unreadable { .. }]), "{obstacles:?}");
        let wrong = |saved: &NicState| compare(saved, &found).iter().filter(|one| one.is_wrong()).count();
        assert_eq!((wrong(&whole), wrong(&found)), (1, 1));
        // Where somebody took that into account, it is said, and all else is compared.
        let accepted = found.clone().accepting_not_known();
        let differences = compare(&accepted, &whole);
        assert!(
            matches!(&differences[..], [Difference { gravity: Gravity::CannotRestore, .. }]),
            "{differences:?}"
        );
    }

    #[test]
    fn fault_2_1_rdma_devices_that_change_places_are_a_difference() {
        let tree = Tree::documented();
        for (device, name) in [("0000:01:00.0", "mlx5_0"), ("0000:01:00.1", "mlx5_1")] {
            fs::create_dir_all(tree.device(&format!("{device}/infiniband/{name}"))).unwrap();
        }
        let saved = tree.look();
        assert!(compare(&saved, &saved).is_empty());
        for (device, before, now) in
            [("0000:01:00.0", "mlx5_0", "mlx5_1"), ("0000:01:00.1", "mlx5_1", "mlx5_0")]
        {
            let folder = tree.device(&format!("{device}/infiniband"));
            fs::rename(folder.join(before), folder.join(now)).unwrap();
        }
        let found = tree.look();
        assert_eq!(
            told(&saved, &found),
            ["PF 0000:01:00.0: rdma is mlx5_1, was mlx5_0", "PF 0000:01:00.1: rdma is mlx5_0, was mlx5_1"]
        );
    }

    #[test]
    fn fault_2_4_what_an_infiniband_pf_without_a_netdev_holds_is_not_known() {
        let tree = Tree::of("infiniband");
        let whole = tree.look();
        let own = whole.pfs[0].netdev.as_set().unwrap().name.to_string();
        tree.edit("netlink/links.json", |links| {
            links.as_array_mut().unwrap().retain(|link| link["name"] != own.as_str());
        });
        let found = tree.look();
        assert_eq!(not_known(&found).len(), found.pfs[0].vfs.len(), "{:?}", not_known(&found));
        assert!(found.pfs[0].vfs.iter().all(|vf| matches!(vf.admin, Setting::NotKnown(_))));
    }

    /// The InfiniBand node without its PF's netdev, and with MLNX_OFED's folders, of which VF N's shows the GUIDs of VF N less `shift`.
    fn with_folders(shift: u32) -> (NicState, Tree) {
        let tree = Tree::of("infiniband");
        let whole = tree.look();
        let own = whole.pfs[0].netdev.as_set().unwrap().name.to_string();
        tree.edit("netlink/links.json", |links| {
            links.as_array_mut().unwrap().retain(|link| link["name"] != own.as_str());
        });
        let rdma = tree.device(&format!("{PF}/infiniband/mlx5_0"));
        fs::create_dir_all(&rdma).unwrap();
        fs::write(rdma.join("node_guid"), "0c42:a103:00b4:a5f2\n").unwrap();
        let guid = |setting: &Setting<nic_netlink::Guid>| {
            setting.as_set().map_or("00:00:00:00:00:00:00:00".to_owned(), ToString::to_string)
        };
        for vf in &whole.pfs[0].vfs {
            let folder = tree.device(&format!("{PF}/sriov/{}", vf.index));
            fs::create_dir_all(&folder).unwrap();
            let shown = vf.index.checked_sub(shift).and_then(|shown| whole.pfs[0].vf(shown));
            let (node, port) = match shown.and_then(|vf| vf.admin.as_set()) {
                Some(admin) => (guid(&admin.node_guid), guid(&admin.port_guid)),
                None => ("0c:42:a1:03:00:b4:a5:f2".to_owned(), "0c:42:a1:03:00:b4:a5:f3".to_owned()),
            };
            for (file, text) in [("node", node), ("port", port), ("policy", "Follow".to_owned())] {
                fs::write(folder.join(file), format!("{text}\n")).unwrap();
            }
        }
        (whole, tree)
    }

    #[test]
    fn fault_2_4_guids_are_read_where_they_are() {
        let (whole, tree) = with_folders(0);
        let found = tree.look();
        assert!(not_known(&found).is_empty(), "{:?}", not_known(&found));
        for (vf, now) in whole.pfs[0].vfs.iter().zip(&found.pfs[0].vfs) {
            let guids = |vf: &VfState| {
                let admin = vf.admin.as_set().unwrap();
                (admin.node_guid.to_string(), admin.port_guid.to_string())
            };
            assert_eq!(guids(vf), guids(now));
        }
        // A file that is no GUID makes that VF's unknown, and no other's.
        fs::write(tree.device(&format!("{PF}/sriov/2/port")), "none\n").unwrap();
        let found = tree.look();
        let [one] = &not_known(&found)[..] else { panic!("{:?}", not_known(&found)) };
        assert!(one.starts_with("PF 0000:01:00.0, VF 2, admin: "), "{one}");
    }

    #[test]
    fn fault_2_4_guids_of_the_vf_before_are_not_believed() {
        let (_, tree) = with_folders(1);
        let found = tree.look();
        assert_eq!(not_known(&found).len(), 4, "{:?}", not_known(&found));
        assert!(not_known(&found)[1].contains("shows the GUIDs of the VF before"), "{:?}", not_known(&found));
        // Nor is anything where it cannot be told.
        let (_, tree) = with_folders(0);
        fs::remove_file(tree.device(&format!("{PF}/infiniband/mlx5_0/node_guid"))).unwrap();
        assert_eq!(not_known(&tree.look()).len(), 4);
    }

    /// Whatever file of a PF is a folder now, or is gone: it is noticed, and no other PF's matter.
    #[test]
    fn no_file_of_a_pf_is_read_as_nothing_when_it_cannot_be_read() {
        let tree = Tree::documented();
        let whole = tree.look();
        let files = fs::read_dir(tree.device(PF)).unwrap();
        let names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let aside = tree.path("aside");
        for name in names.iter().filter(|name| !name.starts_with("virtfn") || *name == "virtfn49") {
            let file = tree.device(&format!("{PF}/{name}"));
            fs::rename(&file, &aside).unwrap();
            for as_folder in [true, false] {
                if as_folder {
                    // With these it cannot be told whether the device is one of the family's.
                    if name == "vendor" || name == "driver" {
                        continue;
                    }
                    fs::create_dir(&file).unwrap();
                }
                let found = tree.look();
                let noticed = compare(&whole, &found).len() + obstacles(&whole, &found).len();
                assert!(noticed > 0, "{name} {as_folder}");
                assert!(matches!(found.pf(&"0000:01:00.1".parse().unwrap()), PfSeen::Here(_)), "{name}");
                if as_folder {
                    fs::remove_dir(&file).unwrap();
                }
            }
            fs::rename(&aside, &file).unwrap();
        }
    }
}
