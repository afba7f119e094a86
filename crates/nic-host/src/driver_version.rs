use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Foreign;

/// A driver's version, e.g. `25.10-1.2.8.0`.
///
/// It names files and folders, so it is of ASCII letters, digits and `.-_+~`, and begins with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DriverVersion(String);

/// A text that is no driver version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is not a driver version: it must be of letters, digits and .-_+~, and begin with a letter or digit",
    Foreign(.0)
)]
pub struct ParseDriverVersionError(pub String);

impl DriverVersion {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DriverVersion {
    type Err = ParseDriverVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let well_formed = text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_+~".contains(c));
        if well_formed { Ok(Self(text.to_owned())) } else { Err(ParseDriverVersionError(text.to_owned())) }
    }
}

impl TryFrom<String> for DriverVersion {
    type Error = ParseDriverVersionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DriverVersion> for String {
    fn from(version: DriverVersion) -> Self {
        version.0
    }
}

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_versions() {
        for good in ["25.10-1.2.8.0", "25.07-0.9.7.0", "24.10-0.7.0.0~rc1", "5"] {
            assert_eq!(good.parse::<DriverVersion>().unwrap().as_str(), good);
        }
        for bad in
            ["", ".", "..", "../6.1", ".hidden", "-1", "25.10/1", "25.10 1", "25.10\n", "$(reboot)", "ü"]
        {
            assert_eq!(bad.parse::<DriverVersion>(), Err(ParseDriverVersionError(bad.to_owned())));
        }
    }
}
