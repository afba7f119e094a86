//! What a stored snapshot means, and arming that fails. What must hold of a node over commands, kills and reboots is in `model/laws.rs`.

use nic_host::BootId;

use super::*;
use crate::state::store::tests::snapshot;

#[test]
fn arming_that_fails_half_way_leaves_what_was_there() {
    for before in [None, Some(snapshot().verify())] {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path()).of_family("igb");
        if let Some(before) = &before {
            store.write_snapshot(before).unwrap();
        }
        let bytes = std::fs::read(store.snapshot_path()).ok();
        // As when the folder cannot be synced after the file was replaced.
        store.write_snapshot(&snapshot().arm()).unwrap();
        store.disarm(bytes.as_deref());
        assert_eq!(store.snapshot().unwrap(), before);
        store.disarm(bytes.as_deref());
        assert_eq!(store.snapshot().unwrap(), before);
    }
}

#[test]
fn a_folder_that_takes_nothing_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("igb"), "no folder").unwrap();
    let store = StateStore::new(folder.path()).of_family("igb");
    store.arm(&snapshot().arm()).unwrap_err();
    assert_eq!(std::fs::read_to_string(folder.path().join("igb")).unwrap(), "no folder");
}

#[test]
fn another_boots_snapshot_is_none_and_two_families_do_not_share_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = StateStore::new(folder.path());
    let (igb, mlx5) = (store.clone().of_family("igb"), store.of_family("mlx5"));
    igb.write_snapshot(&snapshot().arm()).unwrap();
    let state = |store: &StateStore, boot: &str, family| {
        store.snapshot_state(&BootId(boot.into()), family).unwrap().to_string()
    };
    assert_eq!(state(&igb, "boot-1", "igb"), "armed");
    assert_eq!(state(&igb, "boot-2", "igb"), "none");
    assert_eq!(state(&mlx5, "boot-1", "mlx5"), "none");
}

#[test]
fn a_lost_pf_that_is_let_go_is_remembered_and_owed_nothing() {
    let pf = |address: &str| -> nic_sriov::PfState {
        serde_json::from_value(serde_json::json!({
            "address": format!("pci/{address}"), "pci_id": null, "driver": "igb", "total_vfs": 7,
            "num_vfs": 0, "drivers_autoprobe": true, "eswitch": null, "netdev": null, "vfs": [],
            "representors": [],
        }))
        .unwrap()
    };
    let mut armed = snapshot().arm();
    armed.nics.pfs = vec![pf("0000:01:00.0"), pf("0000:02:00.0")];
    let lost = armed.nics.pfs[1].address.clone();
    let after = armed.clone().forget(&lost).forget(&lost);
    assert!(after.is_armed());
    assert_eq!((after.nics.pfs.as_slice(), after.forgotten.as_slice()), (&armed.nics.pfs[..1], &[lost][..]));
}
