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
                write!(f, "{module} has users that are no modules ({count})")
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::{name, names};

    /// A node with the mlx5 stack, NFS over RDMA and a module that is no business of ours.
    const STACK: &str = "\
rpcrdma 1 0 - Live 0x0
sunrpc 1 9 rpcrdma, Live 0x0
rdma_ucm 1 0 - Live 0x0
ib_ipoib 1 0 - Live 0x0
rdma_cm 1 2 rpcrdma,rdma_ucm, Live 0x0
iw_cm 1 1 rdma_cm, Live 0x0
ib_cm 1 2 ib_ipoib,rdma_cm, Live 0x0
ib_umad 1 0 - Live 0x0
mlx5_ib 1 0 - Live 0x0
ib_uverbs 1 2 rdma_ucm,mlx5_ib, Live 0x0
ib_core 1 9 rpcrdma,rdma_cm,ib_ipoib,iw_cm,ib_umad,rdma_ucm,mlx5_ib,ib_uverbs,ib_cm, Live 0x0
mlx5_core 1 1 mlx5_ib, Live 0x0
tls 1 1 mlx5_core, Live 0x0
igb 1 0 - Live 0x0
";

    fn policy(may_unload: &str) -> UnloadPolicy {
        UnloadPolicy { may_unload: names(may_unload).into_iter().collect(), ..UnloadPolicy::default() }
    }

    fn stack() -> LoadedModules {
        LoadedModules::parse(STACK).unwrap()
    }

    #[test]
    fn the_whole_stack_goes_top_down() {
        let roots =
            names("mlx5_core ib_core mlx5_ib ib_umad ib_uverbs ib_ipoib rdma_cm rdma_ucm ib_cm iw_cm nosuch");
        let plan = UnloadPlan::compute(&stack(), &roots, &policy("rpcrdma mlx5_vdpa")).unwrap();
        insta::assert_snapshot!(plan, @r"
        unload rpcrdma, rdma_ucm, ib_ipoib, ib_umad, mlx5_ib
        unload rdma_cm, ib_uverbs, mlx5_core
        unload iw_cm, ib_cm
        unload ib_core
        ");
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<UnloadPlan>(&json).unwrap(), plan);
    }

    #[test]
    fn an_unexpected_module_on_top_blocks() {
        let blocked = UnloadPlan::compute(&stack(), &names("iw_cm"), &policy("rdma_cm ib_cm")).unwrap_err();
        insta::assert_snapshot!(blocked, @"the modules cannot be unloaded: rdma_cm is used by rpcrdma, which may not be unloaded; rdma_cm is used by rdma_ucm, which may not be unloaded");
        let json = serde_json::to_string(&blocked).unwrap();
        assert_eq!(serde_json::from_str::<UnloadBlocked>(&json).unwrap(), blocked);
    }

    #[test]
    fn users_that_are_no_modules_block_unless_they_are_expected_to_go() {
        let loaded =
            LoadedModules::parse("mlx5_ib 1 3 - Live 0x0\nmlx5_core 1 1 mlx5_ib, Live 0x0\n").unwrap();
        let roots = names("mlx5_core mlx5_ib");
        let blocked = UnloadPlan::compute(&loaded, &roots, &UnloadPolicy::default()).unwrap_err();
        assert_eq!(
            blocked.blockers,
            [UnloadBlocker::ForeignReferences { module: name("mlx5_ib"), count: 3 }]
        );
        let expecting =
            UnloadPolicy { foreign_references: ForeignReferences::Expect, ..UnloadPolicy::default() };
        let plan = UnloadPlan::compute(&loaded, &roots, &expecting).unwrap();
        assert_eq!(plan.order(), names("mlx5_ib mlx5_core"));
    }

    #[test]
    fn everything_in_the_way_is_told_at_once() {
        let loaded = LoadedModules::parse(
            "a 1 1 [permanent], Live 0x0\nb 1 0 - Loading 0x0\nc 1 -1 - Unloading 0x0\nd 1 2 other, Live 0x0\n",
        )
        .unwrap();
        let blocked = UnloadPlan::compute(&loaded, &names("a b c d"), &UnloadPolicy::default()).unwrap_err();
        insta::assert_snapshot!(blocked, @"the modules cannot be unloaded: d is used by other, which may not be unloaded; a is permanent; b is being loaded; c is being unloaded; d has users that are no modules (1)");
    }

    #[test]
    fn a_cycle_is_an_error_and_not_an_endless_loop() {
        let module = |module: &str, holders: &str| LoadedModule::new(name(module), names(holders));
        let loaded: LoadedModules =
            [module("top", ""), module("a", "b top"), module("b", "a"), module("below", "a")]
                .into_iter()
                .collect();
        let blocked =
            UnloadPlan::compute(&loaded, &names("a b top below"), &UnloadPolicy::default()).unwrap_err();
        assert_eq!(blocked.blockers, [UnloadBlocker::Cycle { modules: names("a b below") }]);
    }

    #[test]
    fn nothing_loaded_is_nothing_to_do() {
        let roots = names("mlx5_core ib_core");
        let plan = UnloadPlan::compute(&LoadedModules::default(), &roots, &UnloadPolicy::default()).unwrap();
        assert!(plan.is_empty());
        assert_eq!(plan.order(), []);
        assert!(UnloadPlan::compute(&stack(), &[], &UnloadPolicy::default()).unwrap().is_empty());
    }

    /// A random graph without cycles: module `n` is held by some of the modules before it.
    fn graph() -> impl Strategy<Value = LoadedModules> {
        (1_usize..24).prop_flat_map(|count| {
            prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), count).prop_map(
                |picks| {
                    let module = |n: usize| name(&format!("m{n}"));
                    let modules = picks.iter().enumerate().map(|(n, picks)| {
                        let holders: BTreeSet<_> = if n == 0 {
                            BTreeSet::new()
                        } else {
                            picks.iter().map(|pick| pick.index(n)).collect()
                        };
                        LoadedModule::new(module(n), holders.into_iter().map(module).collect())
                    });
                    modules.collect()
                },
            )
        })
    }

    proptest! {
        #[test]
        fn the_order_respects_the_holders(
            loaded in graph().prop_shuffle_modules(),
            roots in prop::collection::vec(0_usize..30, 0..5),
        ) {
            let roots: Vec<_> = roots.iter().map(|n| name(&format!("m{n}"))).collect();
            let all = UnloadPolicy {
                may_unload: loaded.iter().map(|module| module.name.clone()).collect(),
                ..UnloadPolicy::default()
            };
            let order = UnloadPlan::compute(&loaded, &roots, &all).unwrap().order();

            // Each step is one the kernel accepts: all holders of the module have gone before it.
            let mut gone = BTreeSet::new();
            for step in &order {
                let module = loaded.get(step).unwrap();
                prop_assert!(module.holders.iter().all(|holder| gone.contains(holder)), "{step} in {order:?}");
                prop_assert!(gone.insert(step.clone()), "{step} twice");
            }
            // All loaded roots go, and nothing goes that is no root and uses none that goes.
            for root in &roots {
                prop_assert_eq!(loaded.contains(root), gone.contains(root));
            }
            for step in order.iter().filter(|step| !roots.contains(step)) {
                prop_assert!(gone.iter().any(|other| loaded.get(other).unwrap().holders.contains(step)));
            }
            // Without permission the same graph is either planned the same, or blocked by a module on top.
            match UnloadPlan::compute(&loaded, &roots, &UnloadPolicy::default()) {
                Ok(plan) => prop_assert_eq!(plan.order(), order),
                Err(blocked) => for blocker in blocked.blockers {
                    let allowed = matches!(&blocker, UnloadBlocker::Holder { holder, .. } if !roots.contains(holder));
                    prop_assert!(allowed, "{}", blocker);
                },
            }
        }
    }

    /// The kernel's order does not follow from the dependencies: a module can begin to use another later.
    trait ShuffleModules: Strategy<Value = LoadedModules> + Sized {
        fn prop_shuffle_modules(self) -> impl Strategy<Value = LoadedModules> {
            self.prop_flat_map(|loaded| {
                Just(loaded.iter().cloned().collect::<Vec<_>>())
                    .prop_shuffle()
                    .prop_map(LoadedModules::from_iter)
            })
        }
    }

    impl<S: Strategy<Value = LoadedModules>> ShuffleModules for S {}
}
