use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::result::{LONGEST_LINE, MOST_LINES};
use crate::status::BuildProgress;
use crate::text::printable;

/// By which a build tells how far it is. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Reporter {
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    progress: BuildProgress,
    tail: VecDeque<String>,
}

impl Reporter {
    /// A line of the build's output. The last ones are kept, for the error.
    pub fn line(&self, line: &str) {
        let line = printable(line, LONGEST_LINE);
        let mut told = self.told();
        if told.tail.len() == MOST_LINES {
            told.tail.pop_front();
        }
        told.tail.push_back(line.clone());
        told.progress.last_line = line;
    }

    /// How many packages are built, of how many where that is known.
    pub fn packages(&self, done: u32, known: Option<u32>) {
        let mut told = self.told();
        told.progress.packages_done = done;
        told.progress.packages_known = known;
    }

    pub(super) fn progress(&self) -> BuildProgress {
        self.told().progress.clone()
    }

    pub(super) fn tail(&self) -> Vec<String> {
        self.told().tail.iter().cloned().collect()
    }

    /// What is behind the lock is whole after each line, whoever panicked.
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_log_is_bounded() {
        let reporter = Reporter::default();
        for number in 0..1000 {
            reporter.line(&format!("{number} {}", "x".repeat(10_000)));
        }
        let tail = reporter.tail();
        assert_eq!(tail.len(), MOST_LINES);
        assert!(tail.last().unwrap().starts_with("999 "));
        assert!(tail.iter().all(|line| line.chars().count() <= LONGEST_LINE + 1));
        reporter.packages(3, Some(20));
        let progress = reporter.progress();
        assert_eq!((progress.packages_done, progress.packages_known), (3, Some(20)));
        assert!(progress.last_line.starts_with("999 "));
    }
}
