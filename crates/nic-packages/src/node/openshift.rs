use std::fmt;

use nic_host::OsRelease;
use serde::Serialize;

/// A release of OpenShift, `X.Y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct OpenShiftRelease {
    /// `X`.
    pub major: u32,
    /// `Y`.
    pub minor: u32,
}

impl OpenShiftRelease {
    /// The release by the *host's* os-release: `OPENSHIFT_VERSION`, else the `VERSION_ID` of one whose `VERSION_ID` is
    /// OpenShift's. `None` where neither tells it: it is not guessed.
    #[must_use]
    pub fn deduce(os: &OsRelease) -> Option<Self> {
        match os.openshift_version.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => parse(text),
            None if matches!(os.id.as_str(), "rhcos" | "scos") => parse(&os.version_id),
            None => None,
        }
    }
}

/// The first two numbers of a version. A build of RHCOS, `418.94.202506251005-0`, is none of OpenShift, and neither is
/// `9.6.20250523-0`.
fn parse(text: &str) -> Option<OpenShiftRelease> {
    let mut numbers = text.split('.');
    let (major, minor) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    let patch_is_short = numbers.next().is_none_or(|patch| patch.len() <= 3);
    (major < 100 && patch_is_short).then_some(OpenShiftRelease { major, minor })
}

impl fmt::Display for OpenShiftRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl From<OpenShiftRelease> for String {
    fn from(release: OpenShiftRelease) -> Self {
        release.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        for (os, release) in [
            ("ID=rhcos VERSION_ID=4.12", Some("4.12")),
            ("ID=rhcos VERSION_ID=4.18 OPENSHIFT_VERSION=4.17", Some("4.17")),
            ("ID=rhel VERSION_ID=9.6 OPENSHIFT_VERSION=4.19", Some("4.19")),
            ("ID=rhel VERSION_ID=9.6 OPENSHIFT_VERSION=4.19.3", Some("4.19")),
            ("ID=rhel VERSION_ID=9.6", None),
            ("ID=rhcos VERSION_ID=9.6.20250523-0", None),
            ("ID=rhcos VERSION_ID=418.94.202506251005-0", None),
            ("ID=rhcos", None),
        ] {
            let found = OpenShiftRelease::deduce(&OsRelease::parse(&os.replace(' ', "\n")));
            assert_eq!(found.map(String::from).as_deref(), release, "{os}");
        }
    }
}
