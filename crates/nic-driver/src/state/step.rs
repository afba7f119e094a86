//! The phases and their steps, as the journal names them. Whoever looks for one in a journal compares with these.

use std::fmt;
use std::path::PathBuf;

use nic_kmod::ModuleName;
use nic_sriov::DeviceAddress;

/// A phase: a command that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Whether a journal's text names this phase.
    #[must_use]
    pub fn is(self, text: &str) -> bool {
        self.as_str() == text
    }

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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    RemoveVfs,
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
    /// A hook or an init script is run.
    Run {
        /// The command line.
        command: String,
    },
    /// The PFs' netdevs are waited for.
    AwaitPfs,
    /// The driver is recorded as rolled back, before it is.
    RecordRollback,
    /// The VFs of the driver that did not come up are removed.
    RemoveNewVfs,
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
    RestoreNics,
    /// What stood on the NICs is restored and read back.
    RestoreNetwork,
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

impl Step {
    /// Whether a journal's text names this step.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.to_string() == text
    }

    /// Whether a journal's text names the building of packages, wherever they are built.
    #[must_use]
    pub fn is_build(text: &str) -> bool {
        let nowhere = PathBuf::new;
        let builds = [Self::BuildInSidecar { folder: nowhere() }, Self::BuildPackages { sources: nowhere() }];
        builds.iter().any(|build| text.starts_with(&build.to_string()))
    }

    /// Whether a journal's text names the unloading of a module.
    #[must_use]
    pub fn is_unload(text: &str) -> bool {
        text.split_once(' ')
            .and_then(|(_, module)| module.parse().ok())
            .is_some_and(|module| Self::Unload { module }.is(text))
    }
}

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
            Self::RemoveVfs => f.write_str("remove the VFs"),
            Self::Unload { module } => write!(f, "unload {module}"),
            Self::Load { module } => write!(f, "load {module}"),
            Self::LoadLatecomer { module } => write!(f, "load {module}, which had come up meanwhile"),
            Self::Run { command } => write!(f, "run {command}"),
            Self::AwaitPfs => f.write_str("wait for the PFs"),
            Self::RecordRollback => f.write_str("record that the driver is taken back"),
            Self::RemoveNewVfs => f.write_str("remove the VFs of the new driver"),
            Self::UnloadNew { module } => write!(f, "unload the new {module}"),
            Self::LoadPrevious { module } => write!(f, "load the previous {module}"),
            Self::BackUpVerifiedDriver => f.write_str("keep the modules of the verified driver"),
            Self::ForgetPf { pf } => write!(f, "let the lost PF {pf} go"),
            Self::RestoreNics => f.write_str("restore and verify"),
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
