//! What scenarios need besides the programs: made right before them, since it depends on the programs.

use cargo_metadata::Metadata;
use lab_guest::scenario::Scenario;

use crate::lab::{Kernel, Lab, Programs};
use crate::{pipeline, pod};

/// Makes all that these scenarios need.
pub(crate) fn make(
    lab: &Lab,
    programs: &Programs,
    metadata: &Metadata,
    due: &[(&Scenario, Kernel)],
) -> anyhow::Result<()> {
    if due.iter().any(|(scenario, _)| scenario.needs.is_built()) {
        pipeline::build(lab, programs, metadata)?;
    }
    for kernel in Kernel::ALL {
        if due.iter().any(|(scenario, on)| scenario.needs.pods() && *on == kernel) {
            pod::build(lab, programs, metadata, kernel)?;
        }
    }
    Ok(())
}

/// Whether one of them needs the distribution's image.
pub(crate) fn image(due: &[(&Scenario, Kernel)]) -> bool {
    due.iter().any(|(scenario, _)| scenario.needs.is_built() || scenario.needs.pods())
}
