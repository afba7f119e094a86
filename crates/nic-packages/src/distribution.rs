use std::fmt;

use nic_host::{Foreign, OsRelease};
use serde::{Deserialize, Serialize};

/// Distributions that share a package format and package names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DistributionFamily {
    /// RHEL, RHCOS, CentOS, Rocky, AlmaLinux, Oracle Linux, Fedora.
    RedHat,
    /// Debian, Ubuntu.
    Debian,
    /// SLES, SLE Micro, openSUSE.
    Suse,
}

/// A distribution that belongs to no known family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the distribution {} (ID of os-release{}) belongs to no known family (Red Hat, Debian, SUSE)",
    Foreign(id),
    if id_like.is_empty() { String::new() } else { format!(", ID_LIKE {}", Foreign(&id_like.join(" "))) }
)]
pub struct UnknownDistributionError {
    /// Its `ID`; empty where os-release has none.
    pub id: String,
    /// Its `ID_LIKE`.
    pub id_like: Vec<String>,
}

impl DistributionFamily {
    /// The family by `ID`, or else by the first entry of `ID_LIKE` that is known.
    pub fn of(os: &OsRelease) -> Result<Self, UnknownDistributionError> {
        std::iter::once(&os.id)
            .chain(&os.id_like)
            .find_map(|id| Self::by_id(id))
            .ok_or_else(|| UnknownDistributionError { id: os.id.clone(), id_like: os.id_like.clone() })
    }

    fn by_id(id: &str) -> Option<Self> {
        match id {
            "rhel" | "rhcos" | "scos" | "centos" | "rocky" | "almalinux" | "ol" | "fedora" => {
                Some(Self::RedHat)
            }
            "debian" | "ubuntu" => Some(Self::Debian),
            "sles" | "sled" | "sle-micro" | "sl-micro" | "suse" => Some(Self::Suse),
            _ if id.starts_with("opensuse") => Some(Self::Suse),
            _ => None,
        }
    }

    /// The format of its packages.
    #[must_use]
    pub fn package_format(self) -> PackageFormat {
        match self {
            Self::RedHat | Self::Suse => PackageFormat::Rpm,
            Self::Debian => PackageFormat::Deb,
        }
    }
}

/// The format of a package file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageFormat {
    /// RPM package manager, version 3 or 4 of the file format.
    Rpm,
    /// Debian binary package, format 2.0 (deb(5)).
    Deb,
}

impl PackageFormat {
    /// What such a file's name ends in, with its dot.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Rpm => ".rpm",
            Self::Deb => ".deb",
        }
    }
}

impl fmt::Display for PackageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rpm => "rpm",
            Self::Deb => "deb",
        })
    }
}

/// A machine's architecture as `uname -m` prints it: `x86_64`, `aarch64`, `ppc64le`…
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Architecture(String);

impl Architecture {
    /// The architecture that `uname -m` calls `machine`.
    pub fn from_uname(machine: impl Into<String>) -> Self {
        Self(machine.into())
    }

    /// The one this program was compiled for, which is that of the kernel it runs on, but for 32-bit programs on
    /// 64-bit kernels.
    #[must_use]
    pub fn of_this_program() -> Self {
        Self::from_uname(match std::env::consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            other => other,
        })
    }

    /// The text, as `uname -m` prints it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What packages of `format` call it: rpm uses the kernel's names, Debian has its own.
    #[must_use]
    pub fn package_name(&self, format: PackageFormat) -> &str {
        match (format, self.as_str()) {
            (PackageFormat::Deb, "x86_64") => "amd64",
            (PackageFormat::Deb, "aarch64") => "arm64",
            (PackageFormat::Deb, "ppc64le") => "ppc64el",
            (_, same) => same,
        }
    }

    /// Whether a package of `format` with `architecture` in its header can be installed on it: it is the machine's
    /// own, or independent of any.
    #[must_use]
    pub fn takes(&self, format: PackageFormat, architecture: &str) -> bool {
        let independent = match format {
            PackageFormat::Rpm => "noarch",
            PackageFormat::Deb => "all",
        };
        architecture == independent || architecture == self.package_name(format)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(id: &str, id_like: &str) -> OsRelease {
        OsRelease::parse(&format!("ID={id}\nID_LIKE=\"{id_like}\"\n"))
    }

    #[test]
    fn families() {
        use DistributionFamily::{Debian, RedHat, Suse};
        for (id, id_like, family) in [
            ("rhel", "fedora", RedHat),
            ("rhcos", "rhel fedora", RedHat),
            ("centos", "rhel fedora", RedHat),
            ("rocky", "rhel centos fedora", RedHat),
            ("almalinux", "rhel centos fedora", RedHat),
            ("ol", "fedora", RedHat),
            ("ubuntu", "debian", Debian),
            ("debian", "", Debian),
            ("sles", "suse", Suse),
            ("sl-micro", "suse", Suse),
            ("opensuse-leap", "suse opensuse", Suse),
            // Known by what they are like.
            ("amzn", "fedora", RedHat),
            ("pop", "ubuntu debian", Debian),
        ] {
            assert_eq!(DistributionFamily::of(&os(id, id_like)), Ok(family), "{id}");
        }
    }

    #[test]
    fn an_unknown_distribution_is_named() {
        for (id, id_like, message) in [
            ("alpine", "", "the distribution \"alpine\" (ID of os-release) belongs to no known family"),
            (
                "cachyos",
                "arch",
                "the distribution \"cachyos\" (ID of os-release, ID_LIKE \"arch\") belongs to no known family",
            ),
            ("", "", "the distribution \"\" (ID of os-release) belongs to no known family"),
        ] {
            let error = DistributionFamily::of(&os(id, id_like)).unwrap_err();
            assert_eq!(error.to_string(), format!("{message} (Red Hat, Debian, SUSE)"));
        }
    }

    #[test]
    fn this_programs_architecture_is_the_machines() {
        let uname = std::process::Command::new("uname").arg("-m").output().unwrap();
        let machine = String::from_utf8(uname.stdout).unwrap();
        assert_eq!(Architecture::of_this_program().as_str(), machine.trim());
    }

    #[test]
    fn architectures_of_packages() {
        use PackageFormat::{Deb, Rpm};
        for (machine, format, package, taken) in [
            ("x86_64", Rpm, "x86_64", true),
            ("x86_64", Rpm, "noarch", true),
            ("x86_64", Rpm, "aarch64", false),
            ("x86_64", Rpm, "all", false),
            ("x86_64", Deb, "amd64", true),
            ("x86_64", Deb, "all", true),
            ("x86_64", Deb, "arm64", false),
            ("aarch64", Deb, "arm64", true),
            ("ppc64le", Deb, "ppc64el", true),
            ("ppc64le", Rpm, "ppc64le", true),
            ("s390x", Deb, "s390x", true),
        ] {
            let machine = Architecture::from_uname(machine);
            assert_eq!(machine.takes(format, package), taken, "{machine} {format} {package}");
        }
    }
}
