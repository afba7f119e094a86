//! What packages have registered with DKMS, which builds modules anew for each kernel.
//!
//! What is registered outlives the removal of its modules: the next kernel, or the next run of `dkms autoinstall`, has
//! them again, and they stand in front of the inbox driver.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nic_host::{CommandError, Host, Invocation};
use serde::{Deserialize, Serialize};

use crate::PackageFile;

/// DKMS takes modules away kernel by kernel, and may rebuild an initramfs for each.
const DKMS_DEADLINE: Duration = Duration::from_secs(15 * 60);
const SOURCES: &str = "/usr/src";

/// Modules that DKMS knows, by the name and version of their sources.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DkmsModule {
    /// Their name.
    pub name: String,
    /// Their version.
    pub version: String,
}

impl DkmsModule {
    /// Where DKMS looks for their sources (dkms(8), `add`).
    #[must_use]
    pub fn source_folder(&self) -> PathBuf {
        Path::new(SOURCES).join(format!("{}-{}", self.name, self.version))
    }

    /// The command that takes them out of all kernels' trees and forgets them.
    pub(crate) fn removal(&self) -> Invocation {
        Invocation::new("dkms")
            .args(["remove", "-m", &self.name, "-v", &self.version, "--all"])
            .deadline(DKMS_DEADLINE)
    }
}

impl fmt::Display for DkmsModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

/// The folders of sources for DKMS that a package holds.
pub(crate) fn source_folders(package: &PackageFile) -> impl Iterator<Item = PathBuf> {
    package.files.iter().filter_map(|file| {
        let folder = file.parent().filter(|folder| folder.parent() == Some(Path::new(SOURCES)))?;
        (file.file_name()? == "dkms.conf").then(|| folder.to_path_buf())
    })
}

/// All that DKMS knows; nothing where there is no DKMS.
pub(crate) async fn registered(host: &Host) -> Result<Vec<DkmsModule>, CommandError> {
    if host.find_program("dkms").is_none() {
        return Ok(Vec::new());
    }
    let status = host.run(&Invocation::new("dkms").arg("status").deadline(DKMS_DEADLINE)).await?;
    Ok(parse_status(&status.stdout))
}

/// Reads `dkms status`: `name/version, kernel, arch: state` since DKMS 3, before it `name, version, kernel, arch: state`;
/// without kernel and architecture where nothing is built. There is a line for each kernel.
fn parse_status(text: &str) -> Vec<DkmsModule> {
    let mut modules: Vec<DkmsModule> = text.lines().filter_map(parse_line).collect();
    modules.sort_unstable();
    modules.dedup();
    modules
}

/// A line that speaks of no module, such as a warning, is passed over.
fn parse_line(line: &str) -> Option<DkmsModule> {
    let (head, _state) = line.trim().split_once(": ")?;
    let mut fields = head.split(", ");
    let first = fields.next()?;
    let (name, version) = match first.split_once('/') {
        Some(both) => both,
        None => (first, fields.next()?),
    };
    let is_word = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    (is_word(name) && is_word(version))
        .then(|| DkmsModule { name: name.to_owned(), version: version.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_status() {
        // From DKMS 3.0.10 and 2.8.4.
        for text in [
            "mlnx-ofed-kernel/25.10.OFED.25.10.1.2.8.1, 5.15.0-25-generic, x86_64: installed\n\
             mlnx-ofed-kernel/25.10.OFED.25.10.1.2.8.1, 6.8.0-31-generic, x86_64: installed (WARNING! Diff between built and \
             installed module!)\n\
             iser/25.10: added\n",
            "mlnx-ofed-kernel, 25.10.OFED.25.10.1.2.8.1, 5.15.0-25-generic, x86_64: installed\niser, 25.10: added\n\
             Deprecated feature: REMAKE_INITRD (/var/lib/dkms/iser/25.10/source/dkms.conf)\n\n",
        ] {
            let modules: Vec<String> = parse_status(text).iter().map(ToString::to_string).collect();
            assert_eq!(modules, ["iser/25.10", "mlnx-ofed-kernel/25.10.OFED.25.10.1.2.8.1"], "{text}");
        }
        assert_eq!(parse_status(""), []);
    }

    #[test]
    fn a_package_tells_its_sources_by_their_configuration() {
        let package = PackageFile {
            path: PathBuf::from("/p.deb"),
            format: crate::PackageFormat::Deb,
            name: "mlnx-ofed-kernel-dkms".to_owned(),
            version: "25.10".to_owned(),
            architecture: "all".to_owned(),
            files: [
                "mlnx-ofed-kernel-25.10/dkms.conf",
                "mlnx-ofed-kernel-25.10/ofed_scripts/dkms.conf",
                "other-1/Makefile",
            ]
            .map(|file| Path::new(SOURCES).join(file))
            .to_vec(),
        };
        let folders: Vec<PathBuf> = source_folders(&package).collect();
        let module = DkmsModule { name: "mlnx-ofed-kernel".to_owned(), version: "25.10".to_owned() };
        assert_eq!(folders, [module.source_folder()]);
    }
}
