//! The trees that modules are loaded from: this process's own, backed by the host's.

use std::path::{Path, PathBuf};

use nic_host::HOST_MOUNT;
use nic_kmod::{ModuleIndex, ModuleIndexError};

use crate::context::Context;

/// Where the modules to load are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleTree {
    /// `/lib/modules` of this process's own tree.
    Own,
    /// `lib/modules` below another root, such as `/host`.
    Below(PathBuf),
}

impl ModuleTree {
    pub(crate) fn folder(&self) -> PathBuf {
        match self {
            Self::Own => PathBuf::from("/lib/modules"),
            Self::Below(root) => root.join("lib/modules"),
        }
    }

    pub(crate) fn root(&self) -> Option<&Path> {
        match self {
            Self::Own => None,
            Self::Below(root) => Some(root),
        }
    }

    /// What modprobe would find: in this tree, and, for what a container's own tree lacks, in the host's.
    pub(crate) fn index(&self, context: &Context) -> Result<ModuleIndex, ModuleIndexError> {
        let read = |folder: &Path| ModuleIndex::read(&context.host, folder, &context.kernel);
        let index = read(&self.folder())?;
        if *self != Self::Own || !sees_hosts_modules(context) {
            return Ok(index);
        }
        match read(&hosts_modules()) {
            Ok(behind) => Ok(index.backed_by(HOST_MOUNT, behind)),
            Err(error) => {
                tracing::info!(error = crate::error_chain(&error), "the host's modules are not looked at");
                Ok(index)
            }
        }
    }
}

fn hosts_modules() -> PathBuf {
    Path::new(HOST_MOUNT).join("lib/modules")
}

/// Whether this is a container that is given the modules of the host's running kernel.
pub(super) fn sees_hosts_modules(context: &Context) -> bool {
    context.host.exists(hosts_modules().join(context.kernel.as_str()))
}
