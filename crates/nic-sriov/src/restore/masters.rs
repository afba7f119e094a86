//! Masters that take a port from their own daemon alone, when all else is done: how long the daemons are waited for.

use std::time::Duration;

use nic_netlink::Links;

use super::executor::Executor;
use super::ledger::PortOfDaemon;
use crate::Operation;
use crate::machine::Machine;
use crate::plan::NetdevStep;

/// Between two looks: nobody says when a daemon has got round to its port.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

impl<M: Machine> Executor<'_, M> {
    /// Waits until the daemons have taken their ports back.
    pub(super) async fn await_daemons(&self) {
        let mut ports = std::mem::take(&mut self.ledger().ports_of_daemons);
        if ports.is_empty() {
            return;
        }
        let looks = self.patience.of(Operation::Attribute).as_millis() / BETWEEN_LOOKS.as_millis();
        for _ in 0..=looks {
            match self.machine.links().await {
                Ok(links) => ports.retain(|port| !is_taken(port, &links)),
                Err(error) => tracing::debug!(%error, "whether ports were taken back cannot be read"),
            }
            if ports.is_empty() {
                return;
            }
            self.machine.after(BETWEEN_LOOKS).await;
        }
        for port in ports {
            self.fail(&port.component, &NetdevStep::Master(Some(port.master)), &port.refused);
        }
    }
}

fn is_taken(port: &PortOfDaemon, links: &Links) -> bool {
    let master = links.get(port.index).and_then(|link| links.get(link.master?));
    master.is_some_and(|master| master.name == port.master)
}
