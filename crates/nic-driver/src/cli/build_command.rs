//! The arguments of `build`, and what is asked for by them.

use std::path::PathBuf;

use nic_build::Proxies;
use nic_host::KernelRelease;

use super::build::{BuildArguments, DkmsArguments, ON_COMMAND_LINE, SettingError, token};
use crate::phase::{BuildPackagesRequest, InstallRequest, Layer, LayerKind, LayerTarget, PackageOrigin};

/// What is built, and as what.
#[derive(Debug, clap::Args)]
pub struct BuildCommand {
    /// Sources.
    #[command(flatten)]
    pub build: BuildArguments,
    /// DKMS.
    #[command(flatten)]
    pub dkms: DkmsArguments,
    /// The kernel to build for, as uname -r prints it there [default: the running one].
    #[arg(long, value_name = "RELEASE")]
    pub kernel: Option<KernelRelease>,
    /// Lay the packages out as files: for the image of a driver container, or for the Kernel Module Management operator.
    #[arg(long, value_enum, value_name = "KIND")]
    pub layer: Option<LayerKind>,
    /// The folder for that, which must be empty or not there.
    #[arg(long, value_name = "FOLDER", requires = "layer", conflicts_with = "archive")]
    pub into: Option<PathBuf>,
    /// The tar archive for that.
    #[arg(long, value_name = "FILE", requires = "layer")]
    pub archive: Option<PathBuf>,
    /// The time that all files in it get, in seconds since 1970: the same inputs give the same bytes.
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH", default_value_t = 0)]
    pub modified: u32,
}

impl BuildCommand {
    /// What is asked for.
    pub(super) fn request(&self, enable_nfsrdma: bool) -> Result<BuildPackagesRequest, SettingError> {
        let use_dkms = self.dkms.use_dkms;
        let sources = self.build.sources(enable_nfsrdma, use_dkms)?;
        let target = match (&self.into, &self.archive) {
            (Some(folder), _) => Some(LayerTarget::Folder(folder.clone())),
            (None, Some(archive)) => Some(LayerTarget::Archive(archive.clone())),
            (None, None) => None,
        };
        let layer = match (self.layer, target) {
            (Some(kind), Some(target)) => Some(Layer { kind, target, modified: self.modified }),
            (Some(_), None) => return Err(SettingError::NoTarget),
            (None, _) if sources.inventory.is_none() => return Err(SettingError::NowhereToPut),
            (None, _) => None,
        };
        let install = InstallRequest {
            origin: PackageOrigin::Sources(sources),
            use_dkms,
            token: token()?,
            proxies: Proxies::of_this_process(),
        };
        Ok(BuildPackagesRequest { install, kernel: self.kernel.clone(), layer })
    }

    /// Paths of the machine.
    pub(super) fn paths(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        let into = self.into.iter_mut().map(|path| (ON_COMMAND_LINE, path));
        let archive = self.archive.iter_mut().map(|path| (ON_COMMAND_LINE, path));
        self.build.paths().chain(into).chain(archive).collect()
    }
}
