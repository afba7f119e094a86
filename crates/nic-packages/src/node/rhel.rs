use std::fmt;

use nic_host::{Foreign, KernelRelease, OsRelease};
use serde::Serialize;

/// A release of Red Hat Enterprise Linux, `X.Y`, or `X` where no more is told (CentOS Stream).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct RhelRelease {
    /// `X`.
    pub major: u32,
    /// `Y`.
    pub minor: Option<u32>,
}

/// It cannot be told for which release of RHEL to build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RhelReleaseError {
    /// os-release has a `RHEL_VERSION` that is no release.
    #[error("RHEL_VERSION={} in os-release is not of the form X.Y", Foreign(.0))]
    Malformed(String),
    /// Neither os-release nor the kernel release says it.
    #[error(
        "cannot tell the RHEL release: the host's os-release has ID={}, no RHEL_VERSION, and VERSION_ID={}, \
         which is no release of RHEL; the kernel {kernel} has no .elX_Y and no .elX",
        Foreign(id),
        Foreign(version_id)
    )]
    Unknown {
        /// `ID`.
        id: String,
        /// `VERSION_ID`.
        version_id: String,
        /// The kernel release.
        kernel: KernelRelease,
    },
}

impl RhelRelease {
    /// The release by the *host's* os-release and kernel: `RHEL_VERSION`; else `VERSION_ID`, where that is of RHEL and not
    /// of OpenShift (RHCOS up to 4.18) or of another distribution; else the kernel's `.elX_Y`, else its `.elX`.
    ///
    /// # Errors
    /// None of them says it. It is never guessed.
    pub fn deduce(os: &OsRelease, kernel: &KernelRelease) -> Result<Self, RhelReleaseError> {
        if let Some(text) = os.rhel_version.as_deref().filter(|text| !text.is_empty()) {
            return parse(text, '.')
                .filter(|release| release.minor.is_some())
                .ok_or_else(|| RhelReleaseError::Malformed(text.to_owned()));
        }
        let of_version_id = || versions_as_rhel(os).then(|| parse(&os.version_id, '.')).flatten();
        let of_kernel = || {
            let tags: Vec<Self> = kernel
                .as_str()
                .split(['.', '+'])
                .filter_map(|part| parse(part.strip_prefix("el")?, '_'))
                .collect();
            tags.iter().find(|release| release.minor.is_some()).or(tags.first()).copied()
        };
        of_version_id().or_else(of_kernel).ok_or_else(|| RhelReleaseError::Unknown {
            id: os.id.clone(),
            version_id: os.version_id.clone(),
            kernel: kernel.clone(),
        })
    }

    /// What `install.pl --distro` calls it, e.g. `rhel9.6`.
    #[must_use]
    pub fn distro(self) -> String {
        format!("rhel{self}")
    }
}

/// Whether `VERSION_ID` is a release of RHEL.
fn versions_as_rhel(os: &OsRelease) -> bool {
    match os.id.as_str() {
        // Their VERSION_ID is OpenShift's.
        "rhcos" | "scos" => false,
        "rhel" | "centos" | "rocky" | "almalinux" | "ol" => true,
        _ => os.id_like.iter().any(|like| matches!(like.as_str(), "rhel" | "centos")),
    }
}

/// `X`, or `X` and `Y`.
fn parse(text: &str, separator: char) -> Option<RhelRelease> {
    let (major, minor) = match text.split_once(separator) {
        Some((major, minor)) => (major, Some(minor.parse().ok()?)),
        None => (text, None),
    };
    Some(RhelRelease { major: major.parse().ok()?, minor })
}

impl fmt::Display for RhelRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.major)?;
        self.minor.map_or(Ok(()), |minor| write!(f, ".{minor}"))
    }
}

impl From<RhelRelease> for String {
    fn from(release: RhelRelease) -> Self {
        release.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deduce(os: &str, kernel: &str) -> Result<String, RhelReleaseError> {
        RhelRelease::deduce(&OsRelease::parse(&os.replace(' ', "\n")), &kernel.parse().unwrap())
            .map(RhelRelease::distro)
    }

    #[test]
    fn the_order_of_what_tells_the_release() {
        let el9_6 = "5.14.0-570.73.1.el9_6.x86_64";
        for (os, kernel, distro) in [
            // RHEL_VERSION goes first, on RHCOS and elsewhere, and before the kernel.
            ("ID=rhcos VERSION_ID=4.18 RHEL_VERSION=9.4", el9_6, "rhel9.4"),
            ("ID=rhel VERSION_ID=9.2 RHEL_VERSION=9.6", el9_6, "rhel9.6"),
            // VERSION_ID, but not of RHCOS; one that is empty says nothing.
            ("ID=rhel VERSION_ID=9.2 RHEL_VERSION=", el9_6, "rhel9.2"),
            ("ID=rhel VERSION_ID=9.6 OPENSHIFT_VERSION=4.19", el9_6, "rhel9.6"),
            ("ID=almalinux VERSION_ID=8.10", "4.18.0-553.el8_10.x86_64", "rhel8.10"),
            ("ID=centos VERSION_ID=9", "5.14.0-503.el9.x86_64", "rhel9"),
            ("ID=eurolinux ID_LIKE=rhel VERSION_ID=9.2", "5.14.0-284.el9.x86_64", "rhel9.2"),
            // The kernel: .elX_Y, else .elX.
            ("ID=rhcos VERSION_ID=4.18", "5.14.0-427.73.1.el9_4.x86_64", "rhel9.4"),
            ("ID=rhcos VERSION_ID=4.16", "5.14.0-570.73.1.el9_6.aarch64+64k", "rhel9.6"),
            ("ID=rhcos VERSION_ID=9.6.20250523-0", el9_6, "rhel9.6"),
            ("ID=rhcos VERSION_ID=4.9", "4.18.0-305.el8.x86_64", "rhel8"),
            ("ID=scos VERSION_ID=4.17", "5.14.0-503.el9.x86_64+rt", "rhel9"),
            ("ID=rhel", "4.18.0-513.11.1.rt7.313.el8_9.x86_64", "rhel8.9"),
            ("ID=rhel VERSION_ID=rawhide", "6.12.0-55.9.1.el10_0.x86_64", "rhel10.0"),
        ] {
            assert_eq!(deduce(os, kernel).as_deref(), Ok(distro), "{os} {kernel}");
        }
    }

    #[test]
    fn a_release_that_cannot_be_told() {
        for malformed in ["9", "9.2.1", "nine.two"] {
            assert_eq!(
                deduce(&format!("ID=rhel RHEL_VERSION={malformed}"), "5.14.0-570.el9_6.x86_64").unwrap_err(),
                RhelReleaseError::Malformed(malformed.to_owned())
            );
        }
        for (os, kernel) in [
            ("ID=rhcos VERSION_ID=4.18", "6.8.0-31-generic"),
            ("ID=rhcos VERSION_ID=4.18", "6.1.0-el9_x"),
            ("ID=fedora VERSION_ID=41", "6.11.4-301.fc41.x86_64"),
            ("ID=amzn ID_LIKE=fedora VERSION_ID=2023", "6.1.112-122.189.amzn2023.x86_64"),
        ] {
            let error = deduce(os, kernel).unwrap_err();
            assert!(matches!(error, RhelReleaseError::Unknown { .. }), "{os} {kernel}: {error}");
        }
        insta::assert_snapshot!(
            deduce("ID=rhcos VERSION_ID=4.18", "6.8.0-31-generic").unwrap_err(),
            @r#"cannot tell the RHEL release: the host's os-release has ID="rhcos", no RHEL_VERSION, and VERSION_ID="4.18", which is no release of RHEL; the kernel 6.8.0-31-generic has no .elX_Y and no .elX"#
        );
    }
}
