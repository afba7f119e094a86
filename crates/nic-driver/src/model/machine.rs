//! The model's kernel, as commands see it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nic_kmod::{LoadError, LoadRequest, ModuleName, UnloadError, Unloaded};
use nic_sriov::{
    ArrivalError, DeviceAddress, DeviceSelector, Difference, KernelLinks, LinkSource, NicState, ObserveError,
    Patience, RemoveVfsError, RestoreError, RestoreEvent, RestoreOptions, RestoreOutcome, compare, observe,
};

use super::kernel::Kernel;
use crate::machine::{Acting, Machine, Nics, PfsToCome};
use crate::privileges::{PrivilegeError, Privileged};

/// How long a look at the model's tree may take, on a machine that is busy with other tests.
const LOOK: Duration = Duration::from_secs(60);

/// A handle on the kernel of a node.
#[derive(Debug, Clone)]
pub(super) struct ModelMachine(pub(super) Arc<Kernel>);

impl Machine for ModelMachine {
    fn acts(&self) -> bool {
        true
    }

    fn ensure_allowed(&self, _command: &Privileged) -> Result<(), PrivilegeError> {
        Ok(())
    }

    fn load<'a>(
        &'a self,
        request: &'a LoadRequest,
        _deadline: Duration,
    ) -> Acting<'a, Result<(), LoadError>> {
        Box::pin(async move { self.0.load(&request.module, request.root.as_deref()) })
    }

    fn load_file<'a>(
        &'a self,
        module: &'a ModuleName,
        file: &'a Path,
        _parameters: &'a [(&'a str, &'a str)],
        _deadline: Duration,
    ) -> Acting<'a, Result<(), LoadError>> {
        Box::pin(async move { self.0.load_file(module, file) })
    }

    fn unload<'a>(
        &'a self,
        module: &'a ModuleName,
        _deadline: Duration,
    ) -> Acting<'a, Result<Unloaded, UnloadError>> {
        Box::pin(async move { self.0.unload(module) })
    }

    fn remove_vfs<'a>(
        &'a self,
        _devices: &'a DeviceSelector,
        _pfs: &'a [DeviceAddress],
        _jobs: usize,
        _patience: Patience,
    ) -> Acting<'a, Vec<RemoveVfsError>> {
        Box::pin(async move {
            self.0.remove_vfs();
            Vec::new()
        })
    }

    fn nics(&self, _deadline: Duration) -> Acting<'_, Result<Option<Box<dyn Nics>>, ObserveError>> {
        Box::pin(async move {
            let source = LinkSource::open(&self.0.host).await?;
            Ok(Some(Box::new(ModelNics { kernel: Arc::clone(&self.0), source }) as Box<dyn Nics>))
        })
    }
}

#[derive(Debug)]
struct ModelNics {
    kernel: Arc<Kernel>,
    source: LinkSource,
}

impl Nics for ModelNics {
    fn source(&self) -> LinkSource {
        self.source.clone()
    }

    fn kernel(&self) -> Option<&KernelLinks> {
        None
    }

    fn listen(&self) -> Acting<'_, Result<Box<dyn PfsToCome>, ArrivalError>> {
        Box::pin(async move { Ok(Box::new(ModelArrivals(Arc::clone(&self.kernel))) as Box<dyn PfsToCome>) })
    }

    fn restore<'a>(
        &'a self,
        selector: &'a DeviceSelector,
        saved: &'a NicState,
        _options: RestoreOptions,
        _on_event: &'a (dyn Fn(RestoreEvent) + Sync),
    ) -> Acting<'a, Result<RestoreOutcome, RestoreError>> {
        Box::pin(async move {
            let pfs: Vec<DeviceAddress> = saved.pfs.iter().map(|pf| pf.address.clone()).collect();
            let differences = async || -> Result<Vec<Difference>, ObserveError> {
                let source = LinkSource::open(&self.kernel.host).await?;
                let found = observe(&self.kernel.host, &source, selector, &pfs, LOOK).await?;
                Ok(compare(saved, &found))
            };
            let due = differences().await?.iter().filter(|difference| difference.is_wrong()).count();
            if due > 0 {
                self.kernel.restore(saved);
            }
            Ok(RestoreOutcome {
                skipped: Vec::new(),
                steps: due,
                vfs: Vec::new(),
                failures: Vec::new(),
                differences: differences().await?,
            })
        })
    }
}

#[derive(Debug)]
struct ModelArrivals(Arc<Kernel>);

impl PfsToCome for ModelArrivals {
    /// In the model what comes has come when the driver is loaded.
    fn wait<'a>(
        &'a self,
        pfs: &'a [DeviceAddress],
        deadline: Duration,
    ) -> Acting<'a, Vec<(DeviceAddress, Result<(), ArrivalError>)>> {
        let up = self.0.configuration();
        let arrival = move |pf: &DeviceAddress| {
            let late = || ArrivalError::Deadline { device: pf.clone(), after: deadline };
            (pf.clone(), up.get(pf).map(drop).ok_or_else(late))
        };
        let arrived = pfs.iter().map(arrival).collect();
        Box::pin(std::future::ready(arrived))
    }
}
