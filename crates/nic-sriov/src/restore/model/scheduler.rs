//! Who goes on next: the restore's questions and changes, and what happens beside it, one at a time, in an order that a seed chooses.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::world::World;

/// The order in which things go on, and when the process is killed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fate {
    pub(super) seed: u64,
    /// How many times somebody goes on before the process is killed; `None`: it is not.
    pub(super) life: Option<usize>,
}

/// Small numbers that look random.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        // The constants of MMIX.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// Whether something that is waited for has come, within the future itself.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `future`, which lives on `world`, to its end; `None` when it was killed.
pub(super) fn run<T>(world: &World, future: impl Future<Output = T>, fate: Fate) -> Option<T> {
    let mut future = pin!(future);
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    let mut context = Context::from_waker(&waker);
    let mut dice = Dice(fate.seed);
    for turn in 0.. {
        loop {
            flag.0.store(false, Ordering::Relaxed);
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return Some(value);
            }
            if !flag.0.load(Ordering::Relaxed) {
                break;
            }
        }
        if fate.life == Some(turn) {
            return None;
        }
        world.go_on(|choices| dice.below(choices));
    }
    unreachable!("the turns do not end");
}
