//! What tests of phases are given.

use std::path::Path;
use std::time::Duration;

use nic_host::Host;

use crate::context::{Context, Lossy, ManagementNic, MayUnload, ReloadWith, Settings};
use crate::family::NicFamily;
use crate::state::{Journal, JournalEvent, StateStore};

/// A machine with the family mlx5, and its state in `state`.
pub(crate) fn context(host: Host, state: &Path) -> Context {
    let settings = Settings {
        timeout: Duration::from_secs(1),
        jobs: 1,
        readiness_file: "/ready".into(),
        blacklist_file: "/blacklist".into(),
        lock_file: "/lock".into(),
        lock_patience: Duration::ZERO,
        grace: None,
        management_nic: ManagementNic::Warn,
        kubernetes_api: None,
        retry_rolled_back: false,
        without_way_back: false,
        lossy: Lossy::Warn,
        assume_ok: Vec::new(),
        reload_with: ReloadWith::Native,
        force: false,
        may_unload: MayUnload::default(),
    };
    Context::new(host, NicFamily::open("mlx5").unwrap(), StateStore::new(state), settings).unwrap()
}

/// The journal of a version that told phases and steps by their texts alone, as it lay on disk: each step at least once, over the lives of
/// two driver containers and a power cut. Nobody changes that file: nodes have such.
pub(crate) fn earlier_journal() -> Vec<JournalEvent> {
    let folder = tempfile::tempdir().unwrap();
    let store = StateStore::new(folder.path());
    std::fs::write(store.journal_path(), include_str!("../../../fixtures/state/schema-2/journal.jsonl"))
        .unwrap();
    Journal::read(&store).unwrap()
}
