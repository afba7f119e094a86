//! What stands on modules.

use std::collections::BTreeSet;

use nic_kmod::{LoadedModule, LoadedModules, ModuleName};

/// Those of `roots` that are loaded and everything on top of them, the one loaded last first.
pub(super) fn with_dependents<'a>(loaded: &'a LoadedModules, roots: &[ModuleName]) -> Vec<&'a LoadedModule> {
    let mut going: BTreeSet<&ModuleName> = BTreeSet::new();
    let mut open: Vec<&LoadedModule> = roots.iter().filter_map(|root| loaded.get(root)).collect();
    while let Some(module) = open.pop() {
        if going.insert(&module.name) {
            open.extend(module.holders.iter().filter_map(|holder| loaded.get(holder)));
        }
    }
    loaded.iter().filter(|module| going.contains(&module.name)).collect()
}
