//! Disks that are full or read-only.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use nic_build::{Inventory, InventoryLock, InventoryLockError, Stored, Trust};
use nic_host::{Host, error_chain};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::fixture::{FOLDER, Fixture, INVENTORY, KERNEL_FOLDER, key};

/// A tmpfs of 256 KiB, gone with the value; `None` without the right to mount one.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(folder: &Path, read_only: bool) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let flags = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        if let Err(error) = mount("tmpfs", folder, "tmpfs", flags, c"size=256k") {
            // Where this must be tested, being unable to is a failure.
            assert!(std::env::var_os("CI").is_none(), "cannot mount a tmpfs: {error}");
            writeln!(std::io::stderr(), "SKIPPED: cannot mount a tmpfs: {error}").unwrap();
            return None;
        }
        Some(Self(folder.to_path_buf()))
    }

    fn make_read_only(&self) {
        mount_remount(&self.0, MountFlags::RDONLY, "").unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_is_named_and_nothing_is_left_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    let Some(_disk) = SmallDisk::mount(&host.path(INVENTORY), false) else { return };
    let fixture = Fixture::at(host);
    fixture.store(&key("old")).await;
    let large = PathBuf::from("/build/large.rpm");
    fixture.host.write_durably(&large, &vec![7; 1 << 20]).unwrap();
    let packages = [fixture.packages[0].clone(), large];
    let error =
        fixture.entry.store(&fixture.host, &fixture.lock().await, &packages, &key("new")).unwrap_err();
    let chain = error_chain(&error);
    assert!(chain.contains("large.rpm") && chain.contains("No space left on device"), "{chain}");
    assert_eq!(fixture.host.list(KERNEL_FOLDER).unwrap().len(), 5, "what was copied is removed");
    assert_eq!(fixture.trust(&key("old")), Some(Trust::Sha256), "what was stored is whole");
    assert_eq!(fixture.trust(&key("new")), None);

    // Full to the last byte: not even a checksum finds room.
    fixture.entry.wipe(&fixture.host, &fixture.lock().await).unwrap();
    let mut filler = std::fs::File::create(fixture.path(&format!("{INVENTORY}/filler"))).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    let lock = InventoryLock::acquire(&fixture.host, &fixture.entry, "test", std::time::Duration::ZERO).await;
    let error = match lock {
        Ok(lock) => error_chain(
            &fixture.entry.store(&fixture.host, &lock, &fixture.packages, &key("new")).unwrap_err(),
        ),
        Err(error) => error_chain(&error),
    };
    assert!(error.contains(INVENTORY) && error.contains("No space left on device"), "{error}");
    assert_eq!(fixture.look_up(&key("new")), Stored::Absent);
}

#[tokio::test]
async fn a_read_only_inventory_is_read_and_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    let Some(disk) = SmallDisk::mount(&host.path(INVENTORY), false) else { return };
    let fixture = Fixture::at(host);
    fixture.store(&key("flags")).await;
    let lock = fixture.lock().await;
    // A remount needs that nobody writes; the lock's file is open for writing.
    drop(lock);
    disk.make_read_only();
    assert_eq!(fixture.trust(&key("flags")), Some(Trust::Sha256));
    let again =
        InventoryLock::acquire(&fixture.host, &fixture.entry, "test", std::time::Duration::ZERO).await;
    let Err(error @ InventoryLockError::File { .. }) = again else { panic!("{again:?}") };
    let chain = error_chain(&error);
    assert!(chain.contains(".nic-driver.lock") && chain.contains("Read-only file system"), "{chain}");
    assert!(fixture.host.exists(FOLDER));

    let empty = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(&empty.path().join("inventory"), true) else { return };
    let host = Host::at(empty.path());
    let inventory = Inventory::open(&host, "/inventory").unwrap();
    let entry = inventory.entry(&"6.8.0-31-generic".parse().unwrap(), &"25.10".parse().unwrap());
    assert_eq!(entry.look_up(&host, &key("flags")).unwrap(), Stored::Absent);
    let refused = InventoryLock::acquire(&host, &entry, "test", std::time::Duration::ZERO).await.unwrap_err();
    assert!(error_chain(&refused).contains("Read-only file system"), "{refused}");
}

#[tokio::test]
async fn a_checksum_that_cannot_be_stored_leaves_no_entry() {
    let fixture = Fixture::new();
    // A mount point is neither replaced nor removed.
    let Some(_disk) = SmallDisk::mount(&fixture.host.path(&fixture.entry.sha256), false) else { return };
    let lock = fixture.lock().await;
    let error = fixture.entry.store(&fixture.host, &lock, &fixture.packages, &key("flags")).unwrap_err();
    assert!(error_chain(&error).contains("25.10-1.2.8.0.sha256"), "{}", error_chain(&error));
    assert_eq!(fixture.trust(&key("flags")), None);
    assert!(!fixture.incumbent_reuses(&key("flags").settings));
}
