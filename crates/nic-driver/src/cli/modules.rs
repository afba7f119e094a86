//! What may be unloaded, and lists of modules that are not the family's own.

use nic_kmod::{ModuleName, ParseModuleNameError};

use crate::context::MayUnload;
use crate::family::NicFamily;

pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Ok(true),
        "false" | "f" | "0" | "" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

/// Options and variables about modules.
#[derive(Debug, clap::Args)]
pub struct ModuleArguments {
    /// Unload modules of storage over RDMA where a reload needs it. Never what backs a mounted file system or swap.
    #[arg(long, global = true, env = "UNLOAD_STORAGE_MODULES", default_value_t = false, value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub unload_storage_modules: bool,
    /// Unload other vendors' RDMA modules where a reload needs it.
    #[arg(long, global = true, env = "UNLOAD_THIRD_PARTY_RDMA_MODULES", default_value_t = false, value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub unload_third_party_rdma_modules: bool,
    /// Reload also when neither the running driver nor the distribution's own could be loaded again.
    #[arg(long, global = true, env = "NIC_DRIVER_WITHOUT_WAY_BACK", default_value_t = false, value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub without_way_back: bool,
    /// Load the modules of NFS over RDMA with the driver, and reload when they are not the installed ones.
    #[arg(long, global = true, env = "ENABLE_NFSRDMA", default_value_t = false, value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_nfsrdma: bool,
    /// Modules of storage over RDMA, separated by white space [default: the family's].
    #[arg(long, global = true, env = "STORAGE_MODULES", hide = true)]
    pub storage_modules: Option<String>,
    /// Other vendors' RDMA modules, separated by white space [default: the family's].
    #[arg(long, global = true, env = "THIRD_PARTY_RDMA_MODULES", hide = true)]
    pub third_party_rdma_modules: Option<String>,
    /// Modules on top of the driver that come and go with it, separated by white space; empty: none [default: the family's].
    #[arg(long, global = true, env = "MLX5_AUXILIARY_MODULES", hide = true)]
    pub auxiliary_modules: Option<String>,
    /// Modules that are not loaded by alias meanwhile, separated by colons [default: the family's].
    #[arg(long, global = true, env = "OFED_BLACKLIST_MODULES", hide = true)]
    pub blacklist_modules: Option<String>,
}

/// A list of modules that holds something else.
#[derive(Debug, thiserror::Error)]
#[error("{variable} (--{option}) is not a list of modules")]
pub(super) struct ModuleListError {
    variable: &'static str,
    option: &'static str,
    #[source]
    source: ParseModuleNameError,
}

impl ModuleArguments {
    pub(super) fn may_unload(&self) -> MayUnload {
        MayUnload { storage: self.unload_storage_modules, third_party: self.unload_third_party_rdma_modules }
    }

    /// Puts the lists that are given in the places of the family's.
    pub(super) fn apply(&self, family: &mut NicFamily) -> Result<(), ModuleListError> {
        /// An empty list is one here.
        const AUXILIARY: &str = "MLX5_AUXILIARY_MODULES";
        /// Separated by colons.
        const BLACKLIST: &str = "OFED_BLACKLIST_MODULES";
        let modules = &mut family.modules;
        for (list, given, variable, option) in [
            (&mut modules.storage, &self.storage_modules, "STORAGE_MODULES", "storage-modules"),
            (
                &mut modules.third_party,
                &self.third_party_rdma_modules,
                "THIRD_PARTY_RDMA_MODULES",
                "third-party-rdma-modules",
            ),
            (&mut modules.auxiliary, &self.auxiliary_modules, AUXILIARY, "auxiliary-modules"),
            (&mut modules.blacklist, &self.blacklist_modules, BLACKLIST, "blacklist-modules"),
        ] {
            let may_be_empty = variable == AUXILIARY;
            let Some(text) = given.as_ref().filter(|text| may_be_empty || !text.trim().is_empty()) else {
                continue;
            };
            let has_colons = variable == BLACKLIST;
            let names = text.split(|c: char| c.is_whitespace() || (has_colons && c == ':'));
            let names = names.filter(|name| !name.is_empty());
            let names: Result<Vec<ModuleName>, _> = names.map(str::parse).collect();
            *list = names.map_err(|source| ModuleListError { variable, option, source })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_taken_in_any_case() {
        for on in ["true", "True", "TRUE", "t", "T", "1"] {
            assert_eq!(parse_bool(on), Ok(true), "{on}");
        }
        for off in ["false", "False", "FALSE", "f", "F", "0", ""] {
            assert_eq!(parse_bool(off), Ok(false), "{off}");
        }
        for neither in ["yes", "on", "2", " true", "truthy"] {
            assert!(parse_bool(neither).is_err(), "{neither}");
        }
    }

    #[test]
    fn lists_are_split_at_white_space_and_those_of_a_blacklist_at_colons_too() {
        let family = NicFamily::open("mlx5").unwrap();
        let applied = |arguments: &ModuleArguments| {
            let mut changed = family.clone();
            arguments.apply(&mut changed).map(|()| changed.modules)
        };
        let nothing = ModuleArguments {
            unload_storage_modules: false,
            unload_third_party_rdma_modules: false,
            without_way_back: false,
            enable_nfsrdma: false,
            storage_modules: None,
            third_party_rdma_modules: None,
            auxiliary_modules: None,
            blacklist_modules: None,
        };
        assert_eq!(applied(&nothing).unwrap(), family.modules);
        let text = |text: &str| Some(text.to_owned());
        let given = ModuleArguments {
            storage_modules: text("ib_srp\tib-iser\n"),
            third_party_rdma_modules: text("  irdma   efa "),
            auxiliary_modules: text(""),
            blacklist_modules: text("mlx5_core::ib_core: \n"),
            ..nothing
        };
        let modules = applied(&given).unwrap();
        let names = |list: &[ModuleName]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(names(&modules.storage), "ib_srp ib_iser");
        assert_eq!(names(&modules.third_party), "irdma efa");
        assert_eq!(names(&modules.auxiliary), "", "an empty list of these is a list");
        assert_eq!(names(&modules.blacklist), "mlx5_core ib_core");
        let empty = ModuleArguments { storage_modules: text(" "), blacklist_modules: text(""), ..given };
        let modules = applied(&empty).unwrap();
        assert_eq!(
            (&modules.storage, &modules.blacklist),
            (&family.modules.storage, &family.modules.blacklist)
        );
        let wrong = ModuleArguments { storage_modules: text("ib_srp:ib_iser"), ..empty };
        assert!(applied(&wrong).unwrap_err().to_string().contains("STORAGE_MODULES"));
    }
}
