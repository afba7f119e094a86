use std::path::Path;
use std::time::Duration;

use nic_build::{CleanedUp, Inventory, InventoryLock};
use nic_host::DriverVersion;

use super::obtain::holder;
use crate::context::Context;
use crate::phase::obtain_error::ObtainError;

/// Superfluous packages hurt nobody for one more start.
const LOCK_DEADLINE: Duration = Duration::from_secs(1);

/// Removes from the inventory what the driver of this version makes superfluous: packages for other kernels and of other versions.
///
/// To be called once the driver has been loaded and verified, and not before: until then an earlier one may be what is gone back to.
/// What cannot be removed is logged, and is no failure.
pub async fn clean_up_inventory(
    context: &Context,
    inventory: &Path,
    version: &DriverVersion,
) -> Result<CleanedUp, ObtainError> {
    let inventory = Inventory::open(&context.host, inventory)?;
    let entry = inventory.entry(&context.kernel, version);
    let holder = holder(&context.host);
    let lock = InventoryLock::acquire(&context.host, &entry, &holder, LOCK_DEADLINE).await?;
    let plan = inventory.plan_clean_up(&context.host, &entry)?;
    Ok(plan.apply(&context.host, lock))
}
