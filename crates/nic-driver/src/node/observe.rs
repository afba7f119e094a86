//! The node's NICs and what stands on them, as a snapshot.

use nic_kmod::{LoadedModules, ModuleName, ReadLoadedError};
use nic_settings::DeviceSettings;
use nic_sriov::{Difference, LinkSource, NicState, ObserveError, compare, find_pfs, observe_whole};
use nic_topology::NetworkState;

use super::network::observe_network;
use super::nics_look::NicsLook;
use super::settings::observe_settings;
use crate::context::Context;
use crate::state::{ModuleParameters, Observed, SnapshotState};

/// The node could not be observed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveNodeError {
    /// The NICs could not be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// What stands on the NICs could not be observed.
    #[error(transparent)]
    Network(#[from] nic_topology::ObserveError),
    /// The loaded modules could not be read.
    #[error(transparent)]
    Modules(#[from] ReadLoadedError),
}

/// The node's NICs and what stands on them: what tells whether something is in the way.
#[derive(Debug)]
pub(crate) struct NicsAndNetwork {
    /// Where their links were read.
    pub(crate) source: LinkSource,
    /// The NICs.
    pub(crate) nics: NicState,
    /// What stands on their netdevs.
    pub(crate) network: NetworkState,
}

impl NicsAndNetwork {
    /// Looks at them. Where no driver of the family has a device, there are no PFs, and nothing will be owed.
    pub(crate) async fn look(context: &Context) -> Result<Self, ObserveNodeError> {
        let selector = &context.family.devices;
        let pfs = find_pfs(&context.host, selector)?;
        let source = LinkSource::open(&context.host).await?;
        let nics = observe_whole(&context.host, &source, selector, &pfs, context.settings.timeout).await?;
        let network = observe_network(context, &source, &nics).await?;
        Ok(Self { source, nics, network })
    }

    /// With all else that a snapshot is made of: what is set of the netdevs, and the modules.
    pub(crate) async fn into_observed(self, context: &Context) -> Result<Observed, ObserveNodeError> {
        let Self { source, nics, network } = self;
        let settings = observe_settings(context, &source, &nics, fresh_before(context)).await;
        Ok(Observed {
            boot_id: context.boot_id.clone(),
            kernel: context.kernel.clone(),
            family: context.family.name.clone(),
            modules: loaded_stack(context)?,
            parameters: ModuleParameters::new(),
            lost: Vec::new(),
            nics,
            settings,
            network,
        })
    }
}

/// Observes the node: all that a snapshot is made of. Stores nothing.
pub(crate) async fn observe_node(context: &Context) -> Result<Observed, ObserveNodeError> {
    NicsAndNetwork::look(context).await?.into_observed(context).await
}

/// What the netdevs had when they had come up in the last swap of this boot.
fn fresh_before(context: &Context) -> Vec<DeviceSettings> {
    match context.snapshot_state() {
        Ok(state) => state.record().map(|record| record.settings.fresh).unwrap_or_default(),
        Err(error) => {
            let error = crate::error_chain(&error);
            tracing::info!(
                error,
                "the defaults of the driver that runs are not known: all that is set is saved"
            );
            Vec::new()
        }
    }
}

/// Modules lost in an earlier swap, which `state` tells of, and not loaded since.
pub(crate) fn still_lost_modules(
    context: &Context,
    state: SnapshotState,
) -> Result<Vec<ModuleName>, ReadLoadedError> {
    let Some(record) = state.record() else { return Ok(Vec::new()) };
    let loaded = LoadedModules::read_graph(&context.host)?;
    Ok(record.lost.into_iter().filter(|module| !loaded.contains(module)).collect())
}

/// The modules of the family that are loaded now, in the kernel's order.
fn loaded_stack(context: &Context) -> Result<Vec<ModuleName>, ReadLoadedError> {
    let modules = &context.family.modules;
    let mut stack = modules.unloaded();
    let others = modules.peers.iter().chain(&modules.storage).chain(&modules.third_party);
    stack.extend(others.cloned());
    let loaded = LoadedModules::read(&context.host)?;
    Ok(loaded.iter().map(|module| module.name.clone()).filter(|name| stack.contains(name)).collect())
}

/// Whether the machine is another than the snapshot says.
pub(crate) async fn nics_differ(
    context: &Context,
    look: &NicsLook<'_>,
    saved: &NicState,
) -> Result<bool, ObserveError> {
    Ok(compare(saved, look.nics(context, saved).await?).iter().any(Difference::is_wrong))
}
