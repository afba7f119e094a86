//! Two containers that store at the same time.

use std::fs;
use std::time::{Duration, Instant};

use nic_build::{InventoryLock, InventoryLockError};

use crate::fixture::{Fixture, KERNEL_FOLDER, key};

const LOCK: &str = "/mnt/drivers-inventory/5.14.0-570.73.1.el9_6.aarch64+64k/.nic-driver.lock";

async fn acquire(
    fixture: &Fixture,
    holder: &str,
    deadline: Duration,
) -> Result<InventoryLock, InventoryLockError> {
    InventoryLock::acquire(&fixture.host, &fixture.entry, holder, deadline).await
}

#[tokio::test]
async fn the_second_waits_for_the_first() {
    let fixture = Fixture::new();
    let first = acquire(&fixture, "pod mofed-1 on node a\nforged", Duration::ZERO).await.unwrap();
    let error = acquire(&fixture, "mofed-2", Duration::from_millis(300)).await.unwrap_err();
    let folder = fixture.path(KERNEL_FOLDER);
    assert_eq!(
        error.to_string(),
        format!(
            "pod mofed-1 on node aforged has stored packages in {} for more than 300ms",
            folder.display()
        )
    );
    let began = Instant::now();
    let (second, ()) = tokio::join!(acquire(&fixture, "mofed-2", Duration::from_secs(60)), async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        drop(first);
    });
    let second = second.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(400) && began.elapsed() < Duration::from_secs(20));
    assert_eq!(fs::read_to_string(fixture.path(LOCK)).unwrap(), "mofed-2\n");
    drop(second);
    assert_eq!(fs::read_to_string(fixture.path(LOCK)).unwrap(), "");
}

#[tokio::test]
async fn trial_w8_a_file_of_somebody_else_in_the_locks_place_is_neither_emptied_nor_followed() {
    let fixture = Fixture::new();
    let (lock, precious) = (fixture.path(LOCK), fixture.path("/precious"));
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    fs::write(&precious, "x").unwrap();
    for text in ["two\nlines\n", &"x".repeat(300), "\u{0}"] {
        fs::write(&lock, text).unwrap();
        let error = acquire(&fixture, "mofed-1", Duration::ZERO).await.unwrap_err();
        assert!(matches!(error, InventoryLockError::File { .. }), "{error}");
        assert_eq!(fs::read_to_string(&lock).unwrap(), text);
    }
    fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(&precious, &lock).unwrap();
    acquire(&fixture, "mofed-1", Duration::ZERO).await.unwrap_err();
    assert_eq!(fs::read_to_string(&precious).unwrap(), "x");
    fs::remove_file(&lock).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&lock).status().unwrap().success());
    acquire(&fixture, "mofed-1", Duration::ZERO).await.unwrap_err();
    fs::remove_file(&lock).unwrap();
    // What a dead holder has left, whole or in part, is a lock's.
    for text in ["pod mofed-1 on node a\n", "pod mof", ""] {
        fs::write(&lock, text).unwrap();
        drop(acquire(&fixture, "mofed-2", Duration::ZERO).await.unwrap());
        assert_eq!(fs::read_to_string(&lock).unwrap(), "");
    }
}

#[tokio::test]
async fn a_lock_whose_file_was_removed_is_no_lock() {
    let fixture = Fixture::new();
    // Whoever waits has the file open; the holder's clean-up removes it, and a third locks the new one.
    let first = acquire(&fixture, "first", Duration::ZERO).await.unwrap();
    let (second, third) = tokio::join!(acquire(&fixture, "second", Duration::from_secs(60)), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        fs::remove_dir_all(fixture.path(KERNEL_FOLDER)).unwrap();
        let third = acquire(&fixture, "third", Duration::ZERO).await.unwrap();
        drop(first);
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(fs::read_to_string(fixture.path(LOCK)).unwrap(), "third\n");
        drop(third);
    });
    let () = third;
    drop(second.unwrap());
}

#[tokio::test]
async fn a_lock_that_cannot_be_is_named() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path(LOCK)).unwrap();
    let error = acquire(&fixture, "x", Duration::ZERO).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot lock {}", fixture.path(LOCK).display()));
    fs::remove_dir_all(fixture.path(KERNEL_FOLDER)).unwrap();
    fs::write(fixture.path(KERNEL_FOLDER), "").unwrap();
    let error = acquire(&fixture, "x", Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, InventoryLockError::File { .. }), "{error}");
}

#[tokio::test]
async fn what_a_process_that_died_has_left_goes_unless_another_is_at_work() {
    let fixture = Fixture::new();
    let (lock, kernel_folder) = (fixture.path(LOCK), fixture.path(KERNEL_FOLDER));
    // Nobody ever was here: nothing is made.
    fixture.entry.remove_leftovers(&fixture.host, "next");
    assert!(!kernel_folder.exists());

    let half = kernel_folder.join(".25.10-1.2.8.0.partial");
    fs::create_dir_all(&half).unwrap();
    fs::write(&lock, "a process that died\n").unwrap();
    let held = acquire(&fixture, "at work", Duration::ZERO).await.unwrap();
    fixture.entry.remove_leftovers(&fixture.host, "next");
    assert!(half.exists());
    assert_eq!(fs::read_to_string(&lock).unwrap(), "at work\n");
    drop(held);

    fs::write(&lock, "a process that died\n").unwrap();
    fixture.entry.remove_leftovers(&fixture.host, "next");
    assert!(!half.exists());
    assert_eq!(fs::read_to_string(&lock).unwrap(), "");

    // What is whole stays.
    fixture.store(&key("whole")).await;
    fs::write(&lock, "a process that died\n").unwrap();
    fixture.entry.remove_leftovers(&fixture.host, "next");
    assert!(fixture.trust(&key("whole")).is_some());
    assert_eq!(fs::read_to_string(&lock).unwrap(), "");
}
