use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nic_host::Host;

use super::*;

const VF: &str = "0000:01:10.0";
const SYSFS: &str = "sys/bus/pci/devices/0000:01:10.0";

pub(crate) fn igb() -> DeviceSelector {
    DeviceSelector {
        bus: "pci".to_owned(),
        vendor: Some("0x8086".to_owned()),
        pf_drivers: vec!["igb".to_owned()],
        vf_drivers: vec!["igbvf".to_owned()],
    }
}

/// A VF and what uses it.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        for folder in [SYSFS, "dev/vfio", "proc"] {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        machine
    }

    fn path(&self, path: impl AsRef<Path>) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn link(&self, path: &str, to: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
        self
    }

    fn driver(&self, driver: &str) -> &Self {
        self.link(&format!("{SYSFS}/driver"), &format!("../../../bus/pci/drivers/{driver}"))
    }

    /// The machine's process namespace is the first one.
    fn with_all_processes(&self) -> &Self {
        self.link("proc/self/ns/pid", "pid:[4026531836]")
    }

    /// A process that has a device file open.
    fn process(&self, file: &str) -> &Self {
        self.file("proc/42/comm", "qemu\n").link("proc/42/ns/mnt", "mnt:[1]").link("proc/42/fd/7", file)
    }

    fn module(&self, name: &str, references: u32, holders: &[&str]) -> &Self {
        let folder = format!("sys/module/{name}");
        let _ = fs::remove_dir_all(self.path(&folder));
        for holder in holders {
            fs::create_dir_all(self.path(format!("{folder}/holders/{holder}"))).unwrap();
        }
        self.file(&format!("{folder}/refcnt"), &format!("{references}\n"))
    }

    fn told(&self) -> String {
        self.told_of(VF)
    }

    fn told_of(&self, device: &str) -> String {
        let host = Host::at(self.0.path());
        Inquiry::gentle(&host, &igb()).usage(&DeviceAddress::new("pci", device).unwrap()).to_string()
    }

    fn told_before_a_write(&self) -> String {
        let host = Host::at(self.0.path());
        Inquiry::before_write(&host, &igb()).usage(&DeviceAddress::new("pci", VF).unwrap()).to_string()
    }

    fn with_group(&self, number: &str) -> &Self {
        self.link(&format!("{SYSFS}/iommu_group"), "../../../../kernel/iommu_groups/7")
            .file("sys/class/vfio/7/dev", number)
    }
}

const FREE: &str = "is used by nobody";

#[test]
fn a_device_that_nothing_stands_on_is_free() {
    let machine = Machine::new();
    assert_eq!(machine.told_before_a_write(), FREE);
    machine.link(&format!("{SYSFS}/iommu_group"), "../../../../kernel/iommu_groups/7").driver("igbvf");
    // The family's driver enables its device as well.
    machine.file(&format!("{SYSFS}/enable"), "1\n");
    assert_eq!(machine.told_before_a_write(), FREE);
}

#[test]
fn fault_4_1_a_group_whose_file_does_not_answer_cannot_be_told() {
    let machine = Machine::new();
    // No driver has this number.
    machine.with_group("511:1048575\n");
    // There is no file, as in a container that is older than the group; then one that is no device's.
    for made in [false, true] {
        if made {
            fs::write(machine.path("dev/vfio/7"), "").unwrap();
        }
        let told = machine.told_before_a_write();
        assert!(told.starts_with("may be in use: whether /dev/vfio/7 is open cannot be told: "), "{told}");
    }
    assert_eq!(fs::read_dir(machine.path("dev")).unwrap().count(), 1, "a device file is left");
    machine.file("sys/class/vfio/7/dev", "nonsense\n");
    assert!(machine.told_before_a_write().starts_with("may be in use: "));
}

#[test]
fn fault_4_1_enable_tells_of_users_that_nobody_sees() {
    // With a group and without, by the device file and by the driver's name alone.
    let (device, with_group, vendors) = (Machine::new(), Machine::new(), Machine::new());
    fs::create_dir_all(device.path(SYSFS).join("vfio-dev/vfio3")).unwrap();
    with_group.with_group("511:1048575\n").driver("vfio-pci");
    vendors.driver("mlx5_vfio_pci");
    for (machine, file) in [
        (&device, "/dev/vfio/devices/vfio3"),
        (&with_group, "/dev/vfio/7"),
        (&vendors, "the device's VFIO file"),
    ] {
        machine.file(&format!("{SYSFS}/enable"), "0\n");
        assert_eq!(machine.told(), FREE);
        machine.file(&format!("{SYSFS}/enable"), "1\n");
        assert_eq!(machine.told(), format!("is in use: {file} is open"));
        assert_eq!(machine.told_before_a_write(), machine.told());
    }
    // A kernel without groups that does not say it.
    fs::remove_file(device.path(SYSFS).join("enable")).unwrap();
    assert!(device.told().starts_with("may be in use: "));
}

#[test]
fn fault_4_1_a_gentle_look_opens_no_group() {
    let machine = Machine::new();
    // To open it would be an error.
    machine.with_group("511:1048575\n").driver("vfio-pci").file(&format!("{SYSFS}/enable"), "0\n");
    assert_eq!(machine.told(), FREE);
    assert_ne!(machine.told_before_a_write(), FREE);
    // A group that is open before its devices are, of a process that is seen.
    machine.module("vfio", 1, &[]).process("/dev/vfio/7");
    assert_eq!(machine.told(), "is in use: process 42 (qemu) has /dev/vfio/7 open");
}

#[test]
fn fault_4_uio_is_a_way_to_use_a_device() {
    let machine = Machine::new();
    machine.driver("uio_pci_generic").file(&format!("{SYSFS}/uio/uio0/dev"), "241:0\n");
    machine.link("sys/bus/pci/drivers/uio_pci_generic/module", "../../../../module/uio_pci_generic");
    // The link to the driver leads there from the device's own folder.
    machine.link("sys/bus/bus", ".");
    machine.module("uio_pci_generic", 0, &[]);
    assert_eq!(machine.told(), FREE);
    machine.module("uio_pci_generic", 1, &[]);
    let told = machine.told();
    assert!(told.starts_with("may be in use: whether /dev/uio0 is open cannot be told: "), "{told}");
    machine.process("/dev/uio0");
    assert_eq!(machine.told(), "is in use: process 42 (qemu) has /dev/uio0 open");
    // All processes are seen: somebody uses another device with the driver.
    machine.with_all_processes();
    fs::remove_file(machine.path("proc/42/fd/7")).unwrap();
    assert_eq!(machine.told(), FREE);
}

#[test]
fn fault_4_verbs_of_a_vf_and_of_a_sub_function_are_ways_to_use_a_device() {
    for place in ["", "mlx5_core.sf.2/", "mlx5_core.sf.2/mlx5_core.rdma.2/"] {
        let machine = Machine::new();
        machine.driver("igbvf").file(&format!("{SYSFS}/{place}infiniband_verbs/uverbs3/dev"), "231:195\n");
        // Others use RDMA; then this one's processes are looked for.
        machine.module("ib_uverbs", 2, &["mlx5_ib", "rdma_ucm"]);
        assert_eq!(machine.told(), FREE);
        machine.module("ib_uverbs", 3, &["mlx5_ib", "rdma_ucm"]);
        assert!(
            machine.told().contains("/dev/infiniband/uverbs3 is open cannot be told"),
            "{}",
            machine.told()
        );
        machine.process("/dev/infiniband/uverbs3");
        assert_eq!(machine.told(), "is in use: process 42 (qemu) has /dev/infiniband/uverbs3 open");
        let host = Host::at(machine.0.path());
        let device = DeviceAddress::new("pci", VF).unwrap();
        assert_eq!(Inquiry::gentle(&host, &igb()).without_rdma().usage(&device), Usage::Free);
    }
}

#[test]
fn fault_4_vdpa_is_a_way_to_use_a_device() {
    let machine = Machine::new();
    let real = format!("sys/devices/pci0000:00/{VF}/mlx5_core.vnet.0/blue");
    machine.driver("igbvf").file(&format!("{real}/vhost-vdpa-0/dev"), "509:0\n");
    machine.link(
        "sys/bus/vdpa/devices/blue",
        &format!("../../../devices/pci0000:00/{VF}/mlx5_core.vnet.0/blue"),
    );
    machine.module("vhost_vdpa", 0, &[]);
    assert_eq!(machine.told(), FREE);
    machine.module("vhost_vdpa", 1, &[]).process("/dev/vhost-vdpa-0");
    assert_eq!(machine.told(), "is in use: process 42 (qemu) has /dev/vhost-vdpa-0 open");
    assert_eq!(machine.told_of("0000:01:10.1"), FREE, "it is not below this one");
    // As a virtio device of this machine, with a netdev that a container has.
    fs::remove_dir_all(machine.path(&real).join("vhost-vdpa-0")).unwrap();
    fs::create_dir_all(machine.path(&real).join("virtio4/net")).unwrap();
    assert_eq!(
        machine.told(),
        "is in use: the netdev of its vDPA device blue is in another network namespace"
    );
    fs::create_dir_all(machine.path(&real).join("virtio4/net/eth0")).unwrap();
    assert_eq!(machine.told(), FREE);
}

#[test]
fn fault_4_the_users_of_an_unknown_driver_cannot_be_told() {
    for (driver, known) in [("igb", true), ("pci-stub", true), ("vfio-pci", true), ("pciback", false)] {
        let machine = Machine::new();
        machine.driver(driver);
        let told = machine.told();
        assert_eq!(told == FREE, known, "{told}");
        assert!(known || told == "may be in use: it has the driver pciback, whose users cannot be told");
    }
    // One of another family's NIC.
    let machine = Machine::new();
    machine.driver("hinic");
    fs::create_dir_all(machine.path(SYSFS).join("net")).unwrap();
    assert_eq!(machine.told(), FREE);
}

#[test]
fn a_user_comes_before_what_cannot_be_told() {
    let untold = || Usage::CannotBeTold(Untold::Driver("pciback".to_owned()));
    let used = || Usage::InUse(DeviceUser::Open("/dev/vfio/7".to_owned()));
    assert_eq!(Usage::of_all([]), Usage::Free);
    assert_eq!(Usage::of_all([Usage::Free, untold(), Usage::Free]), untold());
    assert_eq!(Usage::of_all([untold(), used(), Usage::Free]), used());
}
