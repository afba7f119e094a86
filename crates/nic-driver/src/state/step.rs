//! The phases and their steps, as the journal has them: data. Whoever looks for one in a journal goes by the data; the text of a step is for
//! people, and may be changed at any time.
//!
//! Names of variants and fields are written to disk, and read by later and by earlier versions of this program.

use std::fmt;
use std::path::PathBuf;

use nic_kmod::ModuleName;
use nic_sriov::DeviceAddress;
use serde::{Deserialize, Serialize};

mod effect;
pub(crate) mod form;
mod old_text;
mod text;

pub use effect::Effect;

/// A phase: a command that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// `install`.
    Install,
    /// `build`.
    Build,
    /// `reload`.
    Reload,
    /// `restore-sriov`.
    RestoreSriov,
    /// `terminate`.
    Terminate,
    /// `run`: the driver container, around the others.
    Run,
}

impl Phase {
    /// Its text: the command's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Build => "build",
            Self::Reload => "reload",
            Self::RestoreSriov => "restore-sriov",
            Self::Terminate => "terminate",
            Self::Run => "run",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A step of a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Everything in the way of a reload is looked for.
    FindBlockers,
    /// The files of the running modules are kept.
    BackUpModules,
    /// Space for what is to come is made sure of.
    EnsureSpace,
    /// A module of the kernel's own that the driver needs is loaded beforehand.
    LoadNeeded {
        /// The module.
        module: ModuleName,
    },
    /// The blacklist is written.
    WriteBlacklist,
    /// The blacklist is removed.
    RemoveBlacklist,
    /// A blacklist that a killed process has left behind is removed.
    RemoveLeftoverBlacklist,
    /// The snapshot becomes the truth.
    ArmSnapshot,
    /// The readiness file is removed.
    TakeReadinessAway,
    /// The readiness file is created.
    GiveReadiness,
    /// The VFs of all PFs are removed: from here on the node is without its NICs.
    RemoveVfs {
        /// The PFs. A version that told the text alone has told none.
        #[serde(default)]
        pfs: Vec<DeviceAddress>,
    },
    /// A module is unloaded.
    Unload {
        /// The module.
        module: ModuleName,
    },
    /// A module is loaded.
    Load {
        /// The module.
        module: ModuleName,
    },
    /// A module that came up after the snapshot and was unloaded is loaded again.
    LoadLatecomer {
        /// The module.
        module: ModuleName,
    },
    /// A hook or an init script is run, or what the latter needs.
    Run {
        /// The command line.
        command: String,
        /// What it is for.
        #[serde(default)]
        purpose: Purpose,
    },
    /// The PFs' netdevs are waited for.
    AwaitPfs {
        /// The PFs.
        #[serde(default)]
        pfs: Vec<DeviceAddress>,
    },
    /// The driver is recorded as rolled back, before it is.
    RecordRollback,
    /// The VFs of the driver that did not come up are removed.
    RemoveNewVfs {
        /// The PFs.
        #[serde(default)]
        pfs: Vec<DeviceAddress>,
    },
    /// A module of the driver that did not come up is unloaded.
    UnloadNew {
        /// The module.
        module: ModuleName,
    },
    /// A module that ran before is loaded from its backup.
    LoadPrevious {
        /// The module.
        module: ModuleName,
    },
    /// The files of the verified driver are kept, and those of all others dropped.
    BackUpVerifiedDriver,
    /// A lost PF is let go: nothing is owed to it any more.
    ForgetPf {
        /// The PF.
        pf: DeviceAddress,
    },
    /// PFs and VFs are restored and read back.
    RestoreNics {
        /// The PFs.
        #[serde(default)]
        pfs: Vec<DeviceAddress>,
    },
    /// What stood on the NICs is restored and read back.
    RestoreNetwork,
    /// What was set of the netdevs is given back.
    RestoreSettings,
    /// The snapshot becomes a record.
    RecordVerified,
    /// The certificates of the cluster's authorities are taken over.
    TakeOverCertificates,
    /// The user space for FIPS is installed.
    InstallFips,
    /// Built packages are looked up in the inventory.
    LookUpPackages {
        /// Their folder.
        folder: PathBuf,
    },
    /// The inventory is locked against others who build for this kernel.
    LockInventory {
        /// The kernel's folder.
        folder: PathBuf,
    },
    /// What the inventory holds in place of what is to be built is removed.
    WipePackages {
        /// Their folder.
        folder: PathBuf,
    },
    /// The compiler that built the kernel is installed.
    InstallCompiler,
    /// What a build needs is installed.
    InstallPrerequisites,
    /// Packages are built here.
    BuildPackages {
        /// The folder of the sources.
        sources: PathBuf,
    },
    /// Packages are built in the build sidecar.
    BuildInSidecar {
        /// The folder that is shared with it.
        folder: PathBuf,
    },
    /// Packages are copied to where they are installed from, a folder of this container's own.
    CopyPackages {
        /// That folder.
        folder: PathBuf,
    },
    /// Built packages are put where they are kept.
    StorePackages {
        /// That folder.
        folder: PathBuf,
    },
    /// Built packages are laid out as files.
    LayOutPackages {
        /// Where.
        folder: PathBuf,
    },
    /// The modules of the image are indexed, which they were not.
    IndexModules,
    /// The modules of the image are looked for.
    CheckModules,
    /// Sources are registered with DKMS, and modules built from them where that is asked for.
    RegisterWithDkms,
    /// Packages are installed.
    InstallPackages {
        /// Their folder.
        folder: PathBuf,
    },
    /// The modules are put into the host's tree.
    PutIntoHostTree,
    /// The modules are taken out of the host's tree.
    TakeOutOfHostTree,
    /// The installed packages are removed.
    RemovePackages,
    /// The udev rule that keeps interface names is written.
    WriteNamesRule {
        /// The file.
        path: PathBuf,
    },
    /// The udev rule that keeps interface names is removed.
    RemoveNamesRule {
        /// The file.
        path: PathBuf,
    },
    /// The kernel's and the driver's headers are bound where others find them.
    MountHeaders {
        /// Where.
        folder: PathBuf,
    },
    /// The mount of the headers is undone.
    UnmountHeaders {
        /// Where they were.
        folder: PathBuf,
    },
}

/// What a program is run for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A hook: what it does is the administrator's.
    Hook,
    /// The vendor's init script: modules are unloaded and loaded.
    InitScript,
    /// A file is moved out of the init script's way, or back.
    MoveFile,
    /// A version that told the text alone has not told it.
    #[default]
    NotTold,
}

#[cfg(test)]
pub(super) mod tests;
