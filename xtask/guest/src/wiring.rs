//! The NICs of a guest and the Ethernet hubs between them.
//!
//! The host puts them on the command line of the virtual machine, the guest finds its way by them: a NIC is what its
//! factory MAC address says, whatever the kernel calls it.
//!
//! ```text
//! hub 1: igb PF 1 … igb PF n (and their VFs), peer        data path across the driver that is swapped
//! hub 2: bystander A, bystander B                         data path that a swap must not touch
//! ```

/// The hub of the SR-IOV NICs and of their peer.
pub const DATA_HUB: u8 = 1;
/// The hub of the two NICs that no scenario touches.
pub const BYSTANDER_HUB: u8 = 2;
/// The e1000e at the far end of the data path.
pub const PEER_MAC: &str = "52:54:00:00:f0:01";
/// The two e1000e beside the data path.
pub const BYSTANDER_MACS: [&str; 2] = ["52:54:00:00:f1:01", "52:54:00:00:f1:02"];

/// The factory MAC address of the `n`-th igb PF, counted from 1.
#[must_use]
pub fn pf_mac(n: u8) -> String {
    format!("52:54:00:00:{n:02x}:00")
}

/// How many VFs one PF has: `IGB_82576_VF` of the emulated 82576 offers 7 by default, 8 at most by the chip's manual.
pub const VFS_PER_PF: u32 = 7;
/// The tag under which the host's folder for results appears in the guest.
pub const SHARE_TAG: &str = "labshare";
/// Where the host puts the packages that the program under test has built.
pub const BUILT_PACKAGES: &str = "/lab/built";
/// Kernel command line: which scenario to run.
pub const SCENARIO_ARGUMENT: &str = "lab.scenario=";
/// Kernel command line: a parameter of the scenario, `lab.param.NAME=VALUE`.
pub const PARAMETER_ARGUMENT: &str = "lab.param.";
/// Kernel command line: the kernel's functions are to be told, in [`SYMBOLS_FILE`].
pub const SYMBOLS_ARGUMENT: &str = "lab.symbols";
/// The file among the results that has the kernel's functions by address.
pub const SYMBOLS_FILE: &str = "kallsyms";
