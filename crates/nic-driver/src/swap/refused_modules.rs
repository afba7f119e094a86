//! What of the modules that a reload loads the running kernel would refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use nic_kmod::{
    CandidateModule, LoadPlan, LoadRefusal, LoadedModules, ModuleFileError, ModuleGate, ModuleIndex,
    ModuleName, Resolution,
};

use super::blocker::{Blocker, BlockerKind};
use super::dependents::with_dependents;
use super::foreseen::LeftOut;
use super::found_module::FoundModule;
use super::unload_policy::unload_policy;
use crate::context::Context;

/// Why a module is left out that is in none of the trees.
pub(super) const NOT_IN_TREE: &str = "the module tree has no such module";

/// The kernel's rules, and what is loaded and goes.
pub(super) struct Refusals {
    gate: ModuleGate,
    /// What a reload unloads.
    going: BTreeSet<ModuleName>,
    /// What is loaded and stays.
    staying: BTreeSet<ModuleName>,
}

/// What is refused, or lost.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Without these the driver does not come up.
    pub(super) blockers: Vec<Blocker>,
    /// What will not be loaded, and that the driver works without.
    pub(super) left_out: Vec<LeftOut>,
}

impl Refusals {
    pub(super) fn read(context: &Context, index: &ModuleIndex, loaded: &LoadedModules) -> Self {
        let gate = ModuleGate::read(&context.host, &context.kernel, index, loaded);
        let going = with_dependents(loaded, &context.family.modules.unloaded());
        let going: BTreeSet<ModuleName> = going.into_iter().map(|module| module.name.clone()).collect();
        let staying = loaded.iter().map(|module| module.name.clone());
        Self { gate, staying: staying.filter(|name| !going.contains(name)).collect(), going }
    }

    /// Judges what a reload loads from this tree, with all that it needs.
    pub(super) fn of_tree(&self, context: &Context, index: &ModuleIndex) -> Refused {
        let modules = &context.family.modules;
        let may_come_back = unload_policy(context).may_unload;
        let before: Vec<ModuleName> = self.going.iter().cloned().collect();
        let plan = LoadPlan::compute(&before, &modules.load, &BTreeSet::new(), index)
            .with_auxiliary(&modules.auxiliary, index);
        let mut refused = Refused::default();
        for lost in plan.missing.iter().map(|step| &step.module) {
            // What was not allowed to go is in the way by itself.
            if modules.unloaded().contains(lost) || may_come_back.contains(lost) {
                refused.left_out.push(LeftOut::new(lost, NOT_IN_TREE));
            }
        }
        let wanted = plan.load.into_iter().map(|step| step.module);
        let candidates = self.read_with_dependencies(context, index, wanted.collect());
        let files: Vec<&CandidateModule> =
            candidates.values().filter_map(|read| read.as_ref().ok()).collect();
        let required = required(context, index, &candidates);
        for (name, read) in &candidates {
            let reasons = match read {
                Ok(module) => {
                    let mut reasons = self.gate.refusals(&module.file);
                    reasons.extend(self.gate.unknown_symbols(module, &files, &self.going));
                    reasons.into_iter().map(|reason| (kind_of(&reason), reason.to_string())).collect()
                }
                Err(error) => vec![(BlockerKind::ModuleFile, crate::error_chain(error))],
            };
            for (kind, reason) in reasons {
                if required.contains(name) {
                    refused.blockers.push(blocker(kind, name, read.as_ref().ok(), &reason));
                } else {
                    refused.left_out.push(LeftOut::new(name, reason));
                }
            }
        }
        // It is one fact, and not one of each module.
        if let Some(disabled) =
            refused.blockers.iter().find(|blocker| blocker.kind == BlockerKind::ModulesDisabled)
        {
            refused.blockers = vec![disabled.clone()];
            refused.left_out.clear();
        }
        refused
    }

    /// Why the kernel would refuse one of these files, if they were gone back to. Their symbols are left aside: what they need of the
    /// kernel's own is not among them.
    pub(super) fn of_way_back<'a>(&self, mut files: impl Iterator<Item = &'a FoundModule>) -> Option<String> {
        files.find_map(|found| {
            let reasons = self.gate.refusals(&found.file);
            reasons.first().map(|reason| format!("{}: {reason}", found.file.name))
        })
    }

    /// These modules and what they need and is not loaded, each read once.
    fn read_with_dependencies(
        &self,
        context: &Context,
        index: &ModuleIndex,
        wanted: Vec<ModuleName>,
    ) -> BTreeMap<ModuleName, Result<CandidateModule, ModuleFileError>> {
        let mut read = BTreeMap::new();
        let mut open = wanted;
        while !open.is_empty() {
            let paths: Vec<(ModuleName, PathBuf)> = open
                .drain(..)
                .filter(|name| !self.staying.contains(name) && !read.contains_key(name))
                .filter_map(|name| match index.resolve(&name) {
                    Resolution::File(path) => Some((name, path)),
                    Resolution::Builtin | Resolution::Absent => None,
                })
                .collect();
            for (name, module) in CandidateModule::read_all(&context.host, paths) {
                if let Ok(module) = &module {
                    open.extend(module.file.depends.iter().cloned());
                }
                read.insert(name, module);
            }
        }
        read
    }
}

/// The modules without which the driver does not come up: those that the family requires, and what they need.
fn required(
    context: &Context,
    index: &ModuleIndex,
    candidates: &BTreeMap<ModuleName, Result<CandidateModule, ModuleFileError>>,
) -> BTreeSet<ModuleName> {
    let modules = &context.family.modules;
    let is_required = |name: &&ModuleName| modules.is_required(name) && index.root_of(name).is_none();
    let mut open: Vec<ModuleName> = candidates.keys().filter(is_required).cloned().collect();
    let mut required = BTreeSet::new();
    while let Some(name) = open.pop() {
        if let Some(Ok(module)) = candidates.get(&name) {
            open.extend(module.file.depends.iter().filter(|needed| !required.contains(*needed)).cloned());
        }
        required.insert(name);
    }
    required
}

fn kind_of(reason: &LoadRefusal) -> BlockerKind {
    match reason {
        LoadRefusal::Disabled => BlockerKind::ModulesDisabled,
        LoadRefusal::NameRefused => BlockerKind::RefusedName,
        LoadRefusal::Unsigned(_) | LoadRefusal::UnknownSigner { .. } => BlockerKind::Signature,
        LoadRefusal::Release(_) | LoadRefusal::Flags { .. } => BlockerKind::Vermagic,
        LoadRefusal::UnknownSymbols(_) => BlockerKind::Symbols,
    }
}

fn blocker(kind: BlockerKind, name: &ModuleName, module: Option<&CandidateModule>, reason: &str) -> Blocker {
    let what = match (kind, module) {
        (BlockerKind::ModulesDisabled, _) => reason.to_owned(),
        (_, Some(module)) => {
            format!("the kernel would refuse {name} ({}): {reason}", module.file.path.display())
        }
        (_, None) => format!("the kernel would refuse {name}: {reason}"),
    };
    let remedy = match kind {
        BlockerKind::ModulesDisabled => "reboot the node with the new driver installed",
        BlockerKind::RefusedName => "take the name from module_blacklist= and reboot",
        BlockerKind::Signature => "install modules that are signed with a key that the kernel trusts",
        BlockerKind::ModuleFile => "install the driver's packages again",
        _ => "install a driver that was built for the running kernel",
    };
    Blocker { kind, what, modules: Vec::new(), remedy: remedy.to_owned(), user: None }
}
