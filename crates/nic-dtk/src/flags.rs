//! What the build is asked for, as words: no program is run here.

use nic_host::{Foreign, KernelRelease};
use serde::{Deserialize, Serialize};

use crate::DtkEnv;

/// What `install.pl` is given in every sidecar, in this order.
const INSTALL_FLAGS: [&str; 9] = [
    "--build-only",
    "--kernel-only",
    "--without-knem",
    "--without-iser",
    "--without-isert",
    "--without-srp",
    "--with-mlnx-tools",
    "--with-ofed-scripts",
    "--copy-ifnames-udev",
];

/// Without DKMS the modules alone come out; with it, neither of these is given, and both its sources and built modules do.
const WITHOUT_DKMS: [&str; 2] = ["--disable-kmp", "--without-dkms"];

/// Without NFS over RDMA.
const WITHOUT_NFSRDMA: [&str; 2] = ["--without-mlnx-nfsrdma", "--without-mlnx-nvme"];

/// What the toolkit's image lacks of what `install.pl` needs: dnf's arguments, one call after the other.
const PREREQUISITES: [&[&str]; 2] = [
    &["dnf", "install", "-y", "perl"],
    &["dnf", "install", "-y", "ethtool", "autoconf", "pciutils", "automake", "libtool", "python3-devel"],
];

/// Whether NVMe and NFS over RDMA are built, too (`ENABLE_NFSRDMA`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NfsRdma {
    /// They are.
    Built,
    /// They are not.
    LeftOut,
}

/// The words of `APPEND_DRIVER_BUILD_FLAGS`: what is left out, `--kernel`, `--distro` (`rhel9.6`), and the user's last.
#[must_use]
pub fn appended_flags(
    nfs_rdma: NfsRdma,
    kernel: &KernelRelease,
    distro: &str,
    users: &[String],
) -> Vec<String> {
    let left_out: &[&str] = match nfs_rdma {
        NfsRdma::Built => &[],
        NfsRdma::LeftOut => &WITHOUT_NFSRDMA,
    };
    let ours = ["--kernel", kernel.as_str(), "--distro", distro];
    left_out.iter().chain(&ours).map(|word| (*word).to_owned()).chain(users.iter().cloned()).collect()
}

/// The appended flags of a `dtk.env` are not quoted as for a shell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("APPEND_DRIVER_BUILD_FLAGS={}: a quote is not closed", Foreign(.0))]
pub struct AppendedFlagsError(pub String);

/// The arguments of `install.pl` in the sidecar.
pub fn install_arguments(env: &DtkEnv) -> Result<Vec<String>, AppendedFlagsError> {
    let appended = shell_words::split(&env.append_build_flags)
        .map_err(|_| AppendedFlagsError(env.append_build_flags.clone()))?;
    let dkms: &[&str] = if env.use_dkms { &[] } else { &WITHOUT_DKMS };
    Ok(INSTALL_FLAGS.iter().chain(dkms).map(|word| (*word).to_owned()).chain(appended).collect())
}

/// The commands that install what `install.pl` needs in the toolkit's image. Each must succeed before the next.
#[must_use]
pub fn prerequisites() -> Vec<Vec<String>> {
    PREREQUISITES.map(|words| words.iter().map(|word| (*word).to_owned()).collect()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SharedFolder;

    fn env(flags: &str, use_dkms: bool) -> DtkEnv {
        let folder = SharedFolder::new("/mnt/shared", &"5.14.0".parse().unwrap());
        let env = DtkEnv::new(&folder, &"25.10-1.2.8.0".parse().unwrap());
        DtkEnv { append_build_flags: flags.to_owned(), use_dkms, ..env }
    }

    #[test]
    fn what_is_appended_is_in_order() {
        let kernel = "5.14.0-570.el9_6.aarch64+64k".parse().unwrap();
        let users = ["--with a".to_owned()];
        assert_eq!(
            appended_flags(NfsRdma::LeftOut, &kernel, "rhel9.6", &users),
            [
                "--without-mlnx-nfsrdma",
                "--without-mlnx-nvme",
                "--kernel",
                "5.14.0-570.el9_6.aarch64+64k",
                "--distro",
                "rhel9.6",
                "--with a",
            ]
        );
        assert_eq!(
            appended_flags(NfsRdma::Built, &kernel, "rhel9.6", &[]),
            ["--kernel", "5.14.0-570.el9_6.aarch64+64k", "--distro", "rhel9.6"]
        );
    }

    #[test]
    fn what_install_pl_is_given() {
        let common = "--build-only --kernel-only --without-knem --without-iser --without-isert --without-srp \
                      --with-mlnx-tools --with-ofed-scripts --copy-ifnames-udev";
        for (use_dkms, flags, expected) in [
            (false, "", " --disable-kmp --without-dkms"),
            (true, "", ""),
            (
                false,
                "--kernel 5.14.0  --distro rhel9.6",
                " --disable-kmp --without-dkms --kernel 5.14.0 --distro rhel9.6",
            ),
            (true, "--kernel 5.14.0", " --kernel 5.14.0"),
        ] {
            let arguments = install_arguments(&env(flags, use_dkms)).unwrap();
            assert_eq!(arguments.join(" "), format!("{common}{expected}"));
        }
        let quoted = install_arguments(&env("--a 'b c'", true)).unwrap();
        assert_eq!(quoted.last().unwrap(), "b c");
        install_arguments(&env("--a 'b", true)).unwrap_err();
    }

    #[test]
    fn perl_is_installed_first() {
        insta::assert_debug_snapshot!(
            prerequisites().iter().map(|argv| argv.join(" ")).collect::<Vec<_>>(),
            @r#"
        [
            "dnf install -y perl",
            "dnf install -y ethtool autoconf pciutils automake libtool python3-devel",
        ]
        "#
        );
    }
}
