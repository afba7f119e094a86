//! Checkpoints: which of the family's modules are loaded at one moment, for the report.

use nic_kmod::{LoadedModules, ModuleName};

use crate::context::Context;
use crate::state::{Entry, ModuleCheckpoint, Moment, PhaseRecord};

/// Writes down which modules are loaded now.
pub(crate) fn checkpoint(context: &Context, phase: &PhaseRecord, moment: Moment) {
    let loaded = match LoadedModules::read(&context.host) {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::warn!(
                error = crate::error_chain(&error),
                %moment,
                "the loaded modules cannot be read: the report lacks this checkpoint"
            );
            return;
        }
    };
    let of_module = |name: &ModuleName| {
        let module = loaded.get(name);
        ModuleCheckpoint {
            module: name.clone(),
            loaded: module.is_some(),
            version: module.and_then(|module| module.version.clone()),
            srcversion: module.and_then(|module| module.srcversion.as_ref()).map(ToString::to_string),
            build_id: module.and_then(|module| module.build_id.as_ref()).map(ToString::to_string),
        }
    };
    let modules = context.family.modules.identity.iter().map(of_module).collect();
    phase.write(Entry::Checkpoint { label: moment.into(), modules, nics: Vec::new() });
}
