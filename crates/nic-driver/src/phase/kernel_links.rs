use nic_sriov::{KernelLinks, LinkSource};

use super::error::PhaseError;
use crate::context::Context;

/// The running kernel's links; `what` says what needs them.
pub(super) async fn kernel_links(context: &Context, what: &'static str) -> Result<KernelLinks, PhaseError> {
    match LinkSource::open(&context.host).await? {
        LinkSource::Kernel(kernel) => Ok(kernel),
        LinkSource::Recorded { .. } => Err(context.not_running_machine(what).into()),
    }
}
