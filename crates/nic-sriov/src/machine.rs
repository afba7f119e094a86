//! What a restore asks of the machine: the seam between the executor, which decides, and what carries out.
//!
//! [`RunningMachine`] is the kernel that runs. The tests of `restore.rs` put a model in its place, so that the laws hold for the executor
//! that also runs on nodes.

mod error;
mod running;

use std::time::Duration;

use nic_netlink::{EswitchChange, IfIndex, LinkChange, Links, PhysPortName, Setting, VfChange};

pub(crate) use self::error::MachineError;
pub(crate) use self::running::RunningMachine;
use crate::ofed::OfedStep;
use crate::plan::BindStep;
use crate::{Arrival, ArrivalError, DeviceAddress, ObserveError, PciAddress, PfState, Usage};

/// What a restore asks of the machine.
///
/// Each method carries out one thing and decides nothing: what is asked before, tried again, waited for or left alone is the
/// executor's to say. How long one thing may take is the machine's to know; only [`Machine::after`] takes a time.
pub(crate) trait Machine: Sync {
    /// From now on netdevs that come are noticed. To be called before the first change, so that the first names are seen.
    fn listen(&self) -> impl Future<Output = Result<(), ArrivalError>> + Send;

    /// One PF with its VFs and representors as it is now; `None` when it is gone.
    fn observe(
        &self,
        pf: &DeviceAddress,
    ) -> impl Future<Output = Result<Option<PfState>, ObserveError>> + Send;

    /// All links: many.
    fn links(&self) -> impl Future<Output = Result<Links, ObserveError>> + Send;

    /// The addresses of the VFs that a PF has now.
    fn vfs(&self, pf: &DeviceAddress) -> impl Future<Output = Result<Vec<PciAddress>, ObserveError>> + Send;

    /// The driver that a VF has now.
    fn driver(&self, vf: PciAddress) -> impl Future<Output = Result<Option<String>, ObserveError>> + Send;

    /// Whether somebody uses the PF or VF itself, in any way that the kernel has; right before a write. A netdev in another network namespace
    /// comes before all other ways.
    fn usage(&self, device: &DeviceAddress) -> impl Future<Output = Usage> + Send;

    /// Whether the device has netdevs, and all of them are in other network namespaces.
    fn is_elsewhere(&self, device: &DeviceAddress)
    -> impl Future<Output = Result<bool, ObserveError>> + Send;

    /// Sets whether VFs of the PF are probed as they are made, and can be bound at all.
    fn set_autoprobe(
        &self,
        pf: &DeviceAddress,
        on: bool,
    ) -> impl Future<Output = Result<(), MachineError>> + Send;

    /// Sets the number of the PF's VFs.
    fn set_num_vfs(
        &self,
        pf: &DeviceAddress,
        count: u32,
    ) -> impl Future<Output = Result<(), MachineError>> + Send;

    /// Sets something of the PF's eswitch.
    fn set_eswitch(
        &self,
        pf: &DeviceAddress,
        change: EswitchChange,
    ) -> impl Future<Output = Result<(), MachineError>> + Send;

    /// Sets what the PF with the netdev `uplink` holds for a VF, at once and in this order. What is refused is refused with all behind it.
    fn set_admin(
        &self,
        uplink: IfIndex,
        vf: u32,
        changes: &[VfChange],
    ) -> impl Future<Output = Result<(), MachineError>> + Send;

    /// Sets something that MLNX_OFED's driver holds for a VF beside that.
    fn set_ofed(
        &self,
        pf: &DeviceAddress,
        vf: u32,
        step: OfedStep,
    ) -> impl Future<Output = Result<(), MachineError>> + Send;

    /// Binds a VF, unbinds it, or says to which driver it is to be bound. A device that is no VF is refused.
    fn bind(&self, vf: PciAddress, step: &BindStep) -> impl Future<Output = Result<(), MachineError>> + Send;

    /// Sets something of a netdev.
    fn set_link(
        &self,
        link: IfIndex,
        change: &LinkChange,
    ) -> impl Future<Output = Result<(), MachineError>> + Send;

    /// The names of the device's RDMA devices.
    fn rdma_devices(&self, device: &DeviceAddress) -> impl Future<Output = Setting<Vec<String>>> + Send;

    /// Gives an RDMA device another name.
    fn rename_rdma(&self, from: &str, to: &str) -> impl Future<Output = Result<(), MachineError>> + Send;

    /// Waits until the device has a netdev and udev is done with it ([`Arrivals::wait`](crate::Arrivals::wait)).
    fn await_netdev(
        &self,
        device: &DeviceAddress,
    ) -> impl Future<Output = Result<Arrival, ArrivalError>> + Send;

    /// Waits until these ports of the PF's eswitch have netdevs and udev is done with them. Those that have come are returned.
    fn await_ports(
        &self,
        pf: &DeviceAddress,
        ports: &[PhysPortName],
    ) -> impl Future<Output = Result<Vec<(PhysPortName, Arrival)>, ArrivalError>> + Send;

    /// Waits until the PF's netdev can pass traffic, for at most `patience`. Returns whether it can.
    fn await_link(
        &self,
        pf: &DeviceAddress,
        patience: Duration,
    ) -> impl Future<Output = Result<bool, ArrivalError>> + Send;

    /// The clock: ends when so much time has passed.
    fn after(&self, time: Duration) -> impl Future<Output = ()> + Send;
}
