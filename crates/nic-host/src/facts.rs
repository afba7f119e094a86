use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Foreign, Host, ReadError};

/// A kernel release as `uname -r` prints it, e.g. `5.14.0-570.73.1.el9_6.aarch64+64k`.
///
/// It names folders (`/lib/modules/<release>`), so it holds no slash and is not `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KernelRelease(String);

/// A text that is no kernel release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a kernel release", Foreign(.0))]
pub struct ParseKernelReleaseError(pub String);

impl KernelRelease {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KernelRelease {
    type Err = ParseKernelReleaseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let well_formed = text.starts_with(|first: char| first.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_graphic() && c != '/');
        if well_formed { Ok(Self(text.to_owned())) } else { Err(ParseKernelReleaseError(text.to_owned())) }
    }
}

impl TryFrom<String> for KernelRelease {
    type Error = ParseKernelReleaseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KernelRelease> for String {
    fn from(release: KernelRelease) -> Self {
        release.0
    }
}

/// In JSON, the text it is displayed as.
impl schemars::JsonSchema for KernelRelease {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KernelRelease".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "as uname -r prints it" })
    }
}

impl fmt::Display for KernelRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of one boot of the machine (`/proc/sys/kernel/random/boot_id`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BootId(pub String);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What `/etc/os-release` says. Every field can be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsRelease {
    /// `ID`: `rhel`, `rhcos`, `ubuntu`, `debian`, `sles`…
    pub id: String,
    /// `ID_LIKE`, split at white space.
    pub id_like: Vec<String>,
    /// `VERSION_ID`. On RHCOS this is the OpenShift version, not that of RHEL.
    pub version_id: String,
    /// `RHEL_VERSION`, which RHCOS has.
    pub rhel_version: Option<String>,
    /// `PRETTY_NAME`.
    pub pretty_name: String,
    /// `VERSION_CODENAME`, which Ubuntu and Debian have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_codename: Option<String>,
    /// `VARIANT_ID`: `coreos` on RHCOS and Fedora CoreOS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<String>,
    /// `OPENSHIFT_VERSION`, which nodes of OpenShift have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openshift_version: Option<String>,
    /// `OSTREE_VERSION`, which systems have that are updated as an image; not all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ostree_version: Option<String>,
}

impl OsRelease {
    /// Reads the text of an os-release file (os-release(5)): shell-like assignments, values quoted or bare.
    /// Lines that are no assignment are passed over, as the file's own description asks.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut os = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.trim().split_once('=')) {
            let value = shell_words::split(value).map(|words| words.join(" ")).unwrap_or_default();
            match key {
                "ID" => os.id = value,
                "ID_LIKE" => os.id_like = value.split_whitespace().map(str::to_owned).collect(),
                "VERSION_ID" => os.version_id = value,
                "RHEL_VERSION" => os.rhel_version = Some(value),
                "PRETTY_NAME" => os.pretty_name = value,
                "VERSION_CODENAME" => os.version_codename = Some(value),
                "VARIANT_ID" => os.variant_id = Some(value),
                "OPENSHIFT_VERSION" => os.openshift_version = Some(value),
                "OSTREE_VERSION" => os.ostree_version = Some(value),
                _ => {}
            }
        }
        os
    }
}

impl Host {
    /// The running kernel's release, from `/proc/sys/kernel/osrelease`.
    pub fn kernel_release(&self) -> Result<KernelRelease, ReadError> {
        let path = "/proc/sys/kernel/osrelease";
        self.read(path)?.trim().parse().map_err(|error| ReadError {
            path: self.path(path),
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        })
    }

    /// The running boot's identity.
    ///
    /// # Errors
    /// The file cannot be read, or holds no identity: two boots without one would be the same.
    pub fn boot_id(&self) -> Result<BootId, ReadError> {
        const FILE: &str = "/proc/sys/kernel/random/boot_id";
        let text = self.read(FILE)?;
        let id = text.trim();
        let is_identity = (1..=64).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if is_identity {
            return Ok(BootId(id.to_owned()));
        }
        let source =
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is no boot's identity", Foreign(id)));
        Err(ReadError { path: self.path(FILE), source })
    }

    /// `/etc/os-release`, or `/usr/lib/os-release` where that is missing.
    pub fn os_release(&self) -> Result<OsRelease, ReadError> {
        let text = match self.read_if_exists("/etc/os-release")? {
            Some(text) => text,
            None => self.read("/usr/lib/os-release")?,
        };
        Ok(OsRelease::parse(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases() {
        for good in
            ["5.14.0-570.73.1.el9_6.aarch64+64k", "6.12.94+deb12-amd64", "4.18.0-553.el8_10.x86_64+rt"]
        {
            assert_eq!(good.parse::<KernelRelease>().unwrap().as_str(), good);
        }
        for bad in ["", "..", "../6.1", "6.1/../..", "6.1 ", "linux"] {
            assert_eq!(bad.parse::<KernelRelease>(), Err(ParseKernelReleaseError(bad.to_owned())));
        }
    }

    #[test]
    fn os_release_of_red_hat_coreos() {
        let os = OsRelease::parse(
            "NAME=\"Red Hat Enterprise Linux CoreOS\"\nID=\"rhcos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=\"4.18\"\n\
             PRETTY_NAME=\"Red Hat Enterprise Linux CoreOS 418.94\"\n# a comment\nRHEL_VERSION=9.6\nVARIANT_ID=coreos\n\
             OPENSHIFT_VERSION=\"4.18\"\nOSTREE_VERSION='418.94.202506251005-0'\nVERSION_CODENAME=\n",
        );
        assert_eq!(os.id, "rhcos");
        assert_eq!(os.id_like, ["rhel", "fedora"]);
        assert_eq!(os.version_id, "4.18");
        assert_eq!(os.rhel_version.as_deref(), Some("9.6"));
        assert_eq!(os.variant_id.as_deref(), Some("coreos"));
        assert_eq!(os.openshift_version.as_deref(), Some("4.18"));
        assert_eq!(os.ostree_version.as_deref(), Some("418.94.202506251005-0"));
        assert_eq!(os.version_codename.as_deref(), Some(""));
    }
}
