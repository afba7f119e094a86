use std::path::PathBuf;

use nic_host::{Foreign, Host, KernelRelease, OsRelease, ReadError};
use serde::Serialize;

use super::distribution::Distribution;
use super::openshift::OpenShiftRelease;
use super::os::{BootedImage, os_release_of_host};
use super::rhel::{RhelRelease, RhelReleaseError};
use super::variant::{KernelVariant, UnknownVariantError};
use crate::{Architecture, UnknownDistributionError};

/// What a node is, as far as building and installing a driver goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// What decides nearly everything.
    pub distribution: Distribution,
    /// The running kernel.
    pub kernel: KernelRelease,
    /// The kernel's variant and what packages call it.
    pub variant: KernelVariant,
    /// The machine's architecture.
    pub architecture: Architecture,
    /// OpenShift's release, where this is a node of OpenShift that tells it.
    pub openshift: Option<OpenShiftRelease>,
    /// os-release of where this program runs.
    pub own_os: OsRelease,
    /// os-release of the host; the same where this is no container that sees it.
    pub host_os: OsRelease,
}

/// It cannot be told what the node is.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A file that tells it could not be read.
    #[error("cannot tell which node this is")]
    Read(#[from] ReadError),
    /// It is none of those known.
    #[error(transparent)]
    Unknown(#[from] Box<UnknownNodeError>),
}

/// A node that is none of those known, with what was read where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this node is none of those known: ID={}, VERSION_ID={} in {}{}; kernel {kernel}, {architecture}",
    Foreign(&own_os.1.id), Foreign(&own_os.1.version_id), own_os.0.display(),
    host_os.as_ref().map(|(path, os)| format!("; ID={}, VERSION_ID={} in {}", Foreign(&os.id), Foreign(&os.version_id), path.display())).unwrap_or_default()
)]
pub struct UnknownNodeError {
    /// os-release of where this program runs, and its place.
    pub own_os: (PathBuf, OsRelease),
    /// os-release of the host, and its place.
    pub host_os: Option<(PathBuf, OsRelease)>,
    /// The running kernel.
    pub kernel: KernelRelease,
    /// The machine's architecture.
    pub architecture: Architecture,
    /// What of it is not known.
    #[source]
    pub source: NotKnown,
}

/// What of a node is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotKnown {
    /// Its distribution.
    #[error(transparent)]
    Distribution(#[from] UnknownDistributionError),
    /// The variant of its kernel.
    #[error(transparent)]
    Variant(#[from] UnknownVariantError),
}

impl Node {
    /// Reads which node this is: os-release here and of the host, the running kernel and its command line.
    ///
    /// # Errors
    /// One of them cannot be read, or the node is none of those known.
    pub fn identify(host: &Host) -> Result<Self, NodeError> {
        let own_place = ["/etc/os-release", "/usr/lib/os-release"].into_iter().find(|path| host.exists(path));
        let own_os = (PathBuf::from(own_place.unwrap_or("/etc/os-release")), host.os_release()?);
        let host_os = os_release_of_host(host)?;
        let kernel = host.kernel_release()?;
        let architecture = Architecture::of_this_program();
        let booted = BootedImage::read(host)?;
        let os_of_host = host_os.as_ref().map_or(&own_os.1, |(_, os)| os);
        let known = Distribution::of(&own_os.1, os_of_host, booted)
            .map_err(NotKnown::from)
            .and_then(|distribution| Ok((distribution, KernelVariant::of(distribution.family(), &kernel)?)));
        match known {
            Ok((distribution, variant)) => Ok(Self {
                distribution,
                variant,
                openshift: (distribution == Distribution::OpenShift)
                    .then(|| OpenShiftRelease::deduce(os_of_host))
                    .flatten(),
                kernel,
                architecture,
                host_os: os_of_host.clone(),
                own_os: own_os.1,
            }),
            Err(source) => {
                Err(Box::new(UnknownNodeError { own_os, host_os, kernel, architecture, source }).into())
            }
        }
    }

    /// The same node with another architecture: plans for it are made elsewhere.
    #[must_use]
    pub fn with_architecture(self, architecture: Architecture) -> Self {
        Self { architecture, ..self }
    }

    /// The release of RHEL for which modules are built, asked for on Red Hat's systems only.
    ///
    /// # Errors
    /// Nothing tells it.
    pub fn rhel_release(&self) -> Result<RhelRelease, RhelReleaseError> {
        RhelRelease::deduce(&self.host_os, &self.kernel)
    }
}
