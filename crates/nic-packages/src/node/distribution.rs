use std::fmt;

use nic_host::OsRelease;
use serde::Serialize;

use super::os::BootedImage;
use crate::{DistributionFamily, UnknownDistributionError};

/// What decides how a driver is built and installed on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// RHEL and its like, updated package by package: its modules lie in its own tree.
    RedHat,
    /// RHEL and its like in image mode: its `/usr` is exchanged as a whole and cannot be written.
    RedHatImage,
    /// A node of OpenShift: RHCOS, whatever its ID, or another host with OpenShift's release.
    OpenShift,
    /// Ubuntu and what is made of it.
    Ubuntu,
    /// Debian and what is made of it, Ubuntu aside.
    Debian,
    /// SLES, SLE Micro, openSUSE.
    Suse,
}

impl Distribution {
    /// The distribution by the container's os-release and, where that is of Red Hat's family, the host's.
    pub(crate) fn of(
        container: &OsRelease,
        host: &OsRelease,
        booted: BootedImage,
    ) -> Result<Self, UnknownDistributionError> {
        Ok(match DistributionFamily::of(container)? {
            DistributionFamily::Suse => Self::Suse,
            DistributionFamily::Debian if is_or_is_like(container, "ubuntu") => Self::Ubuntu,
            DistributionFamily::Debian => Self::Debian,
            DistributionFamily::RedHat if is_openshift(host) => Self::OpenShift,
            DistributionFamily::RedHat if is_image(host, booted) => Self::RedHatImage,
            DistributionFamily::RedHat => Self::RedHat,
        })
    }

    /// The family, whose package manager there is.
    #[must_use]
    pub fn family(self) -> DistributionFamily {
        match self {
            Self::RedHat | Self::RedHatImage | Self::OpenShift => DistributionFamily::RedHat,
            Self::Ubuntu | Self::Debian => DistributionFamily::Debian,
            Self::Suse => DistributionFamily::Suse,
        }
    }
}

/// As it is called in messages.
impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RedHat => "RHEL or its like",
            Self::RedHatImage => "RHEL or its like in image mode",
            Self::OpenShift => "OpenShift",
            Self::Ubuntu => "Ubuntu",
            Self::Debian => "Debian",
            Self::Suse => "SUSE",
        })
    }
}

fn is_or_is_like(os: &OsRelease, id: &str) -> bool {
    os.id == id || os.id_like.iter().any(|like| like == id)
}

/// RHCOS is `rhcos` up to OpenShift 4.18 and `rhel` with the variant `coreos` from 4.19 on; OKD's is `scos`, then `centos`
/// with that variant. Fedora CoreOS has the variant too, and is none of OpenShift's.
fn is_openshift(host: &OsRelease) -> bool {
    let is_coreos = host.variant_id.as_deref() == Some("coreos") && host.id != "fedora";
    matches!(host.id.as_str(), "rhcos" | "scos") || is_given(host.openshift_version.as_deref()) || is_coreos
}

fn is_image(host: &OsRelease, booted: BootedImage) -> bool {
    booted == BootedImage::Yes
        || is_given(host.ostree_version.as_deref())
        || host.variant_id.as_deref() == Some("coreos")
}

fn is_given(text: Option<&str>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}
