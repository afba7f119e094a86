//! The comparison of the loaded modules with the installed ones.

use nic_kmod::{IdentityError, IdentityReport, ModuleIndexError, ReloadDecision};

use super::module_tree::ModuleTree;
use crate::context::Context;

/// The modules could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareModulesError {
    /// The index of installed modules could not be read.
    #[error(transparent)]
    Index(#[from] ModuleIndexError),
    /// The modules' identities could not be compared.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// What a reload would do, without regard to [`crate::Settings::force`].
pub(crate) fn decide<'a>(context: &Context, identity: &'a IdentityReport) -> ReloadDecision<'a> {
    identity.decide(|module| context.family.modules.is_wanted(module))
}

/// Compares the family's loaded modules with those that are installed in this process's own tree.
pub(crate) fn read_identity(context: &Context) -> Result<IdentityReport, CompareModulesError> {
    compare(context, &ModuleTree::Own)
}

/// Compares the family's loaded modules with those of a tree.
pub(super) fn compare(context: &Context, tree: &ModuleTree) -> Result<IdentityReport, CompareModulesError> {
    let index = tree.index(context)?;
    Ok(IdentityReport::read(&context.host, &index, &context.family.modules.identity)?)
}
