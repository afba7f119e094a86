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
/// What cannot be removed is logged, and is no failure. An inventory that is not there holds nothing.
pub async fn clean_up_inventory(
    context: &Context,
    inventory: &Path,
    version: &DriverVersion,
) -> Result<CleanedUp, ObtainError> {
    if !context.host.exists(inventory) {
        return Ok(CleanedUp::default());
    }
    let inventory = Inventory::open(&context.host, inventory)?;
    let entry = inventory.entry(&context.kernel, version);
    let holder = holder(&context.host);
    let lock = InventoryLock::acquire(&context.host, &entry, &holder, LOCK_DEADLINE).await?;
    let plan = inventory.plan_clean_up(&context.host, &entry)?;
    Ok(plan.apply(&context.host, lock))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nic_host::Host;

    use super::*;
    use crate::fixture;

    #[tokio::test]
    async fn what_the_driver_makes_superfluous_goes() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), text).unwrap();
        };
        write("proc/sys/kernel/osrelease", "6.12.1\n");
        write("proc/sys/kernel/random/boot_id", "boot\n");
        let context = fixture::context(Host::at(dir.path()), &dir.path().join("state"));
        let (inventory, version) = (Path::new("/inventory"), "25.10-1.2.8.0".parse().unwrap());
        // Nothing is there, and nothing is made.
        let cleaned = clean_up_inventory(&context, inventory, &version).await.unwrap();
        assert!(cleaned.removed.is_empty() && !context.host.exists(inventory));

        for path in ["5.4.0/25.10-1.2.8.0/a.rpm", "6.12.1/25.07/a.rpm", "6.12.1/25.10-1.2.8.0/a.rpm"] {
            write(&format!("inventory/{path}"), "");
        }
        let cleaned = clean_up_inventory(&context, inventory, &version).await.unwrap();
        let removed: Vec<_> = cleaned.removed.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(removed, ["/inventory/5.4.0", "/inventory/6.12.1/25.07"]);
        assert!(context.host.exists("/inventory/6.12.1/25.10-1.2.8.0/a.rpm"));
        // What is no folder is not taken for an empty one.
        write("file", "");
        let error = clean_up_inventory(&context, Path::new("/file"), &version).await.unwrap_err();
        assert!(matches!(error, ObtainError::Inventory(_)), "{error}");
    }
}
