use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ModuleIndex, ModuleName, Resolution};

/// Which modules modprobe is asked for, and in what order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadPlan {
    /// The modules to ask for, in order: dependencies first.
    pub load: Vec<LoadStep>,
    /// Modules that were loaded before and need not be asked for: modprobe loads them for those in `load`.
    pub pulled_in: Vec<ModuleName>,
    /// Modules that are part of the kernel's image.
    pub builtin: Vec<ModuleName>,
    /// Modules that the tree does not have. What was loaded before and is listed here is lost.
    pub missing: Vec<LoadStep>,
}

/// One module to ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadStep {
    /// The module.
    pub module: ModuleName,
    /// Why it is asked for.
    pub because: LoadReason,
}

/// Why a module is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadReason {
    /// The family's list names it.
    Listed,
    /// It was loaded before.
    WasLoaded,
    /// It comes with the driver, and works on top of it.
    Auxiliary,
}

impl fmt::Display for LoadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listed => "listed",
            Self::WasLoaded => "was loaded before",
            Self::Auxiliary => "comes with the driver",
        })
    }
}

impl LoadPlan {
    /// Plans to load the `listed` modules, and those that were loaded before (`previously`) and that the tree has.
    ///
    /// Each listed module is asked for by name, because it may get parameters, and those go only to the module
    /// modprobe is asked for; so are those `with_parameters`. Of the others only those that no module of the plan
    /// depends on: modprobe loads dependencies itself. Soft dependencies are not relied on, since modprobe ignores their failure: where a module
    /// of the plan names another of the plan, this gives the order of the two, as far as the hard dependencies
    /// allow. Otherwise the listed modules come first, in the list's order.
    #[must_use]
    pub fn compute(
        previously: &[ModuleName],
        listed: &[ModuleName],
        with_parameters: &BTreeSet<ModuleName>,
        index: &ModuleIndex,
    ) -> Self {
        let mut plan = Self::default();
        let mut seen = BTreeSet::new();
        let wanted = listed
            .iter()
            .map(|module| (module, LoadReason::Listed))
            .chain(previously.iter().map(|module| (module, LoadReason::WasLoaded)));
        let mut steps: Vec<LoadStep> = Vec::new();
        for (module, because) in wanted.filter(|(module, _)| seen.insert(*module)) {
            let step = LoadStep { module: module.clone(), because };
            match index.resolve(module) {
                Resolution::File(_) => steps.push(step),
                Resolution::Builtin => plan.builtin.push(step.module),
                Resolution::Absent => plan.missing.push(step),
            }
        }

        let pulled_in: BTreeSet<ModuleName> =
            steps.iter().flat_map(|step| index.dependencies(&step.module)).cloned().collect();
        let (pulled_in, mut remaining): (Vec<LoadStep>, Vec<LoadStep>) =
            steps.into_iter().partition(|step| {
                step.because == LoadReason::WasLoaded
                    && pulled_in.contains(&step.module)
                    && !with_parameters.contains(&step.module)
            });
        plan.pulled_in = pulled_in.into_iter().map(|step| step.module).collect();

        while !remaining.is_empty() {
            let blocked = |step: &LoadStep, by: &dyn Fn(&ModuleName, &ModuleName) -> bool| {
                remaining.iter().any(|other| other.module != step.module && by(&other.module, &step.module))
            };
            let hard = |first: &ModuleName, then: &ModuleName| index.dependencies(then).contains(first);
            let any = |first: &ModuleName, then: &ModuleName| hard(first, then) || soft(index, first, then);
            // Soft dependencies can form cycles, among themselves and with the hard ones; then they are ignored.
            // Hard ones cannot: depmod leaves modules in a cycle out. Should it fail to, the plan's first comes.
            let next = remaining
                .iter()
                .position(|step| !blocked(step, &any))
                .or_else(|| remaining.iter().position(|step| !blocked(step, &hard)))
                .unwrap_or(0);
            plan.load.push(remaining.remove(next));
        }
        plan
    }

    /// The same plan, and then those of `auxiliary` that the driver's own tree has: whether or not they were loaded
    /// before. One that the tree behind it has is another driver's.
    #[must_use]
    pub fn with_auxiliary(mut self, auxiliary: &[ModuleName], index: &ModuleIndex) -> Self {
        for module in auxiliary {
            let has_file = matches!(index.resolve(module), Resolution::File(_)) && !index.lacks(module);
            let is_planned = self.load.iter().any(|step| step.module == *module);
            if has_file && !is_planned {
                self.pulled_in.retain(|other| other != module);
                self.load.push(LoadStep { module: module.clone(), because: LoadReason::Auxiliary });
            }
        }
        self
    }

    /// Whether there is nothing to load.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.load.is_empty()
    }
}

/// Whether a soft dependency asks for `first` to be loaded before `then`.
fn soft(index: &ModuleIndex, first: &ModuleName, then: &ModuleName) -> bool {
    index.softdeps(then).is_some_and(|deps| deps.pre.contains(first))
        || index.softdeps(first).is_some_and(|deps| deps.post.contains(then))
}

/// One line for each module.
impl fmt::Display for LoadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.load {
            writeln!(f, "load {} ({})", step.module, step.because)?;
        }
        for module in &self.pulled_in {
            writeln!(f, "  comes with them: {module}")?;
        }
        for module in &self.builtin {
            writeln!(f, "  built in: {module}")?;
        }
        for step in &self.missing {
            writeln!(f, "  not on disk: {} ({})", step.module, step.because)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::fixture::{name, names};

    fn index(dep: &[(&str, &str)], builtin: &str, softdep: &str) -> ModuleIndex {
        let line = |(module, needs): &(&str, &str)| {
            let needs: Vec<_> = needs.split_whitespace().map(|need| format!("{need}.ko")).collect();
            format!("{module}.ko: {}\n", needs.join(" "))
        };
        let dep: String = dep.iter().map(line).collect();
        ModuleIndex::parse(Path::new("/m"), &dep, builtin, softdep).unwrap()
    }

    fn load(plan: &LoadPlan) -> Vec<ModuleName> {
        plan.load.iter().map(|step| step.module.clone()).collect()
    }

    #[test]
    fn auxiliary_modules_come_with_the_driver_that_has_them() {
        let tree = [("mlx5_core", ""), ("mlx5_vdpa", "mlx5_core"), ("mlx5_fwctl", "mlx5_core")];
        let behind = index(&[("mlx5_dpll", "mlx5_core")], "", "");
        let index = index(&tree, "", "").backed_by("/host", behind);
        let auxiliary = names("mlx5_vdpa mlx5_fwctl mlx5_dpll mlx5_nosuch");
        let (listed, before) = (names("mlx5_core"), names("mlx5_core mlx5_fwctl"));
        let plan =
            LoadPlan::compute(&before, &listed, &BTreeSet::new(), &index).with_auxiliary(&auxiliary, &index);
        insta::assert_snapshot!(plan, @r"
        load mlx5_core (listed)
        load mlx5_fwctl (was loaded before)
        load mlx5_vdpa (comes with the driver)
        ");
    }

    #[test]
    fn the_stack_comes_back_and_what_is_lost_is_told() {
        let index = index(
            &[
                ("mlx_compat", ""),
                ("mlx5_core", "mlx_compat"),
                ("ib_core", "mlx_compat"),
                ("ib_uverbs", "ib_core mlx_compat"),
                ("mlx5_ib", "ib_uverbs mlx5_core ib_core mlx_compat"),
                ("ib_cm", "ib_core mlx_compat"),
                ("iw_cm", "ib_core mlx_compat"),
                ("rdma_cm", "iw_cm ib_cm ib_core mlx_compat"),
                ("rdma_ucm", "ib_uverbs rdma_cm iw_cm ib_cm ib_core mlx_compat"),
                ("ib_ipoib", "ib_cm ib_core mlx_compat"),
                ("ib_umad", "ib_core mlx_compat"),
                ("mlx5_vdpa", "mlx5_core mlx_compat"),
            ],
            "kernel/sunrpc.ko\n",
            "softdep mlx5_core post: mlx5_vdpa\n",
        );
        // As the unload took them out: the top first.
        let previously = names(
            "rpcrdma mlx5_vdpa rdma_ucm ib_ipoib rdma_cm iw_cm ib_cm mlx5_ib ib_uverbs ib_core mlx5_core sunrpc",
        );
        let listed = names("mlx5_ib mlx5_core ib_umad ib_ipoib nosuch");
        let plan = LoadPlan::compute(&previously, &listed, &BTreeSet::new(), &index);
        insta::assert_snapshot!(plan, @r"
        load mlx5_core (listed)
        load mlx5_ib (listed)
        load ib_umad (listed)
        load ib_ipoib (listed)
        load mlx5_vdpa (was loaded before)
        load rdma_ucm (was loaded before)
          comes with them: rdma_cm
          comes with them: iw_cm
          comes with them: ib_cm
          comes with them: ib_uverbs
          comes with them: ib_core
          built in: sunrpc
          not on disk: nosuch (listed)
          not on disk: rpcrdma (was loaded before)
        ");
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<LoadPlan>(&json).unwrap(), plan);
    }

    #[test]
    fn what_gets_parameters_is_asked_for_before_it_would_be_pulled_in() {
        let index = index(&[("low", ""), ("mid", "low"), ("top", "mid low")], "", "");
        let with_parameters = names("low").into_iter().collect();
        let plan = LoadPlan::compute(&names("top mid low"), &[], &with_parameters, &index);
        assert_eq!((load(&plan), plan.pulled_in), (names("low top"), names("mid")));
    }

    #[test]
    fn nothing_wanted_is_nothing_to_do() {
        let plan = LoadPlan::compute(&[], &[], &BTreeSet::new(), &index(&[("igb", "")], "", ""));
        assert_eq!(plan, LoadPlan::default());
        assert!(plan.is_empty());
    }

    #[test]
    fn soft_dependencies_give_an_order_and_are_not_relied_on() {
        let index = index(&[("a", ""), ("b", ""), ("c", "")], "", "softdep a pre: c\nsoftdep c post: b\n");
        let plan = LoadPlan::compute(&names("c b"), &names("a"), &BTreeSet::new(), &index);
        assert_eq!(load(&plan), names("c a b"));
        assert_eq!(plan.pulled_in, []);
    }

    #[test]
    fn soft_dependencies_in_a_cycle_do_not_matter() {
        let index = index(
            &[("a", "b"), ("b", ""), ("c", "")],
            "",
            "softdep b pre: a\nsoftdep c pre: a\nsoftdep a pre: c\n",
        );
        assert_eq!(load(&LoadPlan::compute(&[], &names("a b c"), &BTreeSet::new(), &index)), names("b a c"));
    }

    /// A random graph without cycles, with soft dependencies of any shape.
    fn tree() -> impl Strategy<Value = ModuleIndex> {
        let pick = || prop::collection::vec(any::<prop::sample::Index>(), 0..4);
        let soft = prop::collection::vec((0_usize..20, any::<bool>(), 0_usize..20), 0..8);
        (prop::collection::vec(pick(), 1..20), soft).prop_map(|(picks, soft)| {
            let mut needs: Vec<BTreeSet<usize>> = Vec::new();
            for (n, picks) in picks.iter().enumerate() {
                let direct: BTreeSet<usize> =
                    if n == 0 { BTreeSet::new() } else { picks.iter().map(|pick| pick.index(n)).collect() };
                // depmod lists the dependencies' dependencies too.
                needs.push(direct.iter().flat_map(|d| needs[*d].clone()).chain(direct.clone()).collect());
            }
            let dep: String = needs
                .iter()
                .enumerate()
                .map(|(n, needs)| {
                    let needs: String = needs.iter().rev().map(|need| format!(" m{need}.ko")).collect();
                    format!("m{n}.ko:{needs}\n")
                })
                .collect();
            let soft: String = soft
                .iter()
                .map(|(a, post, b)| format!("softdep m{a} {}: m{b}\n", if *post { "post" } else { "pre" }))
                .collect();
            ModuleIndex::parse(Path::new("/m"), &dep, "", &soft).unwrap()
        })
    }

    proptest! {
        #[test]
        fn dependencies_come_first_and_nothing_is_forgotten(
            index in tree(),
            previously in prop::collection::vec(0_usize..24, 0..12),
            listed in prop::collection::vec(0_usize..24, 0..6),
        ) {
            let modules = |numbers: &[usize]| numbers.iter().map(|n| name(&format!("m{n}"))).collect::<Vec<_>>();
            let (previously, listed) = (modules(&previously), modules(&listed));
            let plan = LoadPlan::compute(&previously, &listed, &BTreeSet::new(), &index);
            let load = load(&plan);

            for (at, module) in load.iter().enumerate() {
                let later = &load[at + 1..];
                prop_assert!(!index.dependencies(module).iter().any(|need| later.contains(need)), "{module}: {load:?}");
                prop_assert!(!later.contains(module), "{module} twice");
            }
            // After modprobe has loaded the plan, with dependencies, everything wanted that exists is there.
            let mut there: BTreeSet<&ModuleName> = load.iter().collect();
            there.extend(load.iter().flat_map(|module| index.dependencies(module)));
            for module in previously.iter().chain(&listed) {
                match index.resolve(module) {
                    Resolution::File(_) => prop_assert!(there.contains(module), "{module}"),
                    _ => prop_assert!(plan.missing.iter().any(|step| step.module == *module), "{module}"),
                }
            }
            // Parameters reach what is listed.
            prop_assert!(listed.iter().all(|module| load.contains(module) || plan.missing.iter().any(|step| step.module == *module)));
        }
    }
}
