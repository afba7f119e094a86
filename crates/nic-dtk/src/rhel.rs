use std::fmt;

use nic_host::{KernelRelease, OsRelease};

/// A release of Red Hat Enterprise Linux, `X.Y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RhelRelease {
    /// `X`.
    pub major: u32,
    /// `Y`.
    pub minor: u32,
}

/// It cannot be told for which release of RHEL to build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RhelReleaseError {
    /// os-release has a `RHEL_VERSION` that is no `X.Y`.
    #[error("RHEL_VERSION={0:?} in os-release is not of the form X.Y")]
    Malformed(String),
    /// There is no `RHEL_VERSION`, and the kernel release does not say it either.
    #[error(
        "cannot tell the RHEL release: os-release has no RHEL_VERSION, and the kernel {kernel} no .elX_Y"
    )]
    Unknown {
        /// The kernel release.
        kernel: KernelRelease,
    },
}

impl RhelRelease {
    /// The release by the *host's* os-release and kernel: `RHEL_VERSION`, or else the `.elX_Y` of the kernel release.
    ///
    /// `VERSION_ID` is not asked: on RHCOS it is the OpenShift version.
    pub fn deduce(os: &OsRelease, kernel: &KernelRelease) -> Result<Self, RhelReleaseError> {
        if let Some(text) = os.rhel_version.as_deref().filter(|text| !text.is_empty()) {
            return parse(text, '.').ok_or_else(|| RhelReleaseError::Malformed(text.to_owned()));
        }
        kernel
            .as_str()
            .split('.')
            .filter_map(|part| part.strip_prefix("el"))
            .find_map(|release| parse(release, '_'))
            .ok_or_else(|| RhelReleaseError::Unknown { kernel: kernel.clone() })
    }

    /// What `install.pl --distro` calls it, e.g. `rhel9.6`.
    #[must_use]
    pub fn distro(self) -> String {
        format!("rhel{self}")
    }
}

fn parse(text: &str, separator: char) -> Option<RhelRelease> {
    let (major, minor) = text.split_once(separator)?;
    Some(RhelRelease { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

impl fmt::Display for RhelRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deduce(rhel_version: Option<&str>, kernel: &str) -> Result<String, RhelReleaseError> {
        let os = OsRelease {
            version_id: "4.18".to_owned(),
            rhel_version: rhel_version.map(str::to_owned),
            ..OsRelease::default()
        };
        RhelRelease::deduce(&os, &kernel.parse().unwrap()).map(RhelRelease::distro)
    }

    #[test]
    fn the_release_of_rhel() {
        for (rhel_version, kernel, distro) in [
            (Some("9.6"), "5.14.0-570.73.1.el9_6.x86_64", "rhel9.6"),
            // What os-release says goes before the kernel.
            (Some("9.4"), "5.14.0-570.73.1.el9_6.x86_64", "rhel9.4"),
            (Some(""), "5.14.0-570.73.1.el9_6.aarch64+64k", "rhel9.6"),
            (None, "5.14.0-570.73.1.el9_6.aarch64+64k", "rhel9.6"),
            (None, "4.18.0-553.el8_10.x86_64+rt", "rhel8.10"),
            (None, "6.12.0-55.9.1.el10_0.x86_64", "rhel10.0"),
        ] {
            assert_eq!(deduce(rhel_version, kernel).as_deref(), Ok(distro), "{rhel_version:?} {kernel}");
        }
    }

    #[test]
    fn a_release_that_cannot_be_told() {
        assert_eq!(
            deduce(Some("9"), "5.14.0-570.73.1.el9_6.x86_64").unwrap_err().to_string(),
            "RHEL_VERSION=\"9\" in os-release is not of the form X.Y"
        );
        for kernel in ["5.14.0-570.el9.x86_64", "6.8.0-31-generic", "6.1.0-el9_x"] {
            assert_eq!(
                deduce(None, kernel).unwrap_err().to_string(),
                format!(
                    "cannot tell the RHEL release: os-release has no RHEL_VERSION, and the kernel {kernel} no .elX_Y"
                )
            );
        }
    }
}
