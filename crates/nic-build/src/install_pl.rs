//! The driver's own build program and the flags it is given.

use std::path::Path;
use std::time::Duration;

use nic_packages::{Distribution, DistributionFamily, Node, RhelReleaseError};

use crate::command::PlannedCommand;

/// A build takes minutes on a big machine and more than an hour on a small one.
const BUILD_DEADLINE: Duration = Duration::from_secs(2 * 60 * 60);

/// What is asked of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildSettings {
    /// NFS over RDMA and NVMe are built, too.
    pub enable_nfsrdma: bool,
    /// Packages for DKMS are built.
    pub use_dkms: bool,
    /// More flags, behind all others.
    pub user_flags: UserFlags,
}

/// Flags that a user gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFlags(Vec<String>);

/// Flags that cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} cannot be split into words as a shell does: a quote is not closed")]
pub struct UserFlagsError {
    /// The variable that gives them.
    pub variable: String,
}

impl UserFlags {
    /// Splits the value of `variable` as a shell does. Nothing is expanded.
    ///
    /// # Errors
    /// A quote is not closed.
    pub fn parse(variable: &str, value: &str) -> Result<Self, UserFlagsError> {
        match shell_words::split(value) {
            Ok(words) => Ok(Self(words)),
            Err(_) => Err(UserFlagsError { variable: variable.to_owned() }),
        }
    }

    /// The flags.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

/// The build of the driver's packages from the sources in `folder`, on this node.
///
/// # Errors
/// A node of Red Hat's family does not tell the release that `--distro` needs.
pub fn install_pl(
    node: &Node,
    folder: &Path,
    settings: &BuildSettings,
) -> Result<PlannedCommand, RhelReleaseError> {
    let is_debian = node.distribution.family() == DistributionFamily::Debian;
    let without = |parts: &[&str]| -> Vec<String> {
        let suffix = if is_debian { "-modules" } else { "" };
        parts.iter().map(|part| format!("--without-{part}{suffix}")).collect()
    };
    let mut flags: Vec<String> =
        ["--without-depcheck", "--kernel", node.kernel.as_str()].map(str::to_owned).to_vec();
    flags.extend(["--kernel-only", "--build-only", "--with-mlnx-tools"].map(str::to_owned));
    flags.extend(without(&["knem", "iser", "isert", "srp", "kernel-mft", "mlnx-rdma-rxe"]));
    flags.extend(package_kind(settings.use_dkms));
    match node.distribution {
        Distribution::Suse => {
            flags.push("--kernel-sources".to_owned());
            flags.push(format!("/lib/modules/{}/build", node.kernel));
        }
        Distribution::RedHat | Distribution::RedHatImage => {
            flags.push("--distro".to_owned());
            flags.push(node.rhel_release()?.distro());
        }
        Distribution::OpenShift | Distribution::Ubuntu | Distribution::Debian => {}
    }
    flags.extend(["--without-xpmem", "--without-xpmem-modules"].map(str::to_owned));
    if settings.use_dkms {
        flags.push("--without-xpmem-dkms".to_owned());
    }
    if !settings.enable_nfsrdma {
        flags.extend(without(&["mlnx-nfsrdma", "mlnx-nvme"]));
    }
    flags.extend_from_slice(settings.user_flags.words());
    Ok(command(folder, flags))
}

fn package_kind(use_dkms: bool) -> impl Iterator<Item = String> {
    let without_dkms = (!use_dkms).then_some("--without-dkms");
    std::iter::once("--disable-kmp").chain(without_dkms).map(str::to_owned)
}

fn command(folder: &Path, flags: Vec<String>) -> PlannedCommand {
    let program = folder.join("install.pl").to_string_lossy().into_owned();
    PlannedCommand::new("build the driver's packages", [program]).args(flags).deadline(BUILD_DEADLINE)
}

/// A build from the sources in `folder` with these flags, as another has decided them.
#[must_use]
pub fn install_pl_with(folder: &Path, flags: Vec<String>) -> PlannedCommand {
    command(folder, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_flags_are_split_as_a_shell_does() {
        let parse = |text| UserFlags::parse("APPEND_DRIVER_BUILD_FLAGS", text);
        for (text, words) in [
            ("", &[][..]),
            (" \t\n", &[]),
            ("--a  --b\t--c\n", &["--a", "--b", "--c"]),
            ("--build-option='x y' \"$(id)\" \\$HOME", &["--build-option=x y", "$(id)", "$HOME"]),
        ] {
            assert_eq!(parse(text).unwrap().words(), words, "{text}");
        }
        assert_eq!(
            parse("--a 'b").unwrap_err().to_string(),
            "APPEND_DRIVER_BUILD_FLAGS cannot be split into words as a shell does: a quote is not closed"
        );
    }
}
