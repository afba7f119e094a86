//! The driver that the distribution brought: the files below `kernel/` of the host's module tree.
//!
//! Vendors' packages put their modules beside that folder (`extra/`, `updates/`, `weak-updates/`), and depmod prefers
//! them; the distribution's files stay where they are.

use std::collections::BTreeMap;
use std::path::Path;

use nic_host::HOST_MOUNT;
use nic_kmod::{ModuleName, find_module_files};

use super::found_module::FoundModule;
use crate::context::Context;

/// The distribution's modules for those of the family that run or that a reload loads, with what they need of the
/// family's others, in the order of loading. Empty when the module without which there is no NIC is not among them.
pub(super) fn find_inbox_modules(context: &Context, running: &[ModuleName]) -> Vec<FoundModule> {
    let modules = &context.family.modules;
    let own = modules.unloaded();
    let tree = Path::new("lib/modules").join(context.kernel.as_str());
    let of_host = Path::new(HOST_MOUNT).join(&tree);
    let folder = if context.host.exists(&of_host) { of_host } else { Path::new("/").join(&tree) };
    let mut files = BTreeMap::new();
    for (name, path) in find_module_files(&context.host, &folder.join("kernel"), &own) {
        files.entry(name).or_insert(path);
    }
    let Some(driver) = modules.identity.first().filter(|driver| files.contains_key(*driver)) else {
        return Vec::new();
    };
    let mut found = BTreeMap::new();
    let mut open: Vec<ModuleName> = running.iter().chain(&modules.load).chain([driver]).cloned().collect();
    while let Some(name) = open.pop() {
        if found.contains_key(&name) {
            continue;
        }
        let Some(module) = files.get(&name).and_then(|path| FoundModule::read(context, path)) else {
            continue;
        };
        open.extend(module.file.depends.iter().cloned());
        found.insert(name, module);
    }
    if !found.contains_key(driver) {
        return Vec::new();
    }
    let depends =
        |name: &ModuleName| found.get(name).map(|module| module.file.depends.clone()).unwrap_or_default();
    let order = in_loading_order(modules.load.iter().chain(found.keys()).cloned().collect(), depends);
    order.into_iter().filter_map(|name| found.remove(&name)).collect()
}

/// The modules and what they depend on, each once and after all it depends on: pure.
fn in_loading_order(
    modules: Vec<ModuleName>,
    depends: impl Fn(&ModuleName) -> Vec<ModuleName>,
) -> Vec<ModuleName> {
    fn visit(
        module: ModuleName,
        depends: &impl Fn(&ModuleName) -> Vec<ModuleName>,
        path: &mut Vec<ModuleName>,
        order: &mut Vec<ModuleName>,
    ) {
        if order.contains(&module) || path.contains(&module) {
            return;
        }
        path.push(module.clone());
        for needed in depends(&module) {
            visit(needed, depends, path, order);
        }
        path.pop();
        order.push(module);
    }
    let mut order = Vec::new();
    for module in modules {
        visit(module, &depends, &mut Vec::new(), &mut order);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<ModuleName> {
        text.split_whitespace().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_needed_comes_first_and_a_circle_ends() {
        let depends = |name: &ModuleName| match name.as_str() {
            "mlx5_ib" => names("ib_uverbs ib_core mlx5_core"),
            "ib_uverbs" => names("ib_core"),
            "mlx5_core" => names("mlxfw"),
            "one" => names("other"),
            "other" => names("one"),
            _ => Vec::new(),
        };
        for (modules, order) in [
            ("mlx5_core mlx5_ib", "mlxfw mlx5_core ib_core ib_uverbs mlx5_ib"),
            ("mlx5_ib mlx5_core", "ib_core ib_uverbs mlxfw mlx5_core mlx5_ib"),
            ("one", "other one"),
            ("", ""),
        ] {
            assert_eq!(in_loading_order(names(modules), depends), names(order), "{modules}");
        }
    }
}
