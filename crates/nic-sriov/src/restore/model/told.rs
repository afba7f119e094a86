//! One restore on the model, and what is known of it afterwards.

use std::sync::Mutex;
use std::time::Duration;

use super::kernel::Kernel;
use super::scheduler::{Fate, run};
use super::world::World;
use crate::restore::{RestoreOptions, restore_on};
use crate::{Component, Difference, NicState, RestoreEvent, RestoreOutcome};

/// What came of a restore.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) outcome: RestoreOutcome,
    pub(super) events: Vec<RestoreEvent>,
    /// When each event was told.
    pub(super) times: Vec<Duration>,
    /// How long it took, by the model's clock.
    pub(super) took: Duration,
}

impl Told {
    /// What is not as saved.
    pub(super) fn wrong(&self) -> Vec<&Difference> {
        self.outcome.differences.iter().filter(|difference| difference.is_wrong()).collect()
    }

    /// The VFs that were bound a second time.
    pub(super) fn retried(&self) -> impl Iterator<Item = &Component> {
        self.outcome.vfs.iter().filter(|vf| vf.retried).map(|vf| &vf.component)
    }
}

/// How restores go about their work here.
pub(super) fn options() -> RestoreOptions {
    RestoreOptions { jobs: 2, ..RestoreOptions::default() }
}

/// Restores `saved` on the model; `None` when the process was killed.
pub(super) fn restore(kernel: &mut Kernel, saved: &NicState, fate: Fate) -> Option<Told> {
    let world = World::new(kernel.clone(), options().patience);
    let events = Mutex::new(Vec::new());
    let note = |event| {
        let at = world.note_event(&event);
        events.lock().unwrap().push((at, event));
    };
    let outcome = run(&world, restore_on(&world, saved, options(), &note), fate);
    let took;
    (*kernel, took) = world.end();
    let (times, events): (Vec<_>, Vec<_>) = events.into_inner().unwrap().into_iter().unzip();
    outcome.map(|outcome| Told { outcome: outcome.unwrap(), events, times, took })
}
