//! The laws of a snapshot's life, tried on every order of commands, kills, reboots and changes by others.
//!
//! The machine is a model: which driver is loaded and which is installed, how the NICs are configured (a number, of which
//! none is the default), whether somebody has marked the node as ready. The commands of the model are as short as can be,
//! and take every decision from [`SnapshotState`], as the phases do, with the real store on a real folder.

use nic_host::BootId;
use proptest::prelude::*;

use super::*;
use crate::state::store::tests::snapshot;

/// What an administrator, a command, or fate does.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// Packages with another driver are installed.
    Install(u8),
    /// A command, killed before its n-th durable step; none if it has fewer.
    Reload {
        killed_at: Option<u8>,
    },
    Restore {
        from_record: bool,
        killed_at: Option<u8>,
    },
    Snapshot,
    Terminate {
        killed_at: Option<u8>,
    },
    Reboot,
    /// Somebody gives the NICs another configuration.
    Configure(u32),
    /// Somebody else swaps the driver, and the NICs lose what they had.
    SwapByHand,
}

/// A node. The configuration that is owed is kept in the snapshot's `taken_at`, which no decision reads.
struct Node {
    store: StateStore,
    _folder: tempfile::TempDir,
    boot: u32,
    loaded: u8,
    installed: u8,
    /// 0: the driver's defaults.
    configuration: u32,
    ready: bool,
    /// What was there when something was last owed, by the model's own account.
    owed: Option<u32>,
    steps_left: Option<u8>,
}

/// The process was killed.
struct Killed;

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            store: StateStore::new(folder.path()).of_family("igb"),
            _folder: folder,
            boot: 1,
            loaded: 1,
            installed: 1,
            configuration: 0,
            ready: false,
            owed: None,
            steps_left: None,
        }
    }

    fn boot_id(&self) -> BootId {
        BootId(format!("boot-{}", self.boot))
    }

    fn state(&self) -> SnapshotState {
        self.store.snapshot_state(&self.boot_id(), "igb").unwrap()
    }

    fn observed(&self) -> Snapshot {
        let mut now = snapshot();
        now.boot_id = self.boot_id();
        now.taken_at = Timestamp::from_second(i64::from(self.configuration)).unwrap();
        now
    }

    fn configuration_of(snapshot: &Snapshot) -> u32 {
        u32::try_from(snapshot.taken_at.as_second()).unwrap()
    }

    /// One durable step; the process may be killed before it.
    fn step(&mut self) -> Result<(), Killed> {
        match &mut self.steps_left {
            Some(0) => Err(Killed),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn reload(&mut self) -> Result<(), Killed> {
        if self.loaded == self.installed {
            return Ok(());
        }
        match self.state() {
            SnapshotState::Armed(_) => {}
            SnapshotState::None | SnapshotState::ByHand(_) | SnapshotState::Record(_) => {
                self.step()?;
                self.ready = false;
                self.step()?;
                self.owed = Some(self.configuration);
                self.store.arm(&self.observed().arm()).unwrap();
            }
        }
        self.step()?;
        self.configuration = 0;
        self.step()?;
        self.loaded = self.installed;
        Ok(())
    }

    fn restore(&mut self, from_record: bool, give_readiness: bool) -> Result<(), Killed> {
        let snapshot = match self.state().restore_duty(from_record) {
            RestoreDuty::NoRecord => return Ok(()),
            RestoreDuty::NothingOwed => {
                if give_readiness && self.loaded == self.installed {
                    self.step()?;
                    self.ready = true;
                }
                return Ok(());
            }
            RestoreDuty::Restore(snapshot) => *snapshot,
        };
        let wanted = Self::configuration_of(&snapshot);
        if snapshot.is_armed() || wanted != self.configuration {
            self.step()?;
            self.ready = false;
        }
        let was_armed = snapshot.is_armed();
        let mut snapshot = snapshot;
        if !was_armed && wanted != self.configuration {
            self.step()?;
            snapshot = snapshot.arm();
            self.owed = Some(wanted);
            self.store.arm(&snapshot).unwrap();
        }
        self.step()?;
        self.configuration = wanted;
        self.step()?;
        self.store.write_snapshot(&snapshot.verify()).unwrap();
        self.owed = None;
        if give_readiness {
            self.step()?;
            self.ready = true;
        }
        Ok(())
    }

    fn terminate(&mut self) -> Result<(), Killed> {
        self.step()?;
        self.ready = false;
        if self.state().armed().is_some() {
            self.restore(false, false)?;
        }
        Ok(())
    }

    fn snapshot(&mut self) {
        if self.state().may_be_replaced() {
            self.store.write_snapshot(&self.observed()).unwrap();
        }
    }

    fn happens(&mut self, event: Event) {
        let killed_at = match event {
            Event::Reload { killed_at }
            | Event::Restore { killed_at, .. }
            | Event::Terminate { killed_at } => killed_at,
            _ => None,
        };
        self.steps_left = killed_at;
        let ended = match event {
            Event::Install(driver) => {
                self.installed = driver;
                Ok(())
            }
            Event::Reload { .. } => self.reload(),
            Event::Restore { from_record, .. } => self.restore(from_record, true),
            Event::Snapshot => {
                self.snapshot();
                Ok(())
            }
            Event::Terminate { .. } => self.terminate(),
            Event::Reboot => {
                self.boot += 1;
                (self.configuration, self.ready, self.owed) = (0, false, None);
                self.loaded = self.installed;
                Ok(())
            }
            Event::Configure(configuration) => {
                // While something is owed the NICs are the program's: nobody else configures a half restored node.
                if self.owed.is_none() {
                    self.configuration = configuration;
                }
                Ok(())
            }
            Event::SwapByHand => {
                if self.owed.is_none() {
                    self.configuration = 0;
                }
                Ok(())
            }
        };
        // A kill loses nothing but what was in memory.
        if let Err(Killed) = ended {
            assert!(killed_at.is_some());
        }
        self.steps_left = None;
    }
}

fn event() -> impl Strategy<Value = Event> {
    let killed_at = || prop_oneof![2 => Just(None), 1 => (0_u8..7).prop_map(Some)];
    prop_oneof![
        2 => (1_u8..4).prop_map(Event::Install),
        4 => killed_at().prop_map(|killed_at| Event::Reload { killed_at }),
        4 => (any::<bool>(), killed_at())
            .prop_map(|(from_record, killed_at)| Event::Restore { from_record, killed_at }),
        1 => Just(Event::Snapshot),
        2 => killed_at().prop_map(|killed_at| Event::Terminate { killed_at }),
        1 => Just(Event::Reboot),
        3 => (1_u32..1000).prop_map(Event::Configure),
        1 => Just(Event::SwapByHand),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_truth_is_kept_and_nothing_else_is_undone(
        events in proptest::collection::vec(event(), 1..24)
    ) {
        let mut node = Node::new();
        for event in events {
            let (configuration, state) = (node.configuration, node.state());
            let equal = node.loaded == node.installed;
            node.happens(event);
            let after = node.state();

            // What is owed stays known until it was given back.
            if let Some(owed) = node.owed {
                match &after {
                    SnapshotState::Armed(armed) => prop_assert_eq!(Node::configuration_of(armed), owed),
                    other => prop_assert!(false, "{:?} is owed, and the snapshot is {}", owed, other),
                }
            }
            // Ready means that nothing is owed, and that the NICs are not half restored.
            prop_assert!(!(node.ready && matches!(after, SnapshotState::Armed(_))), "ready while armed");
            // A record, and another boot's snapshot, bind nobody.
            let owes_nothing = matches!(state, SnapshotState::None | SnapshotState::Record(_));
            let asks_for_nothing = match event {
                Event::Reload { .. } => equal,
                Event::Restore { from_record, .. } => !from_record,
                Event::Terminate { .. } | Event::Snapshot | Event::Install(_) => true,
                Event::Reboot | Event::Configure(_) | Event::SwapByHand => false,
            };
            if owes_nothing && asks_for_nothing {
                prop_assert_eq!(node.configuration, configuration, "undone by {:?} on {}", event, state);
            }
        }

        // From wherever: one reload and one restore that are not cut off make the node ready.
        let wanted = match (node.owed, node.state()) {
            (Some(owed), _) => owed,
            // What an administrator has taken is for the restore, unless a swap comes between.
            (None, SnapshotState::ByHand(by_hand)) if node.loaded == node.installed => {
                Node::configuration_of(&by_hand)
            }
            (None, _) => node.configuration,
        };
        node.happens(Event::Reload { killed_at: None });
        node.happens(Event::Restore { from_record: false, killed_at: None });
        prop_assert!(node.ready);
        prop_assert_eq!(node.configuration, wanted);
        prop_assert!(matches!(node.state(), SnapshotState::Record(_) | SnapshotState::None));
        // And a supervisor that runs the two at every start changes nothing from then on.
        node.happens(Event::Configure(7));
        node.happens(Event::Reload { killed_at: None });
        node.happens(Event::Restore { from_record: false, killed_at: None });
        prop_assert_eq!((node.configuration, node.ready), (7, true));
        // Unless somebody asks for what was.
        let record = node.state().record();
        node.happens(Event::Restore { from_record: true, killed_at: None });
        let expected = record.as_ref().map_or(7, Node::configuration_of);
        prop_assert_eq!(node.configuration, expected);
    }
}

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
        let json = |snapshot: &Option<Snapshot>| serde_json::to_value(snapshot).unwrap();
        assert_eq!(json(&store.snapshot().unwrap()), json(&before));
        store.disarm(bytes.as_deref());
        assert_eq!(json(&store.snapshot().unwrap()), json(&before));
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
            "num_vfs": 0, "drivers_autoprobe": true, "eswitch": "not_there", "netdev": "not_there",
            "rdma": "not_there", "vfs": [],
            "representors": [],
        }))
        .unwrap()
    };
    let mut armed = snapshot().arm();
    armed.nics.pfs = vec![pf("0000:01:00.0"), pf("0000:02:00.0")];
    let lost = armed.nics.pfs[1].address.clone();
    let after = armed.clone().forget(&lost).forget(&lost);
    assert!(after.is_armed());
    let left: Vec<_> = after.nics.pfs.iter().map(|pf| pf.address.clone()).collect();
    assert_eq!((left, after.forgotten), (vec![armed.nics.pfs[0].address.clone()], vec![lost]));
}
