use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{LoadedModule, LoadedModules, ModuleName, ModuleState};

/// What may be unloaded beside the modules that are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnloadPolicy {
    /// Modules that may be unloaded when they stand on top of one that is to go.
    pub may_unload: BTreeSet<ModuleName>,
    /// What is to be done about users that are no modules.
    pub foreign_references: ForeignReferences,
}

/// What is to be done about users of a module that are no modules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForeignReferences {
    /// They block the plan.
    #[default]
    Block,
    /// They are expected to go while the plan is carried out, e.g. because a module that goes earlier holds them
    /// without using a symbol (`try_module_get`).
    Expect,
}

/// Which modules are unloaded, and in what order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnloadPlan {
    /// Groups of modules, in order. The modules of one group do not depend on each other, and could be unloaded at
    /// the same time once those of all earlier groups have gone.
    pub groups: Vec<Vec<ModuleName>>,
}

/// A plan that cannot be made: everything that stands in its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("the modules cannot be unloaded: {}", blockers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct UnloadBlocked {
    /// What stands in its way; never empty.
    pub blockers: Vec<UnloadBlocker>,
}

/// One thing that stands in the way of unloading a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "blocker", rename_all = "snake_case")]
pub enum UnloadBlocker {
    /// A module that may not be unloaded stands on top of it.
    Holder {
        /// The module that was to go.
        module: ModuleName,
        /// The one that uses it.
        holder: ModuleName,
    },
    /// It has users that are no modules.
    ForeignReferences {
        /// The module that was to go.
        module: ModuleName,
        /// How many users.
        count: u32,
    },
    /// It can never be unloaded.
    Permanent {
        /// The module that was to go.
        module: ModuleName,
    },
    /// It is just being loaded or unloaded by somebody else.
    NotLive {
        /// The module that was to go.
        module: ModuleName,
        /// What is being done with it.
        state: ModuleState,
    },
    /// It uses, over others, itself. The kernel does not let that happen.
    Cycle {
        /// The modules of the cycle and those below it.
        modules: Vec<ModuleName>,
    },
}

impl fmt::Display for UnloadBlocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holder { module, holder } => {
                write!(f, "{module} is used by {holder}, which may not be unloaded")
            }
            Self::ForeignReferences { module, count } => {
                write!(f, "{module} has {count} users that are no modules")
            }
            Self::Permanent { module } => write!(f, "{module} is permanent"),
            Self::NotLive { module, state: ModuleState::Loading } => write!(f, "{module} is being loaded"),
            Self::NotLive { module, .. } => write!(f, "{module} is being unloaded"),
            Self::Cycle { modules } => {
                let names: Vec<_> = modules.iter().map(ModuleName::as_str).collect();
                write!(f, "modules use each other in a cycle: {}", names.join(", "))
            }
        }
    }
}

impl UnloadPlan {
    /// Plans to unload those of `roots` that are loaded, and everything on top of them.
    ///
    /// A module comes in a later group than all its holders. Within a group the module loaded last comes first.
    ///
    /// # Errors
    /// Everything that stands in the way, so that it can be cleared in one go.
    pub fn compute(
        loaded: &LoadedModules,
        roots: &[ModuleName],
        policy: &UnloadPolicy,
    ) -> Result<Self, UnloadBlocked> {
        let mut blockers = Vec::new();
        let mut wanted: BTreeSet<&ModuleName> = BTreeSet::new();
        let mut open: Vec<&LoadedModule> = roots.iter().filter_map(|root| loaded.get(root)).collect();
        while let Some(module) = open.pop() {
            if !wanted.insert(&module.name) {
                continue;
            }
            for holder in &module.holders {
                if !roots.contains(holder) && !policy.may_unload.contains(holder) {
                    let (module, holder) = (module.name.clone(), holder.clone());
                    blockers.push(UnloadBlocker::Holder { module, holder });
                } else if let Some(holder) = loaded.get(holder) {
                    open.push(holder);
                }
            }
        }
        // In the kernel's order from here on, the one loaded last first.
        let wanted: Vec<&LoadedModule> =
            loaded.iter().filter(|module| wanted.contains(&module.name)).collect();
        for module in &wanted {
            let name = module.name.clone();
            let count = module.foreign_references();
            if module.permanent {
                blockers.push(UnloadBlocker::Permanent { module: name });
            } else if module.state != ModuleState::Live {
                blockers.push(UnloadBlocker::NotLive { module: name, state: module.state });
            } else if count > 0 && policy.foreign_references == ForeignReferences::Block {
                blockers.push(UnloadBlocker::ForeignReferences { module: name, count });
            }
        }

        let mut groups = Vec::new();
        let mut remaining = wanted;
        while !remaining.is_empty() && blockers.is_empty() {
            let (group, rest): (Vec<&LoadedModule>, Vec<_>) = remaining
                .iter()
                .partition(|module| !remaining.iter().any(|other| module.holders.contains(&other.name)));
            if group.is_empty() {
                let modules = rest.iter().map(|module| module.name.clone()).collect();
                blockers.push(UnloadBlocker::Cycle { modules });
            }
            groups.push(group.into_iter().map(|module| module.name.clone()).collect());
            remaining = rest;
        }
        if blockers.is_empty() { Ok(Self { groups }) } else { Err(UnloadBlocked { blockers }) }
    }

    /// All modules, one after the other.
    #[must_use]
    pub fn order(&self) -> Vec<ModuleName> {
        self.groups.concat()
    }

    /// Whether there is nothing to unload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

/// One line for each group.
impl fmt::Display for UnloadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.groups.iter().try_for_each(|group| {
            let names: Vec<_> = group.iter().map(ModuleName::as_str).collect();
            writeln!(f, "unload {}", names.join(", "))
        })
    }
}
