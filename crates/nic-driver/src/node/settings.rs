//! What is set of the NICs' netdevs: saved with them, and given back when they are back.

use nic_host::WriteError;
use nic_netlink::{ConnectError, Ethtool, IfIndex, LinkName, Unread};
use nic_settings::{DeviceSettings, Owed, SettingsOutcome, observe, plan, restore};
use nic_sriov::{LinkSource, NicState, ObserveError, Operation};

use super::network::{find_netdevs, netdevs};
use super::nics_look::NicsLook;
use crate::context::Context;
use crate::machine::Nics;
use crate::state::{Entry, PhaseRecord, SavedSettings, Snapshot, Step};

/// What was set of the netdevs could not be given back.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The NICs could not be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The kernel's ethtool could not be asked.
    #[error("what was set of the NICs cannot be given back")]
    Connect(#[from] ConnectError),
    /// What the netdevs came up with could not be noted.
    #[error("what the NICs came up with cannot be noted")]
    Write(#[from] WriteError),
}

/// What is set of the netdevs of these NICs. A tree's settings are not recorded.
pub(crate) async fn observe_settings(
    context: &Context,
    source: &LinkSource,
    nics: &NicState,
    earlier: Vec<DeviceSettings>,
) -> SavedSettings {
    let LinkSource::Kernel(_) = source else { return SavedSettings::default() };
    let links: Vec<_> =
        netdevs(nics).into_values().map(|netdev| (netdev.index, netdev.name.clone())).collect();
    let devices = match connect(context) {
        Ok(ethtool) => observe(&ethtool, &links).await,
        Err(error) => {
            let unread = Unread::of(&error);
            links.iter().map(|(index, name)| DeviceSettings::not_known(*index, name, &unread)).collect()
        }
    };
    SavedSettings::of(devices, earlier)
}

fn connect(context: &Context) -> Result<Ethtool, ConnectError> {
    Ok(Ethtool::connect()?.with_deadline(context.settings.timeout))
}

/// The devices that are back, each with what it has now.
struct Found<'a> {
    ethtool: Ethtool,
    /// What is owed, and what is there.
    devices: Vec<(&'a DeviceSettings, DeviceSettings)>,
}

async fn find<'a>(
    context: &Context,
    look: &NicsLook<'_>,
    snapshot: &'a Snapshot,
) -> Result<Found<'a>, SettingsError> {
    let found = find_netdevs(context, look, snapshot).await?;
    let here =
        snapshot.settings.devices.iter().filter_map(|saved| Some((saved, *found.here.get(&saved.index)?)));
    let here: Vec<(&DeviceSettings, IfIndex)> = here.collect();
    let links: Vec<(IfIndex, LinkName)> =
        here.iter().map(|(saved, now)| (*now, saved.name.clone())).collect();
    let ethtool = connect(context)?;
    let devices = observe(&ethtool, &links).await;
    let saved = here.into_iter().map(|(saved, _)| saved);
    Ok(Found { ethtool, devices: saved.zip(devices).collect() })
}

/// Whether something that was set of the netdevs differs now and [`restore_settings`] would give it back.
pub(crate) async fn settings_differ(
    context: &Context,
    nics: &dyn Nics,
    look: &NicsLook<'_>,
    snapshot: &Snapshot,
) -> Result<bool, SettingsError> {
    if !can_be_asked(nics, snapshot) {
        return Ok(false);
    }
    let found = find(context, look, snapshot).await?;
    let differs = |(saved, now): &(&DeviceSettings, DeviceSettings)| {
        !plan(saved, snapshot.settings.defaults_of(saved.index), now).is_empty()
    };
    Ok(found.devices.iter().any(differs))
}

/// Gives back what was set of the netdevs, now that they are back. What they came up with is in the snapshot afterwards, and on disk before
/// anything is given back.
pub(crate) async fn restore_settings(
    context: &Context,
    phase: &PhaseRecord,
    nics: &dyn Nics,
    look: &NicsLook<'_>,
    snapshot: &mut Snapshot,
) -> Result<Option<SettingsOutcome>, SettingsError> {
    if !can_be_asked(nics, snapshot) {
        return Ok(None);
    }
    let step = phase.step(Step::RestoreSettings);
    let result = find_and_restore(context, look, snapshot).await;
    match &result {
        Ok(outcome) => step.ok(Some(settings_summary(outcome))),
        Err(error) => step.failed(error),
    }
    let outcome = result?;
    for failure in &outcome.failures {
        tracing::warn!(failure, "a setting of a NIC was refused");
    }
    phase.write(Entry::SettingsResult { result: Box::new(outcome.clone()) });
    Ok(Some(outcome))
}

/// Whether something was set, on netdevs of the kernel that runs: a model's have no settings.
fn can_be_asked(nics: &dyn Nics, snapshot: &Snapshot) -> bool {
    nics.kernel().is_some() && !snapshot.settings.devices.is_empty()
}

async fn find_and_restore(
    context: &Context,
    look: &NicsLook<'_>,
    snapshot: &mut Snapshot,
) -> Result<SettingsOutcome, SettingsError> {
    let Found { ethtool, devices } = find(context, look, snapshot).await?;
    let mut settings = snapshot.settings.clone();
    if snapshot.is_armed() {
        let now: Vec<_> = devices.iter().map(|(_, now)| now.clone()).collect();
        settings.note_fresh(&now);
    }
    let owed: Vec<_> = devices
        .iter()
        .map(|(saved, found)| Owed { saved, defaults: settings.defaults_of(saved.index), found })
        .collect();
    let changes = owed.iter().any(|owed| !plan(owed.saved, owed.defaults, owed.found).is_empty());
    if changes && snapshot.is_armed() {
        // A process that is killed from here on has left devices that are not fresh any more.
        let mut noted = snapshot.clone();
        noted.settings.clone_from(&settings);
        context.store.write_snapshot(&noted)?;
    }
    let deadline = context.settings.patience().of(Operation::Attribute);
    let outcome = restore(&ethtool, &owed, deadline).await;
    snapshot.settings = settings;
    Ok(outcome)
}

/// In one sentence.
pub(crate) fn settings_summary(outcome: &SettingsOutcome) -> String {
    let different = outcome.differences.iter().filter(|one| one.is_wrong()).count();
    let different = if different == 0 { String::new() } else { format!("; {different} differences") };
    format!("{} changes of what was set of the NICs{different}", outcome.changes.len())
}
