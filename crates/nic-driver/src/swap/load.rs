//! The family's modules into the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nic_host::Host;
use nic_kmod::{
    LoadError, LoadPlan, LoadRequest, LoadedModules, ModuleFile, ModuleIndex, ModuleName, ReadLoadedError,
    Resolution, not_taken, page_in,
};
use nic_packages::DistributionFamily;

use super::foreseen::LeftOut;
use super::module_tree::ModuleTree;
use super::parameters::parameters_still_known;
use super::refused_modules::NOT_IN_TREE;
use crate::context::Context;
use crate::state::{PhaseRecord, Snapshot, Step};

/// The loading, prepared: whatever has to be read for it has been read.
#[derive(Debug, Clone, Default)]
pub(crate) struct PreparedLoads {
    /// What the new modules need of the kernel's own and is not loaded: can be loaded before anything is unloaded.
    pub(crate) beforehand: Vec<LoadRequest>,
    /// The modules themselves.
    pub(crate) loads: Loads,
    /// What is wanted and has no file.
    pub(crate) left_out: Vec<LeftOut>,
}

/// Modules to be loaded, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Loads(Vec<PreparedLoad>);

#[derive(Debug, Clone)]
struct PreparedLoad {
    request: LoadRequest,
    /// The parameters among the request's that the module had before.
    carried: BTreeMap<String, String>,
    /// Whether the driver works without it: the family does not require it, or it is not of the installed driver.
    may_fail: bool,
}

/// Plans the loading of the family's modules and of those that were loaded before.
pub(crate) fn prepare_loads(
    context: &Context,
    tree: &ModuleTree,
    index: &ModuleIndex,
    snapshot: &Snapshot,
) -> Result<PreparedLoads, ReadLoadedError> {
    let with_parameters: BTreeSet<ModuleName> = snapshot.parameters.keys().cloned().collect();
    let modules = &context.family.modules;
    let plan = LoadPlan::compute(&snapshot.wanted_modules(), &modules.load, &with_parameters, index)
        .with_auxiliary(&modules.auxiliary, index);
    let left_out = plan.missing.iter().map(|missing| LeftOut::new(&missing.module, NOT_IN_TREE)).collect();
    let loads = plan.load.iter().map(|step| {
        let carried = parameters_still_known(context, index, snapshot, &step.module);
        PreparedLoad::new(context, tree, index, &step.module, carried)
    });
    let loads = Loads(loads.collect());
    let listed = modules.beforehand.iter();
    let listed = listed.filter(|module| matches!(index.resolve(module), Resolution::File(_))).cloned();
    let mut needed = host_tree_dependencies(context, index, &plan);
    needed.extend(listed);
    let beforehand = requests_unless_loaded(context, tree, index, &needed)?;
    Ok(PreparedLoads { beforehand, loads, left_out })
}

/// Prepares the loading of modules beside the driver that runs; they are of its own tree.
pub(crate) fn prepare_missing(
    context: &Context,
    tree: &ModuleTree,
    index: &ModuleIndex,
    missing: &[ModuleName],
) -> Result<PreparedLoads, ReadLoadedError> {
    let plan = LoadPlan::compute(&[], missing, &BTreeSet::new(), index);
    let needed = host_tree_dependencies(context, index, &plan);
    let loads = plan.load.iter();
    let loads = loads.map(|step| PreparedLoad::new(context, tree, index, &step.module, BTreeMap::new()));
    let loads = Loads(loads.collect());
    let beforehand = requests_unless_loaded(context, tree, index, &needed)?;
    Ok(PreparedLoads { beforehand, loads, left_out: Vec::new() })
}

fn requests_unless_loaded(
    context: &Context,
    tree: &ModuleTree,
    index: &ModuleIndex,
    modules: &BTreeSet<ModuleName>,
) -> Result<Vec<LoadRequest>, ReadLoadedError> {
    let loaded = LoadedModules::read_graph(&context.host)?;
    let missing = modules.iter().filter(|module| !loaded.contains(module));
    Ok(missing.map(|module| request_of(context, tree, index, module)).collect())
}

/// Asks modprobe for a module of a tree or, where that lacks it, of the one behind it.
pub(super) fn request_of(
    context: &Context,
    tree: &ModuleTree,
    index: &ModuleIndex,
    module: &ModuleName,
) -> LoadRequest {
    let request = load_request(context, tree, module);
    match index.root_of(module) {
        Some(root) => request.root(root),
        None => request,
    }
}

/// Asks modprobe for a module of the family as a reload does.
pub(crate) fn load_request(context: &Context, tree: &ModuleTree, module: &ModuleName) -> LoadRequest {
    let mut request = LoadRequest::new(module.clone());
    // SUSE's modprobe takes its vendor's own modules alone otherwise (`allow_unsupported_modules`).
    request.allow_unsupported = context.distribution == Some(DistributionFamily::Suse);
    if let Some(root) = tree.root() {
        request = request.root(root);
    }
    if context.family.modules.async_probe.contains(module) {
        request = request.parameter("async_probe", "1");
    }
    request
}

/// The modules and all that they depend on by the index, each once.
fn with_dependencies<'index>(
    index: &'index ModuleIndex,
    modules: impl Iterator<Item = &'index ModuleName>,
) -> BTreeSet<&'index ModuleName> {
    modules.flat_map(|module| index.dependencies(module).iter().chain([module])).collect()
}

/// What modules of the container's tree need and depmod did not find there, since it is the kernel's own.
fn host_tree_dependencies(context: &Context, index: &ModuleIndex, plan: &LoadPlan) -> BTreeSet<ModuleName> {
    if !index.is_backed() {
        return BTreeSet::new();
    }
    let all = with_dependencies(index, plan.load.iter().map(|step| &step.module));
    let mut needed = BTreeSet::new();
    for module in all.into_iter().filter(|module| !index.lacks(module)) {
        let Resolution::File(path) = index.resolve(module) else { continue };
        match ModuleFile::read(&context.host, path) {
            Ok(file) => needed.extend(file.depends),
            Err(error) => {
                tracing::info!(
                    %module,
                    error = crate::error_chain(&error),
                    "the dependencies of this module are not known"
                );
            }
        }
    }
    needed.retain(|module| index.root_of(module).is_some());
    needed
}

/// Loads what the driver needs of the kernel's own. A failure is in the journal; the driver that needs it says so, too.
pub(crate) async fn load_beforehand(
    context: &Context,
    phase: &PhaseRecord,
    needed: &[LoadRequest],
    deadline: Duration,
) {
    for request in needed {
        let step = phase.step(Step::LoadNeeded { module: request.module.clone() });
        let _ = step.record(context.machine.load(request, deadline).await);
    }
}

impl Loads {
    /// The modules, in order.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &ModuleName> {
        self.0.iter().map(|prepared| &prepared.request.module)
    }

    /// Loads what is not loaded. Returns the modules that could not be, and that the driver works without.
    pub(crate) async fn load(
        &self,
        context: &Context,
        phase: &PhaseRecord,
        deadline: Duration,
    ) -> Result<Vec<ModuleName>, LoadError> {
        let mut failed = Vec::new();
        for prepared in &self.0 {
            let step = phase.step(Step::Load { module: prepared.request.module.clone() });
            match prepared.load(context, deadline).await {
                Ok(detail) => step.ok(detail),
                Err(error) => {
                    step.failed(&error);
                    if !prepared.may_fail {
                        return Err(error);
                    }
                    tracing::warn!(
                        module = %prepared.request.module,
                        error = crate::error_chain(&error),
                        "module not loaded; the driver works without this one"
                    );
                    failed.push(prepared.request.module.clone());
                }
            }
        }
        Ok(failed)
    }

    /// Reads all files once, so that they are in the page cache when the NIC is away.
    pub(crate) fn page_in(&self, context: &Context, index: &ModuleIndex) {
        let all = with_dependencies(index, self.modules());
        for module in all {
            let Resolution::File(path) = index.resolve(module) else { continue };
            // Only speed is lost when a file cannot be read ahead; loading it meets the reason and names it.
            if let Err(error) = page_in(&context.host, path) {
                tracing::info!(%error, "a module file could not be read ahead");
            }
        }
    }

    /// Leaves out what is loaded.
    pub(crate) fn without_loaded(mut self, loaded: &LoadedModules) -> Self {
        self.0.retain(|prepared| !loaded.contains(&prepared.request.module));
        self
    }
}

impl PreparedLoad {
    fn new(
        context: &Context,
        tree: &ModuleTree,
        index: &ModuleIndex,
        module: &ModuleName,
        carried: BTreeMap<String, String>,
    ) -> Self {
        let mut request = request_of(context, tree, index, module);
        request.parameters.extend(carried.clone());
        let may_fail = !context.family.modules.is_required(module) || index.root_of(module).is_some();
        Self { request, carried, may_fail }
    }

    /// Loads it. Returns with which parameters, and which of them it has not taken, where it had any before.
    async fn load(&self, context: &Context, deadline: Duration) -> Result<Option<String>, LoadError> {
        let module = &self.request.module;
        match context.machine.load(&self.request, deadline).await {
            Err(error) if !self.carried.is_empty() => {
                // The new driver may know another range of values; better its own than no driver.
                tracing::warn!(
                    %module,
                    error = crate::error_chain(&error),
                    parameters = ?self.carried,
                    "loading the module with its earlier parameters failed; loading it with the driver's defaults"
                );
                let mut request = self.request.clone();
                request.parameters.retain(|name, _| !self.carried.contains_key(name));
                context.machine.load(&request, deadline).await?;
            }
            loaded => loaded?,
        }
        Ok(parameters_taken(&context.host, module, &self.carried))
    }
}

/// With which of the parameters that it had before the module runs now, and which it has not taken. `None` where there are none.
pub(crate) fn parameters_taken(
    host: &Host,
    module: &ModuleName,
    carried: &BTreeMap<String, String>,
) -> Option<String> {
    if carried.is_empty() {
        return None;
    }
    let pairs = carried.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let lost = match not_taken(host, module, pairs) {
        Ok(lost) => lost,
        Err(error) => {
            let error = crate::error_chain(&error);
            tracing::warn!(%module, error, "whether the module has its earlier parameters cannot be read");
            return Some(format!("whether it has its earlier parameters cannot be read: {error}"));
        }
    };
    let is_lost = |name: &String| lost.iter().any(|lost| lost.name == *name);
    let taken: Vec<String> = carried
        .iter()
        .filter(|(name, _)| !is_lost(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut parts = Vec::new();
    if !taken.is_empty() {
        parts.push(format!("with {}, as before", taken.join(" ")));
    }
    for difference in &lost {
        tracing::warn!(%module, %difference, "the module has not taken an earlier parameter");
        parts.push(format!("not as before: {difference}"));
    }
    Some(parts.join("; "))
}

/// Loads again what came up after the snapshot and was unloaded, as far as there are files of it.
pub(crate) async fn load_latecomers(
    context: &Context,
    phase: &PhaseRecord,
    tree: &ModuleTree,
    index: &ModuleIndex,
    latecomers: impl Iterator<Item = &ModuleName>,
    deadline: Duration,
) {
    for module in latecomers.filter(|module| matches!(index.resolve(module), Resolution::File(_))) {
        let step = phase.step(Step::LoadLatecomer { module: module.clone() });
        // A failure is in the journal; the driver comes up without it.
        let _ = step.record(context.machine.load(&request_of(context, tree, index, module), deadline).await);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fixture;

    /// A tree of a distribution, with the family mlx5.
    fn context(os_release: &str) -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("proc/sys/kernel/osrelease", "6.4.0-150600.23-default\n"),
            ("proc/sys/kernel/random/boot_id", "boot\n"),
            ("etc/os-release", os_release),
        ] {
            fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
            fs::write(dir.path().join(file), text).unwrap();
        }
        let context = fixture::context(Host::at(dir.path()), &dir.path().join("state"));
        (dir, context)
    }

    #[test]
    fn suse_loads_what_its_vendor_does_not_support() {
        for (os_release, tree, command) in [
            (
                "ID=sles\nID_LIKE=suse\n",
                ModuleTree::Own,
                "modprobe --allow-unsupported -- mlx5_core 'async_probe=1'",
            ),
            (
                "ID=rhel\n",
                ModuleTree::Below("/host".into()),
                "modprobe -d /host -- mlx5_core 'async_probe=1'",
            ),
            ("ID=ubuntu\n", ModuleTree::Own, "modprobe -- mlx5_core 'async_probe=1'"),
            ("", ModuleTree::Own, "modprobe -- mlx5_core 'async_probe=1'"),
        ] {
            let (_dir, context) = context(os_release);
            let request = load_request(&context, &tree, &"mlx5_core".parse().unwrap());
            assert_eq!(request.invocation().unwrap().to_string(), command, "{os_release}");
        }
    }
}
