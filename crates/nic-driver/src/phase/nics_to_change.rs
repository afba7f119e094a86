use super::error::PhaseError;
use crate::context::Context;
use crate::machine::Nics;

/// The NICs, for a phase that changes something; `what` says what needs a machine that acts. Each question to them may take as long as
/// any other operation: what is under way on other NICs keeps the kernel from answering.
pub(super) async fn nics_to_change(
    context: &Context,
    what: &'static str,
) -> Result<Box<dyn Nics>, PhaseError> {
    let nics = context.machine.nics(context.settings.timeout).await?;
    nics.ok_or_else(|| context.not_running_machine(what).into())
}
