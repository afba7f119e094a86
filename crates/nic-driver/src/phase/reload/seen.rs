//! What else a reload goes by, once it is known what is due: it is read here, and nothing is decided.

use nic_kmod::{LoadedModules, ModuleIndex};
use nic_sriov::{DeviceAddress, ObserveError};

use super::duty::{Duty, duty};
use super::facts::Facts;
use crate::context::{Assumption, Context, ReloadWith};
use crate::node::{driverless_devices, observe_node, pfs_on_their_way, pfs_with_netdevs, still_lost_modules};
use crate::phase::blockers::{look_for_blockers, not_known};
use crate::phase::error::PhaseError;
use crate::state::{Observed, Snapshot};
use crate::swap::{
    BlockersFound, FoundBlockers, Hooks, Look, ModuleTree, PreparedLoads, Restart, SwapError,
    given_parameters, prepare_loads, prepare_missing,
};

/// What else is to be known for what is due.
#[derive(Debug)]
pub(super) enum Seen {
    /// Nothing more.
    Nothing,
    /// For modules that are loaded beside the driver.
    Missing(PreparedLoads),
    /// For a swap that something stands in the way of.
    Blocked(FoundBlockers),
    /// For a swap.
    Swap(FoundBlockers, SwapFacts),
    /// For the end of a swap that was cut off.
    EndSwap(SwapFacts),
}

impl Seen {
    /// Looks at everything that the duty depends on, for a plan. A reload looks in between its first steps.
    pub(super) async fn observe(
        context: &Context,
        tree: &ModuleTree,
        index: &ModuleIndex,
        facts: &Facts,
    ) -> Result<Self, PhaseError> {
        Ok(match duty(facts) {
            Duty::Nothing | Duty::EndRollback { .. } | Duty::Refused(_) => Self::Nothing,
            Duty::LoadMissing => Self::Missing(prepare_missing(context, tree, index, &facts.missing)?),
            Duty::Swap => {
                let (found, seen) = look_for_blockers(context, index, Look::Whole).await?;
                if !found.blockers.is_empty() {
                    return Ok(Self::Blocked(found));
                }
                let snapshot = match (facts.armed(), seen) {
                    (Some(armed), _) => armed.clone(),
                    (None, Some(seen)) => {
                        new_snapshot(context, index, facts, seen.into_observed(context).await?)?
                    }
                    (None, None) => new_snapshot(context, index, facts, observe_node(context).await?)?,
                };
                Self::Swap(found, SwapFacts::of_swap(context, tree, index, snapshot)?)
            }
            Duty::EndSwap(armed) => {
                Self::EndSwap(SwapFacts::of_half_done(context, tree, index, facts, armed)?)
            }
        })
    }
}

/// What a swap goes by once nothing stands in its way.
#[derive(Debug)]
pub(super) struct SwapFacts {
    /// What is owed to the NICs from the first change on.
    pub(super) snapshot: Snapshot,
    /// The modules to be loaded.
    pub(super) loads: PreparedLoads,
    /// The hooks around unload and load.
    pub(super) hooks: Hooks,
    /// The init script, where that is to do it.
    pub(super) restart: Option<Restart>,
    /// The PFs that are waited for.
    pub(super) awaited: Vec<DeviceAddress>,
}

impl SwapFacts {
    /// For a swap from what runs.
    pub(super) fn of_swap(
        context: &Context,
        tree: &ModuleTree,
        index: &ModuleIndex,
        snapshot: Snapshot,
    ) -> Result<Self, PhaseError> {
        let restart = match context.settings.reload_with {
            ReloadWith::Native => None,
            ReloadWith::InitScript => Some(Restart::observe(context).map_err(SwapError::from)?),
        };
        let mut awaited = pfs_with_netdevs(&snapshot);
        if snapshot.nics.pfs.is_empty() {
            // No driver is not "no PF": such devices come up with the driver, and have nothing that would be owed to them.
            awaited = driverless_devices(context, index)?;
        }
        let loads = prepare_loads(context, tree, index, &snapshot)?;
        Ok(Self { snapshot, loads, hooks: Hooks::find(context), restart, awaited })
    }

    /// For a swap of which only the end is missing.
    fn of_half_done(
        context: &Context,
        tree: &ModuleTree,
        index: &ModuleIndex,
        facts: &Facts,
        armed: &Snapshot,
    ) -> Result<Self, PhaseError> {
        let awaited = pfs_on_their_way(context, armed).map_err(ObserveError::from)?;
        let mut swap = Self {
            snapshot: armed.clone(),
            loads: PreparedLoads::default(),
            hooks: Hooks::default(),
            restart: None,
            awaited,
        };
        if !facts.missing.is_empty() {
            let loaded = LoadedModules::read_graph(&context.host)?;
            let PreparedLoads { beforehand: _, loads, left_out } =
                prepare_loads(context, tree, index, armed)?;
            let loads = loads.without_loaded(&loaded);
            swap.loads = PreparedLoads { beforehand: Vec::new(), loads, left_out };
            swap.hooks = Hooks::find(context);
        }
        Ok(swap)
    }
}

/// The snapshot that a swap from here on would be armed with.
pub(super) fn new_snapshot(
    context: &Context,
    index: &ModuleIndex,
    facts: &Facts,
    mut observed: Observed,
) -> Result<Snapshot, PhaseError> {
    accept_not_known(context, &mut observed)?;
    observed.parameters = given_parameters(context, index, &observed.modules)?;
    observed.lost = still_lost_modules(context, facts.state.clone())?;
    Ok(Snapshot::by_hand(observed).arm())
}

/// What is not known of the NICs blocks also where it has become so since the blockers were looked for; where it is passed over, the
/// snapshot says so, for whoever restores from it.
fn accept_not_known(context: &Context, observed: &mut Observed) -> Result<(), PhaseError> {
    let blockers = not_known(&observed.nics, &observed.network);
    if blockers.is_empty() {
        return Ok(());
    }
    if context.settings.assume_ok.contains(&Assumption::NotKnown) {
        observed.accept_not_known();
        return Ok(());
    }
    Err(BlockersFound { blockers }.into())
}
