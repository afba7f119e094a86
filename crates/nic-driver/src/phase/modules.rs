//! The family's modules out of the kernel, and others in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use nic_kmod::{
    ForeignReferences, IdentityVerdict, LoadError, LoadPlan, LoadReason, LoadRequest, LoadedModule,
    LoadedModules, ModuleFile, ModuleIndex, ModuleIndexError, ModuleName, OnDisk, ParameterDefaults,
    ReadLoadedError, Resolution, UnloadBlocked, UnloadBlocker, UnloadError, UnloadPlan, UnloadPolicy,
    compare, load, page_in, read_unpacked, unload,
};

use super::Context;
use super::preflight::unload_policy;
use super::reload::ModuleTree;
use super::resume::load_request;
use crate::state::{ModuleParameters, PhaseRecord, Snapshot};

/// How often the unload is planned anew when modules come up under it.
const ROUNDS: usize = 5;
/// How often a module that somebody else is loading is looked at.
const RE_CHECK: Duration = Duration::from_millis(50);

impl ModuleTree {
    /// What modprobe would find: in this tree, and, for what a container's own tree lacks, in the host's.
    pub(super) fn index(&self, context: &Context) -> Result<ModuleIndex, ModuleIndexError> {
        const HOST: &str = "/host";
        let read = |folder: &Path| ModuleIndex::read(&context.host, folder, &context.kernel);
        let index = read(&self.folder())?;
        let of_host = Path::new(HOST).join("lib/modules");
        if *self != Self::Own || !context.host.exists(of_host.join(context.kernel.as_str())) {
            return Ok(index);
        }
        match read(&of_host) {
            Ok(behind) => Ok(index.backed_by(HOST, behind)),
            Err(error) => {
                tracing::info!(error = crate::error_chain(&error), "the host's modules are not looked at");
                Ok(index)
            }
        }
    }
}

/// How much of the stack is unloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it, with everything on top.
    Whole,
    /// What stands on top of the family's own modules, which stay.
    OnTop,
}

/// The modules could not be taken out of the kernel.
#[derive(Debug, thiserror::Error)]
pub enum UnloadStackError {
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// Something has come up since the preflight.
    #[error("something has come up since the preflight")]
    Raced(#[from] UnloadBlocked),
    /// A module could not be unloaded.
    #[error(transparent)]
    Unload(#[from] UnloadError),
    /// Somebody loads modules again as fast as they are unloaded.
    #[error("somebody loads modules while they are unloaded: {}", modules.iter().map(ModuleName::as_str).collect::<Vec<_>>().join(", "))]
    Reloaded {
        /// Those that are there again.
        modules: Vec<ModuleName>,
    },
}

/// Unloads the family's modules and what may go with them. Returns what it unloaded.
///
/// It is planned from what is loaded now, and again whenever a module is held by one that has come up meanwhile: that
/// one goes too, or, when it may not, is named.
pub(super) async fn unload_stack(
    context: &Context,
    phase: &PhaseRecord,
    part: Part,
    deadline: Duration,
) -> Result<Vec<ModuleName>, UnloadStackError> {
    let host = &context.host;
    let roots = context.family.modules.unloaded();
    let staying = match part {
        Part::Whole => Vec::new(),
        Part::OnTop => context.family.modules.own(),
    };
    // What drains is waited for, module by module.
    let policy = UnloadPolicy { foreign_references: ForeignReferences::Expect, ..unload_policy(context) };
    let started = Instant::now();
    let mut gone = Vec::new();
    let mut left = Vec::new();
    let mut round = 0;
    while round < ROUNDS {
        left = match UnloadPlan::compute(&LoadedModules::read_graph(host)?, &roots, &policy) {
            Ok(plan) => plan.order().into_iter().filter(|module| !staying.contains(module)).collect(),
            Err(blocked) if is_passing(&blocked) && started.elapsed() < deadline => {
                tokio::time::sleep(RE_CHECK).await;
                continue;
            }
            Err(blocked) => return Err(blocked.into()),
        };
        if left.is_empty() {
            return Ok(gone);
        }
        round += 1;
        for module in &left {
            let step = phase.step(format!("unload {module}"));
            let unloaded = unload(host, module, deadline).await;
            if let Err(error @ UnloadError::Held { .. }) = &unloaded {
                tracing::warn!(error = crate::error_chain(error), "a module has come up: planned anew");
                step.failed(error);
                break;
            }
            step.record(unloaded)?;
            gone.push(module.clone());
        }
    }
    Err(UnloadStackError::Reloaded { modules: left })
}

/// Whether nothing is in the way but modules that somebody is just loading or unloading.
fn is_passing(blocked: &UnloadBlocked) -> bool {
    blocked.blockers.iter().all(|blocker| matches!(blocker, UnloadBlocker::NotLive { .. }))
}

/// The loading, prepared: whatever has to be read for it has been read.
pub(super) struct PreparedLoads {
    /// What the new modules need of the kernel's own and is not loaded: can be loaded before anything is unloaded.
    pub(super) beforehand: Vec<LoadRequest>,
    loads: Vec<PreparedLoad>,
}

struct PreparedLoad {
    request: LoadRequest,
    /// The parameters among the request's that the module had before.
    carried: BTreeMap<String, String>,
    /// Whether the driver comes up without it: it was only loaded before, or is not of the installed driver.
    may_fail: bool,
}

/// Plans the loading of the family's modules and of those that were loaded before.
pub(super) fn prepare_loads(
    context: &Context,
    tree: &ModuleTree,
    index: &ModuleIndex,
    snapshot: &Snapshot,
) -> Result<PreparedLoads, ReadLoadedError> {
    let with_parameters: BTreeSet<ModuleName> = snapshot.parameters.keys().cloned().collect();
    let plan =
        LoadPlan::compute(&snapshot.wanted_modules(), &context.family.modules.load, &with_parameters, index);
    for missing in &plan.missing {
        tracing::warn!(module = %missing.module, because = %missing.because, "not installed: it will not be loaded");
    }
    let loads = plan.load.iter().map(|step| {
        let mut request = request_of(context, tree, index, &step.module);
        let carried = carried(context, index, snapshot, &step.module);
        request.parameters.extend(carried.clone());
        let may_fail = step.because == LoadReason::WasLoaded || index.root_of(&step.module).is_some();
        PreparedLoad { request, carried, may_fail }
    });
    let loads = loads.collect();
    let loaded = LoadedModules::read_graph(&context.host)?;
    let mut needed = if index.is_backed() { of_host(context, index, &plan) } else { BTreeSet::new() };
    let listed = &context.family.modules.beforehand;
    needed
        .extend(listed.iter().filter(|module| matches!(index.resolve(module), Resolution::File(_))).cloned());
    needed.retain(|module| !loaded.contains(module));
    let beforehand = needed.iter().map(|module| request_of(context, tree, index, module)).collect();
    Ok(PreparedLoads { beforehand, loads })
}

fn request_of(context: &Context, tree: &ModuleTree, index: &ModuleIndex, module: &ModuleName) -> LoadRequest {
    let request = load_request(context, tree, module);
    match index.root_of(module) {
        Some(root) => request.root(root),
        None => request,
    }
}

/// Those of the parameters that a module had before which its new file still has.
fn carried(
    context: &Context,
    index: &ModuleIndex,
    snapshot: &Snapshot,
    module: &ModuleName,
) -> BTreeMap<String, String> {
    let Some(before) = snapshot.parameters.get(module) else { return BTreeMap::new() };
    let file = match OnDisk::read(&context.host, index, module) {
        Ok(OnDisk::File(file)) => file,
        // Whatever is wrong with it, loading it says so.
        Ok(OnDisk::Builtin | OnDisk::Absent) | Err(_) => return BTreeMap::new(),
    };
    let (carried, lost): (BTreeMap<_, _>, BTreeMap<_, _>) =
        before.clone().into_iter().partition(|(name, _)| file.parameters.contains_key(name));
    for (parameter, value) in &lost {
        tracing::warn!(%module, parameter, value, "the installed module has no such parameter any more");
    }
    carried
}

/// The modules and all that they depend on by the index, each once.
fn with_dependencies<'index>(
    index: &'index ModuleIndex,
    modules: impl Iterator<Item = &'index ModuleName>,
) -> BTreeSet<&'index ModuleName> {
    modules.flat_map(|module| index.dependencies(module).iter().chain([module])).collect()
}

/// What modules of the container's tree need and depmod did not find there, since it is the kernel's own.
fn of_host(context: &Context, index: &ModuleIndex, plan: &LoadPlan) -> BTreeSet<ModuleName> {
    let all = with_dependencies(index, plan.load.iter().map(|step| &step.module));
    let mut needed = BTreeSet::new();
    for module in all.into_iter().filter(|module| !index.lacks(module)) {
        let Resolution::File(path) = index.resolve(module) else { continue };
        match ModuleFile::read(&context.host, path) {
            Ok(file) => needed.extend(file.depends),
            Err(error) => {
                tracing::info!(error = crate::error_chain(&error), "its dependencies are not known");
            }
        }
    }
    needed.retain(|module| index.root_of(module).is_some());
    needed
}

impl PreparedLoads {
    /// Loads what is not loaded. Returns how many modules were asked for.
    pub(super) async fn load(
        &self,
        context: &Context,
        phase: &PhaseRecord,
        deadline: Duration,
    ) -> Result<usize, LoadError> {
        let mut count = 0;
        for prepared in &self.loads {
            let step = phase.step(format!("load {}", prepared.request.module));
            match prepared.load(context, deadline).await {
                Ok(()) => step.ok(prepared.detail()),
                Err(error) => {
                    step.failed(&error);
                    if !prepared.may_fail {
                        return Err(error);
                    }
                    tracing::warn!(error = crate::error_chain(&error), "the driver comes up without it");
                }
            }
            count += 1;
        }
        Ok(count)
    }

    /// Reads all files once, so that they are in the page cache when the NIC is away.
    pub(super) fn page_in(&self, context: &Context, index: &ModuleIndex) {
        let all = with_dependencies(index, self.loads.iter().map(|prepared| &prepared.request.module));
        for module in all {
            let Resolution::File(path) = index.resolve(module) else { continue };
            // Only speed is lost when a file cannot be read ahead; loading it meets the reason and names it.
            if let Err(error) = page_in(&context.host, path) {
                tracing::info!(%error, "a module file could not be read ahead");
            }
        }
    }

    /// Leaves out what is loaded.
    pub(super) fn without_loaded(mut self, loaded: &LoadedModules) -> Self {
        self.loads.retain(|prepared| !loaded.contains(&prepared.request.module));
        self
    }
}

impl PreparedLoad {
    async fn load(&self, context: &Context, deadline: Duration) -> Result<(), LoadError> {
        match load(&context.host, &self.request, deadline).await {
            Err(error) if !self.carried.is_empty() => {
                // The new driver may know another range of values; better its own than no driver.
                tracing::warn!(error = crate::error_chain(&error), carried = ?self.carried, "tried without them");
                let mut request = self.request.clone();
                request.parameters.retain(|name, _| !self.carried.contains_key(name));
                load(&context.host, &request, deadline).await
            }
            loaded => loaded,
        }
    }

    fn detail(&self) -> Option<String> {
        let carried: Vec<_> = self.carried.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!carried.is_empty()).then(|| format!("with {}, as before", carried.join(" ")))
    }
}

/// Loads again what came up after the snapshot and was unloaded, as far as there are files of it.
pub(super) async fn load_latecomers(
    context: &Context,
    phase: &PhaseRecord,
    tree: &ModuleTree,
    index: &ModuleIndex,
    latecomers: impl Iterator<Item = &ModuleName>,
    deadline: Duration,
) {
    for module in latecomers.filter(|module| matches!(index.resolve(module), Resolution::File(_))) {
        let step = phase.step(format!("load {module}, which had come up meanwhile"));
        // A failure is in the journal; the driver comes up without it.
        let _ = step.record(load(&context.host, &request_of(context, tree, index, module), deadline).await);
    }
}

/// The parameters that loaded modules were given: those with another value than the default of the file that the
/// module was loaded from. Where that file is not known, none: a default is not guessed.
pub(super) fn given_parameters(
    context: &Context,
    index: &ModuleIndex,
    modules: &[ModuleName],
) -> Result<ModuleParameters, ReadLoadedError> {
    let loaded = LoadedModules::read(&context.host)?;
    let mut given = ModuleParameters::new();
    for module in modules.iter().filter_map(|name| loaded.get(name)) {
        if module.parameters.is_empty() {
            continue;
        }
        let defaults = file_bytes(context, index, module).map(|elf| ParameterDefaults::parse(&elf));
        let Some(Ok(defaults)) = defaults else {
            tracing::info!(module = %module.name, "its file is not known: its parameters are left to modprobe's configuration");
            continue;
        };
        let parameters = defaults.given(module);
        if !parameters.is_empty() {
            given.insert(module.name.clone(), parameters);
        }
    }
    Ok(given)
}

/// The file of a loaded module, unpacked: the one that was kept, or an equal one in the tree.
fn file_bytes(context: &Context, index: &ModuleIndex, module: &LoadedModule) -> Option<Vec<u8>> {
    let kept = context.store.previous(&context.boot_id).ok().flatten();
    let kept = kept.and_then(|kept| kept.modules.into_iter().find(|kept| kept.is(module))?.file);
    if let Some(file) = kept {
        return std::fs::read(context.store.previous_folder().join(file)).ok();
    }
    let on_disk = OnDisk::read(&context.host, index, &module.name).ok()?;
    match (&on_disk, compare(Some(module), &on_disk)) {
        (OnDisk::File(file), IdentityVerdict::Equal(_)) => read_unpacked(&context.host, &file.path).ok(),
        _ => None,
    }
}
