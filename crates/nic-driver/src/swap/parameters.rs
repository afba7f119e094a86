//! Parameters that modules were given: found out before a swap, and given again after it.

use std::collections::BTreeMap;

use nic_kmod::{
    IdentityVerdict, LoadedModule, LoadedModules, ModuleIndex, ModuleName, OnDisk, ParameterDefaults,
    ReadLoadedError, read_unpacked,
};

use super::backup_plan::{candidate_files, find_file};
use crate::context::Context;
use crate::state::{ModuleParameters, Snapshot};

/// The parameters that loaded modules were given: those with another value than the default of the file that the
/// module was loaded from, whether it is kept already or is to be. Where that file is not known, none: a default is not guessed.
pub(crate) fn given_parameters(
    context: &Context,
    index: &ModuleIndex,
    modules: &[ModuleName],
) -> Result<ModuleParameters, ReadLoadedError> {
    let loaded = LoadedModules::read(&context.host)?;
    let mut given = ModuleParameters::new();
    let mut candidates = None;
    for module in modules.iter().filter_map(|name| loaded.get(name)) {
        if module.parameters.is_empty() {
            continue;
        }
        let kept = || defaults_of(context, index, module);
        let found = || {
            // All trees are walked only where nothing nearer tells, and once.
            let candidates = candidates.get_or_insert_with(|| candidate_files(context, modules));
            let content = find_file(context, module, candidates)?.content(context).ok()?;
            ParameterDefaults::parse(&content).ok()
        };
        let Some(defaults) = kept().or_else(found) else {
            tracing::info!(
                module = %module.name,
                "the file of this loaded module is not known: its parameters are left to modprobe's configuration"
            );
            continue;
        };
        let parameters = defaults.given(module);
        if !parameters.is_empty() {
            given.insert(module.name.clone(), parameters);
        }
    }
    Ok(given)
}

/// The defaults of a loaded module's parameters: as they were kept, or from an equal file in the tree.
fn defaults_of(context: &Context, index: &ModuleIndex, module: &LoadedModule) -> Option<ParameterDefaults> {
    let kept = context.store.module_backups(&context.boot_id).ok().flatten();
    let kept = kept.and_then(|kept| kept.modules.into_iter().find(|kept| kept.is_same_build(module)));
    if let Some(kept) = kept.filter(|kept| !kept.defaults.is_empty()) {
        return Some(kept.defaults);
    }
    let on_disk = OnDisk::read(&context.host, index, &module.name).ok()?;
    let content = match (&on_disk, IdentityVerdict::of(Some(module), &on_disk)) {
        (OnDisk::File(file), IdentityVerdict::Equal(_)) => read_unpacked(&context.host, &file.path).ok()?,
        _ => return None,
    };
    ParameterDefaults::parse(&content).ok()
}

/// Those of the parameters that a module had before which its new file still has.
pub(super) fn parameters_still_known(
    context: &Context,
    index: &ModuleIndex,
    snapshot: &Snapshot,
    module: &ModuleName,
) -> BTreeMap<String, String> {
    let Some(before) = snapshot.parameters.get(module) else { return BTreeMap::new() };
    let file = match OnDisk::read(&context.host, index, module) {
        Ok(OnDisk::File(file)) => file,
        // A file that cannot be read is reported when it is loaded.
        Ok(OnDisk::Builtin | OnDisk::Absent) | Err(_) => return BTreeMap::new(),
    };
    let (known, lost): (BTreeMap<_, _>, BTreeMap<_, _>) =
        before.clone().into_iter().partition(|(name, _)| file.parameters.contains_key(name));
    for (parameter, value) in &lost {
        tracing::warn!(%module, parameter, value, "the installed module has no such parameter any more");
    }
    known
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use nic_host::Host;

    use super::*;
    use crate::fixture;
    use crate::state::{ModuleBackup, ModuleBackups};

    #[test]
    fn what_was_given_is_told_from_kept_defaults_when_the_file_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("proc/sys/kernel/osrelease", "6.12.1\n"),
            ("proc/sys/kernel/random/boot_id", "boot\n"),
            ("proc/modules", "mlx5_core 1 0 - Live 0x0\n"),
            ("sys/module/mlx5_core/srcversion", "0123456789ABCDEF0123456\n"),
            ("sys/module/mlx5_core/parameters/prof_sel", "3\n"),
            ("sys/module/mlx5_core/parameters/debug_mask", "0\n"),
            ("sys/module/mlx5_core/parameters/own", "7\n"),
        ] {
            fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
            fs::write(dir.path().join(file), text).unwrap();
        }
        let context = fixture::context(Host::at(dir.path()), &dir.path().join("state"));
        let index = ModuleIndex::parse(Path::new("/lib/modules/6.12.1"), "", "", "").unwrap();
        let module: ModuleName = "mlx5_core".parse().unwrap();
        let given = || given_parameters(&context, &index, std::slice::from_ref(&module)).unwrap();
        assert!(given().is_empty(), "a default is guessed");

        let loaded = LoadedModule::read(&context.host, &module).unwrap().unwrap();
        let defaults = serde_json::from_str("{\"prof_sel\":\"2\",\"debug_mask\":\"0\"}").unwrap();
        let kept = ModuleBackup { defaults, ..ModuleBackup::without_file(&loaded) };
        let kept =
            ModuleBackups::now(context.boot_id.clone(), context.kernel.clone(), vec![kept], Vec::new());
        context.store.write_module_backups(&kept).unwrap();
        let expected = BTreeMap::from([("prof_sel".to_owned(), "3".to_owned())]);
        assert_eq!(given(), ModuleParameters::from([(module.clone(), expected)]));
    }
}
