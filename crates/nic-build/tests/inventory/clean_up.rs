//! What goes after a driver was loaded and verified.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use nic_build::{InventoryLock, Trust};

use crate::fixture::{FOLDER, Fixture, INVENTORY, KERNEL_FOLDER, VERSION, key};

#[tokio::test]
async fn other_kernels_and_versions_go_and_this_one_stays() {
    let fixture = Fixture::new();
    fixture.store(&key("flags")).await;
    for file in [
        "readme.txt",
        "5.14.0-503.el9/25.10-1.2.8.0/a.rpm",
        "5.14.0-503.el9/25.10-1.2.8.0.checksum",
        "6.8.0-31-generic/empty/x",
    ] {
        fixture.host.write_durably(format!("{INVENTORY}/{file}"), b"x").unwrap();
    }
    for name in [
        "25.07-0.9.7.0/a.rpm",
        "25.07-0.9.7.0.checksum",
        "25.07-0.9.7.0.buildconfig",
        ".25.07.partial/a.rpm",
        "notes",
    ] {
        fixture.host.write_durably(format!("{KERNEL_FOLDER}/{name}"), b"x").unwrap();
    }
    symlink("/build", fixture.path(&format!("{INVENTORY}/link"))).unwrap();
    let plan = fixture.inventory.plan_clean_up(&fixture.host, &fixture.entry).unwrap();
    assert_eq!(plan.in_use, Vec::<PathBuf>::new());
    let cleaned = plan.apply(&fixture.host, fixture.lock().await);
    assert_eq!(cleaned.removed, plan.remove);
    assert_eq!(cleaned.removed.len(), 7);
    assert!(cleaned.failed.is_empty());
    let kernel = KERNEL_FOLDER.rsplit('/').next().unwrap();
    assert_eq!(fixture.host.list(INVENTORY).unwrap(), [kernel, "link", "readme.txt"]);
    assert_eq!(fixture.host.list(KERNEL_FOLDER).unwrap().len(), 5);
    assert_eq!(fixture.trust(&key("flags")), Some(Trust::Sha256));
    // Once more there is nothing to do, and the lock is free.
    let again = fixture.inventory.plan_clean_up(&fixture.host, &fixture.entry).unwrap();
    assert_eq!(again.remove, Vec::<PathBuf>::new());
    assert!(fixture.host.exists("/build/a.rpm"));
}

#[tokio::test]
async fn an_empty_kernel_folder_goes_too() {
    let fixture = Fixture::new();
    fixture.host.write_durably(format!("{KERNEL_FOLDER}/25.07/a.rpm"), b"x").unwrap();
    let plan = fixture.inventory.plan_clean_up(&fixture.host, &fixture.entry).unwrap();
    let cleaned = plan.apply(&fixture.host, fixture.lock().await);
    assert_eq!(
        cleaned.removed,
        [format!("{KERNEL_FOLDER}/25.07"), KERNEL_FOLDER.to_owned()].map(PathBuf::from)
    );
    assert_eq!(fixture.host.list(INVENTORY).unwrap(), Vec::<String>::new());
    fixture.store(&key("flags")).await;
}

#[tokio::test]
async fn what_cannot_be_removed_or_listed_stops_nothing() {
    let fixture = Fixture::new();
    fixture.store(&key("flags")).await;
    for file in ["5.14.0-1.el9/a.rpm", "6.1.0-1-amd64/a.rpm"] {
        fixture.host.write_durably(format!("{INVENTORY}/{file}"), b"x").unwrap();
    }
    // A mount point cannot be removed.
    let stuck = fixture.path(&format!("{INVENTORY}/5.14.0-1.el9"));
    let Some(_mounted) = crate::disks::SmallDisk::mount(&stuck, false) else { return };
    let plan = fixture.inventory.plan_clean_up(&fixture.host, &fixture.entry).unwrap();
    let cleaned = plan.apply(&fixture.host, fixture.lock().await);
    assert_eq!(cleaned.removed, [PathBuf::from(format!("{INVENTORY}/6.1.0-1-amd64"))]);
    let [failed] = cleaned.failed.as_slice() else { panic!("{:?}", cleaned.failed) };
    assert_eq!(failed.to_string(), format!("cannot remove {}", stuck.display()));
    assert_eq!(fixture.trust(&key("flags")), Some(Trust::Sha256));

    // A kernel's folder that is none.
    let other = Fixture::new();
    fs::write(other.path(KERNEL_FOLDER), "").unwrap();
    let plan = other.inventory.plan_clean_up(&other.host, &other.entry).unwrap();
    assert_eq!(plan.remove, Vec::<PathBuf>::new());
}

#[tokio::test]
async fn an_inventory_without_a_folder_has_nothing_and_one_that_cannot_be_listed_is_an_error() {
    let fixture = Fixture::new();
    fs::remove_dir_all(fixture.path(INVENTORY)).unwrap();
    let plan = fixture.inventory.plan_clean_up(&fixture.host, &fixture.entry).unwrap();
    assert_eq!(plan.remove, Vec::<PathBuf>::new());
    symlink("drivers-inventory", fixture.path(INVENTORY)).unwrap();
    let error = fixture.inventory.plan_clean_up(&fixture.host, &fixture.entry).unwrap_err();
    assert!(nic_host::error_chain(&error).contains(INVENTORY), "{error}");
}

#[tokio::test]
async fn a_kernel_that_is_being_built_for_stays() {
    let fixture = Fixture::new();
    fixture.store(&key("flags")).await;
    let other = fixture.inventory.entry(&"6.8.0-31-generic".parse().unwrap(), &VERSION.parse().unwrap());
    let building =
        InventoryLock::acquire(&fixture.host, &other, "another node", Duration::ZERO).await.unwrap();
    let plan = fixture.inventory.plan_clean_up(&fixture.host, &fixture.entry).unwrap();
    assert_eq!((plan.remove.len(), plan.in_use.as_slice()), (0, [other.kernel_folder.clone()].as_slice()));
    drop(building);
    let plan = fixture.inventory.plan_clean_up(&fixture.host, &fixture.entry).unwrap();
    assert_eq!(plan.remove, std::slice::from_ref(&other.kernel_folder));
    // Who begins after the plan was made is left alone, too.
    let late = InventoryLock::acquire(&fixture.host, &other, "another node", Duration::ZERO).await.unwrap();
    assert_eq!(plan.apply(&fixture.host, fixture.lock().await).removed, Vec::<PathBuf>::new());
    assert!(fixture.host.exists(&other.kernel_folder));
    drop(late);
    assert_eq!(plan.apply(&fixture.host, fixture.lock().await).removed, [other.kernel_folder]);
    assert!(fixture.host.exists(FOLDER));
}
