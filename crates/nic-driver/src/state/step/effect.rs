//! What a step does to the node, for whoever reads it in a journal.

use super::{Purpose, Step};

/// What a step does to the driver that runs and to its NICs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: something is looked at, or files are written that neither the driver nor a NIC goes by.
    None,
    /// Packages are built, here or in the build sidecar.
    Builds,
    /// The node is without its NICs from here on, until they were restored.
    TakesNicsAway,
    /// A module of the driver that ran is unloaded.
    UnloadsDriver,
    /// Something of what was taken away comes back: modules, PFs, VFs, what stood on them. What does not come up in between goes.
    BringsBack,
}

impl Step {
    /// What the step does to the driver that runs and to its NICs.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::RemoveVfs { .. } => Effect::TakesNicsAway,
            Self::Unload { .. } | Self::Run { purpose: Purpose::InitScript, .. } => Effect::UnloadsDriver,
            Self::Load { .. }
            | Self::LoadLatecomer { .. }
            | Self::AwaitPfs { .. }
            | Self::RemoveNewVfs { .. }
            | Self::UnloadNew { .. }
            | Self::LoadPrevious { .. }
            | Self::RestoreNics { .. }
            | Self::RestoreNetwork
            | Self::RestoreSettings => Effect::BringsBack,
            Self::BuildPackages { .. } | Self::BuildInSidecar { .. } => Effect::Builds,
            Self::FindBlockers
            | Self::BackUpModules
            | Self::EnsureSpace
            | Self::LoadNeeded { .. }
            | Self::WriteBlacklist
            | Self::RemoveBlacklist
            | Self::RemoveLeftoverBlacklist
            | Self::ArmSnapshot
            | Self::TakeReadinessAway
            | Self::GiveReadiness
            | Self::Run { purpose: Purpose::Hook | Purpose::MoveFile | Purpose::NotTold, .. }
            | Self::RecordRollback
            | Self::BackUpVerifiedDriver
            | Self::ForgetPf { .. }
            | Self::RecordVerified
            | Self::TakeOverCertificates
            | Self::InstallFips
            | Self::LookUpPackages { .. }
            | Self::LockInventory { .. }
            | Self::WipePackages { .. }
            | Self::InstallCompiler
            | Self::InstallPrerequisites
            | Self::CopyPackages { .. }
            | Self::StorePackages { .. }
            | Self::LayOutPackages { .. }
            | Self::IndexModules
            | Self::CheckModules
            | Self::RegisterWithDkms
            | Self::InstallPackages { .. }
            | Self::PutIntoHostTree
            | Self::TakeOutOfHostTree
            | Self::RemovePackages
            | Self::WriteNamesRule { .. }
            | Self::RemoveNamesRule { .. }
            | Self::MountHeaders { .. }
            | Self::UnmountHeaders { .. } => Effect::None,
        }
    }
}
