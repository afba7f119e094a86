//! The machine that this process runs on.

use std::path::Path;
use std::time::Duration;

use nic_host::Host;
use nic_kmod::{LoadError, LoadRequest, ModuleName, UnloadError, Unloaded, load, load_file, unload};
use nic_sriov::{
    ArrivalError, Arrivals, DeviceAddress, DeviceSelector, KernelLinks, LinkSource, NicState, ObserveError,
    Patience, RemoveVfsError, RestoreError, RestoreEvent, RestoreOptions, RestoreOutcome, await_pfs,
    remove_vfs, restore,
};

use super::{Acting, Machine, Nics, PfsToCome};
use crate::privileges::{PrivilegeError, Privileged};

/// The machine of a [`Host`]. It acts where that is the running one.
#[derive(Debug)]
pub(crate) struct RunningMachine {
    host: Host,
}

impl RunningMachine {
    pub(crate) fn new(host: &Host) -> Self {
        Self { host: host.clone() }
    }
}

impl Machine for RunningMachine {
    fn acts(&self) -> bool {
        self.host.is_running_machine()
    }

    fn ensure_allowed(&self, command: &Privileged) -> Result<(), PrivilegeError> {
        command.ensure(&self.host, None)
    }

    fn load<'a>(&'a self, request: &'a LoadRequest, deadline: Duration) -> Acting<'a, Result<(), LoadError>> {
        Box::pin(load(&self.host, request, deadline))
    }

    fn load_file<'a>(
        &'a self,
        module: &'a ModuleName,
        file: &'a Path,
        parameters: &'a [(&'a str, &'a str)],
        deadline: Duration,
    ) -> Acting<'a, Result<(), LoadError>> {
        Box::pin(load_file(&self.host, module, file, parameters, deadline))
    }

    fn unload<'a>(
        &'a self,
        module: &'a ModuleName,
        deadline: Duration,
    ) -> Acting<'a, Result<Unloaded, UnloadError>> {
        Box::pin(unload(&self.host, module, deadline))
    }

    fn remove_vfs<'a>(
        &'a self,
        devices: &'a DeviceSelector,
        pfs: &'a [DeviceAddress],
        jobs: usize,
        patience: Patience,
    ) -> Acting<'a, Vec<RemoveVfsError>> {
        Box::pin(remove_vfs(&self.host, devices, pfs, jobs, patience))
    }

    fn nics(&self, deadline: Duration) -> Acting<'_, Result<Option<Box<dyn Nics>>, ObserveError>> {
        Box::pin(async move {
            Ok(match LinkSource::open(&self.host).await? {
                LinkSource::Kernel(kernel) => {
                    let kernel = kernel.with_deadline(deadline);
                    Some(Box::new(RunningNics { host: self.host.clone(), kernel }) as Box<dyn Nics>)
                }
                LinkSource::Recorded(_) => None,
            })
        })
    }
}

#[derive(Debug)]
struct RunningNics {
    host: Host,
    kernel: KernelLinks,
}

impl Nics for RunningNics {
    fn source(&self) -> LinkSource {
        LinkSource::Kernel(self.kernel.clone())
    }

    fn kernel(&self) -> Option<&KernelLinks> {
        Some(&self.kernel)
    }

    fn listen(&self) -> Acting<'_, Result<Box<dyn PfsToCome>, ArrivalError>> {
        Box::pin(async move {
            let arrivals = Arrivals::listen(&self.host, &self.kernel).await?;
            Ok(Box::new(RunningArrivals(arrivals)) as Box<dyn PfsToCome>)
        })
    }

    fn restore<'a>(
        &'a self,
        selector: &'a DeviceSelector,
        saved: &'a NicState,
        options: RestoreOptions,
        on_event: &'a (dyn Fn(RestoreEvent) + Sync),
    ) -> Acting<'a, Result<RestoreOutcome, RestoreError>> {
        Box::pin(restore(&self.host, &self.kernel, selector, saved, options, on_event))
    }
}

#[derive(Debug)]
struct RunningArrivals(Arrivals);

impl PfsToCome for RunningArrivals {
    fn wait<'a>(
        &'a self,
        pfs: &'a [DeviceAddress],
        deadline: Duration,
    ) -> Acting<'a, Vec<(DeviceAddress, Result<(), ArrivalError>)>> {
        Box::pin(async move {
            let arrived = await_pfs(&self.0, pfs, deadline).await.into_iter();
            arrived.map(|(pf, arrival)| (pf, arrival.map(drop))).collect()
        })
    }
}
