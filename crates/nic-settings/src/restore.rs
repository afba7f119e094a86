use std::time::Duration;

use futures_util::future::join_all;
use nic_netlink::{Ethtool, EthtoolError, EthtoolGroup};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::observe::observe_one;
use crate::{DeviceSettings, Gravity, SettingDifference, compare, plan};

/// What is owed to a device, and which it is now.
#[derive(Debug, Clone)]
pub struct Owed<'a> {
    /// What it had.
    pub saved: &'a DeviceSettings,
    /// What it had when the driver under which it was saved had just come up, where that is known.
    pub defaults: Option<&'a DeviceSettings>,
    /// What it has now.
    pub found: &'a DeviceSettings,
}

/// What came of giving settings back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsOutcome {
    /// What was changed, a line each.
    pub changes: Vec<String>,
    /// What could not be changed, a line each, with the kernel's words.
    pub failures: Vec<String>,
    /// What is not as it was.
    pub differences: Vec<SettingDifference>,
}

impl SettingsOutcome {
    /// Whether nothing had to be changed, and nothing differs.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.changes.is_empty() && self.failures.is_empty() && self.differences.is_empty()
    }

    /// Whether all is as it was, but for what the driver does not have.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        !self.differences.iter().any(SettingDifference::is_wrong)
    }
}

/// A second round gives what depends on something that was given in the first: the driver of a device that has fewer channels than it
/// could may offer fewer offloads, too.
const ROUNDS: u32 = 2;

/// Gives devices back what is owed to them, all at once, and compares. Each change has the deadline.
///
/// What one device's driver refuses is that setting's failure. A driver that does not have it at all is none.
pub async fn restore(ethtool: &Ethtool, devices: &[Owed<'_>], deadline: Duration) -> SettingsOutcome {
    let mut outcome = SettingsOutcome::default();
    for done in join_all(devices.iter().map(|owed| give_back(ethtool, owed, deadline))).await {
        outcome.changes.extend(done.changes);
        outcome.failures.extend(done.failures);
        outcome.differences.extend(done.differences);
    }
    outcome
}

async fn give_back(ethtool: &Ethtool, owed: &Owed<'_>, deadline: Duration) -> SettingsOutcome {
    let Owed { saved, defaults, found } = *owed;
    let mut outcome = SettingsOutcome::default();
    let mut found = found.clone();
    let mut refused: Vec<EthtoolGroup> = Vec::new();
    let mut unsupported: Vec<EthtoolGroup> = Vec::new();
    for _ in 0..ROUNDS {
        let changes = plan(saved, defaults, &found);
        let changes: Vec<_> = changes.into_iter().filter(|change| !refused.contains(&change.group)).collect();
        if changes.is_empty() {
            break;
        }
        for change in changes {
            match ethtool.change(found.index, change.group, &change.settings, deadline).await {
                Ok(()) => outcome.changes.push(format!("{}: {change}", saved.name)),
                Err(error) => {
                    refused.push(change.group);
                    if is_unsupported(&error) {
                        unsupported.push(change.group);
                    }
                    let error = error.source;
                    outcome.failures.push(format!("{}: {change}: {error}", saved.name));
                }
            }
        }
        found = observe_one(ethtool, found.index, &found.name).await;
    }
    outcome.differences = compare(saved, defaults, &found);
    for difference in outcome.differences.iter_mut().filter(|one| unsupported.contains(&one.group)) {
        difference.gravity = Gravity::Unsupported;
    }
    outcome
}

/// Whether the driver cannot do it at all (`ETHTOOL_MSG_*_SET` without the operation behind it).
fn is_unsupported(error: &EthtoolError) -> bool {
    error.errno() == Some(Errno::OPNOTSUPP)
}
