use std::path::{Path, PathBuf};

use nic_host::{Host, ReadError};
use nic_packages::{Distribution, DistributionFamily, Node};
use serde::Serialize;

use crate::gcc::{GccVersion, toolset_program, versioned_program};

/// What of a machine decides what is done at every start, whether or not something is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StartFacts {
    /// The program that takes certificates over, where there is one.
    pub certificate_program: Option<&'static str>,
    /// Whether this Ubuntu is attached to Ubuntu Pro.
    pub is_attached_to_pro: bool,
}

impl StartFacts {
    /// Looks at the machine.
    #[must_use]
    pub fn observe(host: &Host, node: &Node) -> Self {
        Self {
            certificate_program: certificate_program(node.distribution.family())
                .filter(|program| host.find_program(program).is_some()),
            is_attached_to_pro: host.exists("/var/lib/ubuntu-advantage/private/machine-token.json"),
        }
    }
}

/// What of a machine decides what a build needs, beside which node it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuildFacts {
    /// The compiler that built the kernel, where `/proc/version` tells one. On OpenShift, which has its own, it is not asked for.
    pub gcc: Option<GccVersion>,
    /// Whether that compiler is here already, under the name that it is to be called by.
    pub has_compiler: bool,
    /// Whether the kernel's headers are where a build looks for them.
    pub has_headers: bool,
    /// Whether this is a container that sees the host's `/etc`.
    pub sees_host: bool,
    /// Where a registration of this system was looked for; `None` where one is visible, or none is needed.
    pub missing_registration: Option<Vec<PathBuf>>,
}

impl BuildFacts {
    /// Reads the machine.
    ///
    /// # Errors
    /// `/proc/version` cannot be read where it is needed.
    pub fn observe(host: &Host, node: &Node) -> Result<Self, ReadError> {
        let family = node.distribution.family();
        let gcc = match node.distribution {
            Distribution::OpenShift => None,
            _ => GccVersion::of_kernel(&host.read("/proc/version")?),
        };
        let program = |version: GccVersion| match family {
            DistributionFamily::RedHat => toolset_program(version),
            DistributionFamily::Debian | DistributionFamily::Suse => versioned_program(version),
        };
        let headers = Path::new("/lib/modules").join(node.kernel.as_str()).join("build");
        Ok(Self {
            gcc,
            has_compiler: gcc.is_some_and(|version| host.is_executable(program(version))),
            // Through a link: one that leads nowhere is none.
            has_headers: host.path(headers).exists(),
            sees_host: host.exists("/host/etc"),
            missing_registration: missing_registration(host, node),
        })
    }
}

/// The program that takes certificates over in distributions of this family.
fn certificate_program(family: DistributionFamily) -> Option<&'static str> {
    match family {
        DistributionFamily::Debian | DistributionFamily::Suse => Some("update-ca-certificates"),
        DistributionFamily::RedHat => Some("update-ca-trust"),
    }
}

/// Where a registration lies that a container is given: by CRI-O or as mounts on Red Hat's, as mounts on SUSE's. Distributions
/// that are like them have repositories for everybody.
fn missing_registration(host: &Host, node: &Node) -> Option<Vec<PathBuf>> {
    let places: &[&str] = match node.own_os.id.as_str() {
        "rhel" | "rhcos" => &["/run/secrets/etc-pki-entitlement", "/etc/pki/entitlement"],
        "sles" | "sled" | "sle-micro" | "sl-micro" => &["/etc/zypp/credentials.d", "/etc/SUSEConnect"],
        _ => return None,
    };
    let holds_something = |place: &&str| {
        // A folder with something in it, or a file. What cannot be listed is not known to be missing.
        host.list_if_exists(place).map_or(true, |names| !names.is_empty()) || host.path(place).is_file()
    };
    let is_visible = places.iter().any(holds_something);
    (!is_visible).then(|| places.iter().map(PathBuf::from).collect())
}
