use nic_sriov::{KernelLinks, LinkSource};

use super::error::PhaseError;
use crate::context::Context;

/// The running kernel's links, for a phase that changes something; `what` says what needs them. Each question may take as long as any
/// other operation: what is under way on other NICs keeps the kernel from answering.
pub(super) async fn kernel_links(context: &Context, what: &'static str) -> Result<KernelLinks, PhaseError> {
    match LinkSource::open(&context.host).await? {
        LinkSource::Kernel(kernel) => Ok(kernel.with_deadline(context.settings.timeout)),
        LinkSource::Recorded { .. } => Err(context.not_running_machine(what).into()),
    }
}
