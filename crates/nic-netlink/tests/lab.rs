//! Against what only the lab's guest has: a udev daemon, netdevsim and an SR-IOV NIC, with root's permissions.
//!
//! Each test is ignored unless asked for (`--ignored`), and then fails where its subject is missing.

#![expect(clippy::unwrap_used, reason = "a test says what it expects by panicking; its functions, too")]

use std::path::Path;
use std::time::Duration;

use nic_host::Host;
use nic_netlink::{
    Change, Changes, Devlink, DevlinkHandle, Eswitch, EswitchChange, EswitchMode, IfIndex, LinkChange,
    LinkEvent, MacAddress, Netlink, PhysPort, PortFlavour, Rdma, RdmaError, Setting, UdevEvent, UdevState,
    VfAttributes, VfChange, VfLinkState, VlanProtocol, VlanTag, udev_state,
};
use rtnetlink::LinkVeth;

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(120), test).await.expect("the test hangs");
    });
}

/// A netdevsim device, removed at the end of its test.
struct Simulated {
    id: u32,
    handle: DevlinkHandle,
}

impl Simulated {
    fn new(id: u32, vfs: u32) -> Self {
        let handle = DevlinkHandle { bus: "netdevsim".to_owned(), device: format!("netdevsim{id}") };
        std::fs::write("/sys/bus/netdevsim/new_device", format!("{id} 1")).expect("netdevsim must be loaded");
        let simulated = Self { id, handle };
        std::fs::write(format!("/sys/kernel/debug/netdevsim/netdevsim{id}/max_vfs"), vfs.to_string())
            .unwrap();
        std::fs::write(simulated.sysfs().join("sriov_numvfs"), vfs.to_string()).unwrap();
        simulated
    }

    fn sysfs(&self) -> std::path::PathBuf {
        Path::new("/sys/bus/netdevsim/devices").join(&self.handle.device)
    }

    /// The index of its one port, the first of its links.
    async fn port(&self, netlink: &Netlink) -> IfIndex {
        let links = netlink.links().await.unwrap();
        let mut of_device =
            links.iter().filter(|link| link.parent_device.as_ref() == Some(&self.handle.device));
        of_device.next().expect("the device has a port").index
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        std::fs::write("/sys/bus/netdevsim/del_device", self.id.to_string()).unwrap();
    }
}

/// What is set cannot be compared by `==`: it may not be known.
fn json(vf: &VfAttributes) -> serde_json::Value {
    serde_json::to_value(vf).unwrap()
}

async fn vf(netlink: &Netlink, pf: IfIndex, vf: u32) -> VfAttributes {
    netlink.vfs(pf).await.unwrap().unwrap().get(vf).unwrap().cloned().unwrap()
}

#[test]
#[ignore = "needs netdevsim"]
fn every_change_of_a_vf_is_carried_out_and_read_back() {
    run(async {
        let simulated = Simulated::new(81, 3);
        let netlink = Netlink::connect().unwrap();
        let pf = simulated.port(&netlink).await;
        let tag = VlanTag { id: 100, qos: 3, protocol: VlanProtocol::Ieee8021Ad };
        let mac = MacAddress([2, 0, 0, 0, 0x0a, 1]);
        let vf = async || vf(&netlink, pf, 1).await;
        let before = vf().await;
        let changes = [
            VfChange::Mac(mac),
            VfChange::Vlan(tag),
            VfChange::SpoofCheck(true),
            VfChange::Trust(true),
            VfChange::LinkState(VfLinkState::Disable),
            VfChange::Rate { min: 200, max: 1000 },
            VfChange::QueryRss(true),
        ];
        // In one message.
        netlink.change_vf_at_once(pf, 1, &changes).await.unwrap();
        let expected = VfAttributes {
            address: mac.into(),
            mac: Setting::Set(mac),
            vlan: Setting::Set(tag),
            vlans: vec![tag],
            spoof_check: Setting::Set(true),
            trust: Setting::Set(true),
            query_rss: Setting::Set(true),
            link_state: VfLinkState::Disable,
            min_tx_rate: Setting::Set(200),
            max_tx_rate: Setting::Set(1000),
            ..before.clone()
        };
        assert_eq!(json(&vf().await), json(&expected));
        let back = [
            VfChange::Mac(MacAddress([0; 6])),
            VfChange::Vlan(VlanTag::NONE),
            VfChange::SpoofCheck(false),
            VfChange::Trust(false),
            VfChange::LinkState(VfLinkState::Auto),
            VfChange::Rate { min: 0, max: 0 },
            VfChange::QueryRss(false),
        ];
        for change in &back {
            netlink.change_vf(pf, 1, change).await.unwrap();
        }
        assert_eq!(json(&vf().await), json(&before));
        let others: Vec<_> = netlink.vfs(pf).await.unwrap().unwrap().iter().cloned().collect();
        assert_eq!(others.iter().map(|vf| vf.index).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(json(&others[2]), json(&VfAttributes { index: 2, ..before }));
    });
}

#[test]
#[ignore = "needs netdevsim"]
fn more_vfs_than_fit_into_one_attribute_are_all_read() {
    run(async {
        const VFS: u32 = 600;
        let simulated = Simulated::new(82, VFS);
        let netlink = Netlink::connect().unwrap();
        let pf = simulated.port(&netlink).await;
        let last = MacAddress([2, 0, 0, 0, 2, 0x57]);
        netlink.change_vf(pf, VFS - 1, &VfChange::Mac(last)).await.unwrap();
        let list = netlink.vfs(pf).await.unwrap().unwrap();
        assert_eq!((list.count(), list.iter().count()), (VFS, 600));
        assert_eq!(vf(&netlink, pf, VFS - 1).await.mac.as_set(), Some(&last));
    });
}

#[test]
#[ignore = "needs netdevsim"]
fn an_eswitch_goes_to_switchdev_and_back() {
    run(async {
        let simulated = Simulated::new(83, 2);
        let devlink = Devlink::connect().unwrap();
        let netlink = Netlink::connect().unwrap();
        let handle = &simulated.handle;
        assert!(devlink.devices().await.unwrap().contains(handle));
        let mode = async || devlink.eswitch(handle).await.unwrap().map(|Eswitch { mode, .. }| mode);
        assert_eq!(mode().await, Some(EswitchMode::Legacy));
        let set = async |mode| {
            let change = EswitchChange::Mode(mode);
            devlink.set_eswitch(handle, change, Duration::from_secs(60)).await.unwrap();
        };
        set(EswitchMode::Switchdev).await;
        assert_eq!(mode().await, Some(EswitchMode::Switchdev));
        let ports = devlink.ports(Some(handle)).await.unwrap();
        let links = netlink.links().await.unwrap();
        let mut of_vfs = Vec::new();
        for port in ports.iter().filter(|port| port.flavour == Some(PortFlavour::PciVf)) {
            let link = links.get(port.netdev.unwrap()).unwrap();
            assert_eq!(link.port().unwrap().port, PhysPort::Vf { pf: 0, vf: port.vf.unwrap().into() });
            assert!(link.phys_switch_id.is_some());
            of_vfs.push(port.vf);
        }
        assert_eq!(of_vfs, [Some(0), Some(1)]);
        set(EswitchMode::Legacy).await;
        assert_eq!(mode().await, Some(EswitchMode::Legacy));

        let error = devlink
            .set_eswitch(
                &DevlinkHandle::pci("ffff:ff:1f.7"),
                EswitchChange::Mode(EswitchMode::Legacy),
                Duration::from_secs(60),
            )
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "cannot set eswitch mode legacy of pci/ffff:ff:1f.7");
        assert_eq!(error.errno(), Some(rustix::io::Errno::NODEV));
    });
}

#[test]
#[ignore = "needs a udev daemon"]
fn udev_is_followed_through_the_naming_of_a_link() {
    run(async {
        let host = Host::running();
        let mut changes = Changes::subscribe(&host).unwrap();
        assert!(changes.has_udev(), "no udev daemon");
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        handle.link().add(LinkVeth::new("udevtest0", "udevtest1").build()).execute().await.unwrap();
        let netlink = Netlink::connect().unwrap();
        let index = netlink.links().await.unwrap().by_name("udevtest0").unwrap().index;
        while udev_state(&host, index).unwrap() != UdevState::Finished {
            changes.recv().await.unwrap();
        }
        netlink.change(index, &LinkChange::Name("udevtest2".parse().unwrap())).await.unwrap();
        // The two sources are not ordered against each other.
        let (mut by_kernel, mut by_udev) = (false, false);
        while !(by_kernel && by_udev) {
            match changes.recv().await.unwrap() {
                Change::Link(LinkEvent::Changed(link)) if link.index == index => {
                    by_kernel |= link.name == "udevtest2";
                }
                Change::Udev(UdevEvent::Processed { action, index: of, name, sysname })
                    if of == index && action == "move" =>
                {
                    assert_eq!((name.as_deref(), sysname.as_str()), (Some("udevtest2"), "udevtest2"));
                    by_udev = true;
                }
                Change::Udev(UdevEvent::Overrun) | Change::Link(LinkEvent::Overrun) => {
                    unreachable!("a few events overran a buffer")
                }
                _ => {}
            }
        }
        handle.link().del(index.0).execute().await.unwrap();
        loop {
            if let Change::Udev(UdevEvent::Processed { action, index: of, .. }) =
                changes.recv().await.unwrap()
                && of == index
                && action == "remove"
            {
                break;
            }
        }
        assert_eq!(udev_state(&host, index).unwrap(), UdevState::Absent);
        drop(changes);
        let monitors = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            let names =
                tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
            names.filter(|name| name.trim() == "udev-monitor").count()
        };
        while monitors() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
#[ignore = "needs an SR-IOV NIC of igb with VFs"]
fn a_driver_that_lacks_a_setting_refuses_exactly_that() {
    run(async {
        let netlink = Netlink::connect().unwrap();
        let links = netlink.links().await.unwrap();
        let mut pf = None;
        for link in links.iter().filter(|link| link.pci_address().is_some()) {
            let vfs = netlink.vfs(link.index).await.unwrap();
            if vfs.is_some_and(|vfs| vfs.count() > 0) {
                pf = Some(link);
            }
        }
        let pf = pf.expect("no PF with VFs");
        let before = vf(&netlink, pf.index, 0).await;
        let mac = MacAddress([2, 0, 0, 0, 0x0d, 1]);
        netlink.change_vf(pf.index, 0, &VfChange::Mac(mac)).await.unwrap();
        assert!(matches!(before.query_rss, Setting::NotThere));
        for change in [VfChange::QueryRss(true), VfChange::LinkState(VfLinkState::Enable)] {
            let error = netlink.change_vf(pf.index, 0, &change).await.unwrap_err();
            assert_eq!(error.errno(), Some(rustix::io::Errno::OPNOTSUPP), "{error}");
        }
        // Of several, what comes before the one that is refused is done.
        let other = MacAddress([2, 0, 0, 0, 0x0d, 2]);
        let several = [VfChange::Mac(other), VfChange::QueryRss(true), VfChange::Trust(true)];
        let error = netlink.change_vf_at_once(pf.index, 0, &several).await.unwrap_err();
        assert_eq!(error.errno(), Some(rustix::io::Errno::OPNOTSUPP), "{error}");
        let so_far = vf(&netlink, pf.index, 0).await;
        assert_eq!((so_far.mac.as_set(), so_far.trust.as_set()), (Some(&other), before.trust.as_set()));
        netlink.change_vf(pf.index, 0, &VfChange::Mac(mac)).await.unwrap();
        let after = vf(&netlink, pf.index, 0).await;
        let expected = VfAttributes { address: mac.into(), mac: Setting::Set(mac), ..before };
        assert_eq!(json(&after), json(&expected));
    });
}

#[test]
#[ignore = "needs rdma_rxe"]
fn fault_2_1_rdma_devices_change_places_by_way_of_another_name() {
    run(async {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        handle.link().add(LinkVeth::new("kn0", "kn1").build()).execute().await.unwrap();
        for (device, netdev) in [("knrxe0", "kn0"), ("knrxe1", "kn1")] {
            let made = std::process::Command::new("rdma")
                .args(["link", "add", device, "type", "rxe", "netdev", netdev])
                .status();
            assert!(made.unwrap().success(), "rdma_rxe must be loaded");
        }
        let rdma = Rdma::connect(Duration::from_secs(10)).unwrap();
        let index = async |name: &str| {
            let devices = rdma.devices().await.unwrap();
            devices.iter().find(|(_, found)| found == name).map(|(index, _)| *index)
        };
        let before = [index("knrxe0").await.unwrap(), index("knrxe1").await.unwrap()];
        let taken = rdma.rename("knrxe0", "knrxe1").await.unwrap_err();
        assert_eq!(taken.errno(), Some(rustix::io::Errno::EXIST), "{taken}");
        for (from, to) in [("knrxe0", "nicdriver0"), ("knrxe1", "knrxe0"), ("nicdriver0", "knrxe1")] {
            rdma.rename(from, to).await.unwrap();
        }
        let after = [index("knrxe1").await.unwrap(), index("knrxe0").await.unwrap()];
        assert_eq!(after, before);
        let gone = rdma.rename("nicdriver0", "knrxe2").await.unwrap_err();
        assert!(matches!(gone, RdmaError::Gone { .. }), "{gone}");
    });
}
