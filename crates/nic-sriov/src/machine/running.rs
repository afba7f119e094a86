//! The kernel that runs, each question and each change with a deadline.

use std::time::Duration;

use nic_host::{Host, error_chain};
use nic_netlink::{
    EswitchChange, IfIndex, LinkChange, Links, PhysPortName, Rdma, RdmaError, Setting, VfChange,
};
use tokio::sync::OnceCell;

use super::{Machine, MachineError};
use crate::net_folder::is_elsewhere;
use crate::observe::{driver_of, observe, vf_addresses};
use crate::ofed::{self, OfedStep};
use crate::plan::BindStep;
use crate::rdma::rdma_devices;
use crate::source::{KernelLinks, LinkSource, devlink_handle};
use crate::{
    Arrival, ArrivalError, Arrivals, DeviceAddress, DeviceSelector, DeviceUser, Inquiry, ObserveError,
    Operation, Patience, PciAddress, PfState, Untold, Usage, sysfs,
};

/// The machine that this program runs on.
pub(crate) struct RunningMachine<'a> {
    host: &'a Host,
    kernel: KernelLinks,
    source: LinkSource,
    selector: &'a DeviceSelector,
    arrivals: OnceCell<Arrivals>,
    patience: Patience,
}

impl<'a> RunningMachine<'a> {
    /// The running machine, on which each question and change may take what is its kind's.
    pub(crate) fn new(
        host: &'a Host,
        kernel: &KernelLinks,
        selector: &'a DeviceSelector,
        patience: Patience,
    ) -> Self {
        let kernel = kernel.with_deadline(patience.of(Operation::Attribute));
        let source = LinkSource::Kernel(kernel.clone());
        Self { host, kernel, source, selector, arrivals: OnceCell::new(), patience }
    }

    /// How many VFs the PF shows. That is asked without the lock that its `sriov_numvfs` is read under.
    fn vfs_shown(&self, pf: &DeviceAddress) -> usize {
        match self.host.list_if_exists(pf.sysfs()) {
            Ok(names) => names.iter().filter(|name| name.starts_with("virtfn")).count(),
            Err(error) => {
                tracing::debug!(%pf, %error, "how many VFs the PF has cannot be told: there is time for none");
                0
            }
        }
    }

    async fn arrivals(&self) -> Result<&Arrivals, ArrivalError> {
        self.arrivals.get_or_try_init(|| Arrivals::listen(self.host, &self.kernel)).await
    }
}

impl Machine for RunningMachine<'_> {
    async fn listen(&self) -> Result<(), ArrivalError> {
        self.arrivals().await.map(drop)
    }

    async fn observe(&self, pf: &DeviceAddress) -> Result<Option<PfState>, ObserveError> {
        let deadline = self.patience.of(Operation::Observe { vfs: self.vfs_shown(pf) });
        let pf = std::slice::from_ref(pf);
        let state = observe(self.host, &self.source, self.selector, pf, deadline).await?;
        match state.unread.into_iter().next() {
            Some(unread) => Err(unread.not_known.into()),
            None => Ok(state.pfs.into_iter().next()),
        }
    }

    async fn links(&self) -> Result<Links, ObserveError> {
        self.source.links().await
    }

    async fn vfs(&self, pf: &DeviceAddress) -> Result<Vec<PciAddress>, ObserveError> {
        vf_addresses(self.host, pf)
    }

    async fn driver(&self, vf: PciAddress) -> Result<Option<String>, ObserveError> {
        driver_of(self.host, &vf.into())
    }

    async fn usage(&self, device: &DeviceAddress) -> Usage {
        match is_elsewhere(self.host, device).await {
            Ok(true) => Usage::InUse(DeviceUser::Namespace),
            Ok(false) => {
                let deadline = self.patience.of(Operation::Attribute);
                Inquiry::before_write(self.host, self.selector).usage_within(device, deadline).await
            }
            Err(error) => Usage::CannotBeTold(Untold::Device(error_chain(&error))),
        }
    }

    async fn is_elsewhere(&self, device: &DeviceAddress) -> Result<bool, ObserveError> {
        Ok(is_elsewhere(self.host, device).await?)
    }

    async fn set_autoprobe(&self, pf: &DeviceAddress, on: bool) -> Result<(), MachineError> {
        Ok(sysfs::set_autoprobe(self.host, pf, on, self.patience.of(Operation::Attribute)).await?)
    }

    async fn set_num_vfs(&self, pf: &DeviceAddress, count: u32) -> Result<(), MachineError> {
        let vfs = self.vfs_shown(pf).max(usize::try_from(count).unwrap_or(usize::MAX));
        Ok(sysfs::set_num_vfs(self.host, pf, count, self.patience.of(Operation::NumVfs { vfs })).await?)
    }

    async fn set_eswitch(&self, pf: &DeviceAddress, change: EswitchChange) -> Result<(), MachineError> {
        let devlink = self.kernel.devlink.as_ref().ok_or(MachineError::NoDevlink)?;
        let operation = match change {
            EswitchChange::Mode(_) => Operation::EswitchMode { vfs: self.vfs_shown(pf) },
            EswitchChange::InlineMode(_) | EswitchChange::EncapMode(_) => Operation::Attribute,
        };
        Ok(devlink.set_eswitch(&devlink_handle(pf), change, self.patience.of(operation)).await?)
    }

    async fn set_admin(&self, uplink: IfIndex, vf: u32, changes: &[VfChange]) -> Result<(), MachineError> {
        Ok(self.kernel.netlink.change_vf_at_once(uplink, vf, changes).await?)
    }

    async fn set_ofed(&self, pf: &DeviceAddress, vf: u32, step: OfedStep) -> Result<(), MachineError> {
        Ok(ofed::apply(self.host, pf, vf, step, self.patience.of(Operation::Attribute)).await?)
    }

    async fn bind(&self, vf: PciAddress, step: &BindStep) -> Result<(), MachineError> {
        let deadline = self.patience.of(Operation::Bind);
        match step {
            BindStep::Unbind(driver) => sysfs::unbind(self.host, vf, driver, deadline).await?,
            BindStep::Override(driver) => {
                sysfs::set_driver_override(self.host, vf, driver.as_deref(), deadline).await?;
            }
            BindStep::Bind(driver) => sysfs::bind(self.host, vf, driver, deadline).await?,
        }
        Ok(())
    }

    async fn set_link(&self, link: IfIndex, change: &LinkChange) -> Result<(), MachineError> {
        Ok(self.kernel.netlink.change(link, change).await?)
    }

    async fn rdma_devices(&self, device: &DeviceAddress) -> Setting<Vec<String>> {
        rdma_devices(self.host, device)
    }

    async fn rename_rdma(&self, from: &str, to: &str) -> Result<(), MachineError> {
        let rdma = Rdma::connect(self.patience.of(Operation::Attribute)).map_err(RdmaError::from)?;
        Ok(rdma.rename(from, to).await?)
    }

    async fn await_netdev(&self, device: &DeviceAddress) -> Result<Arrival, ArrivalError> {
        self.arrivals().await?.wait(device, self.patience.of(Operation::Netdev)).await
    }

    async fn await_ports(
        &self,
        pf: &DeviceAddress,
        ports: &[PhysPortName],
    ) -> Result<Vec<(PhysPortName, Arrival)>, ArrivalError> {
        let deadline = self.patience.of(Operation::Ports { ports: ports.len() });
        self.arrivals().await?.wait_ports(pf, ports, deadline).await
    }

    async fn await_link(&self, pf: &DeviceAddress, patience: Duration) -> Result<bool, ArrivalError> {
        self.arrivals().await?.wait_running(pf, patience).await
    }

    async fn after(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
