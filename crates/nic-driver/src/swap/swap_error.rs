//! Why a swap failed.

use nic_kmod::{LoadError, ReadLoadedError};
use nic_sriov::RemoveVfsError;

use super::init_script::InitScriptError;
use super::unload::UnloadStackError;

/// The modules could not be swapped. What runs is not what ran before.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// The VFs of a PF could not be removed.
    #[error(transparent)]
    RemoveVfs(#[from] RemoveVfsError),
    /// The modules could not be unloaded.
    #[error(transparent)]
    Unload(#[from] UnloadStackError),
    /// A module could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The init script did not swap the modules.
    #[error(transparent)]
    InitScript(#[from] InitScriptError),
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
}
