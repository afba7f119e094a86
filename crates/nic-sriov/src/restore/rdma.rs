//! The names of RDMA devices, when all of them are back: how long those are waited for that have not come.

use std::time::Duration;

use super::executor::Executor;
use super::step_error::StepError;
use crate::NicState;
use crate::machine::Machine;
use crate::plan::{rdma_names, rdma_renames};

/// How often it is looked whether RDMA devices have come: nobody says when they do, and they may come after the netdevs.
const LOOKS: usize = 10;
/// Between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

impl<M: Machine> Executor<'_, M> {
    /// Gives the RDMA devices the names that they had.
    pub(super) async fn give_rdma_names(&self, saved: &NicState) {
        let wanted = rdma_names(saved);
        if wanted.iter().all(|wanted| wanted.names.is_empty()) {
            return;
        }
        let mut looks = 1;
        let names = loop {
            let mut names = Vec::new();
            for wanted in &wanted {
                names.push((wanted, self.machine.rdma_devices(&wanted.device).await));
            }
            // What is in another network namespace is not waited for.
            let is_missing = names.iter().any(|(wanted, now)| {
                now.unread().is_none() && now.as_set().map_or(0, Vec::len) < wanted.names.len()
            });
            if !is_missing || looks == LOOKS {
                break names;
            }
            looks += 1;
            self.machine.after(BETWEEN_LOOKS).await;
        };
        let names: Vec<_> = names
            .into_iter()
            .map(|(wanted, now)| (wanted, now.as_set().cloned().unwrap_or_default()))
            .collect();
        for rename in rdma_renames(&names) {
            let _in_progress = self.in_progress(&rename.component, &rename);
            let renamed = self.machine.rename_rdma(&rename.from, &rename.to).await;
            self.note_step(&rename.component, &rename, renamed.map_err(StepError::from));
        }
    }
}
