//! What people read of a step. No program goes by it.

use std::fmt;

use super::Step;

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FindBlockers => f.write_str("look for what stands in the way"),
            Self::BackUpModules => f.write_str("keep the modules that run"),
            Self::EnsureSpace => f.write_str("make sure that the state directory takes what is to come"),
            Self::LoadNeeded { module } => write!(f, "load {module}, which the driver needs"),
            Self::WriteBlacklist => f.write_str("write the blacklist"),
            Self::RemoveBlacklist => f.write_str("remove the blacklist"),
            Self::RemoveLeftoverBlacklist => f.write_str("remove the blacklist that was left behind"),
            Self::ArmSnapshot => f.write_str("arm the snapshot"),
            Self::TakeReadinessAway => f.write_str("take readiness away"),
            Self::GiveReadiness => f.write_str("give readiness"),
            Self::RemoveVfs { pfs: _ } => f.write_str("remove the VFs"),
            Self::Unload { module } => write!(f, "unload {module}"),
            Self::Load { module } => write!(f, "load {module}"),
            Self::LoadLatecomer { module } => write!(f, "load {module}, which had come up meanwhile"),
            Self::Run { command, purpose: _ } => write!(f, "run {command}"),
            Self::AwaitPfs { pfs: _ } => f.write_str("wait for the PFs"),
            Self::RecordRollback => f.write_str("record that the driver is taken back"),
            Self::RemoveNewVfs { pfs: _ } => f.write_str("remove the VFs of the new driver"),
            Self::UnloadNew { module } => write!(f, "unload the new {module}"),
            Self::LoadPrevious { module } => write!(f, "load the previous {module}"),
            Self::BackUpVerifiedDriver => f.write_str("keep the modules of the verified driver"),
            Self::ForgetPf { pf } => write!(f, "let the lost PF {pf} go"),
            Self::RestoreNics { pfs: _ } => f.write_str("restore and verify"),
            Self::RestoreSettings => f.write_str("restore and verify what was set of the NICs"),
            Self::RestoreNetwork => f.write_str("restore and verify what stood on the NICs"),
            Self::RecordVerified => f.write_str("mark the snapshot as verified"),
            Self::TakeOverCertificates => f.write_str("take over the cluster's certificates"),
            Self::InstallFips => f.write_str("install the user space for FIPS"),
            Self::LookUpPackages { folder } => write!(f, "look for packages in {}", folder.display()),
            Self::LockInventory { folder } => write!(f, "lock the inventory's folder {}", folder.display()),
            Self::WipePackages { folder } => write!(f, "remove what is stored in {}", folder.display()),
            Self::InstallCompiler => f.write_str("install the compiler that built the kernel"),
            Self::InstallPrerequisites => f.write_str("install what the build needs"),
            Self::BuildPackages { sources } => write!(f, "build packages from {}", sources.display()),
            Self::BuildInSidecar { folder } => {
                write!(f, "have packages built by the sidecar in {}", folder.display())
            }
            Self::CopyPackages { folder } => write!(f, "copy the packages to {}", folder.display()),
            Self::StorePackages { folder } => write!(f, "store the packages in {}", folder.display()),
            Self::LayOutPackages { folder } => write!(f, "lay the packages out in {}", folder.display()),
            Self::IndexModules => f.write_str("build the index of the image's modules"),
            Self::CheckModules => f.write_str("look for the modules of the image"),
            Self::RegisterWithDkms => f.write_str("register the sources with DKMS"),
            Self::InstallPackages { folder } => write!(f, "install packages from {}", folder.display()),
            Self::PutIntoHostTree => f.write_str("put the modules into the host's tree"),
            Self::TakeOutOfHostTree => f.write_str("take the modules out of the host's tree"),
            Self::RemovePackages => f.write_str("remove the installed packages"),
            Self::WriteNamesRule { path } => write!(f, "write the names rule {}", path.display()),
            Self::RemoveNamesRule { path } => write!(f, "remove the names rule {}", path.display()),
            Self::MountHeaders { folder } => write!(f, "mount the headers on {}", folder.display()),
            Self::UnmountHeaders { folder } => write!(f, "unmount the headers from {}", folder.display()),
        }
    }
}
