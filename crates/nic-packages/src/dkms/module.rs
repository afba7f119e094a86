use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nic_host::{CommandError, Host, Invocation};
use serde::{Deserialize, Serialize};

/// DKMS takes modules away kernel by kernel, and may rebuild an initramfs for each.
const DKMS_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// Where DKMS looks for sources.
pub(crate) const SOURCES: &str = "/usr/src";

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

    /// `dkms ACTION` for them.
    pub(super) fn command(&self, action: &str) -> Invocation {
        Invocation::new("dkms").args([action, "-m", &self.name, "-v", &self.version]).deadline(DKMS_DEADLINE)
    }

    /// The command that takes them out of all kernels' trees and forgets them.
    pub(crate) fn removal(&self) -> Invocation {
        self.command("remove").arg("--all")
    }
}

impl fmt::Display for DkmsModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

/// How far DKMS has got with modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DkmsState {
    /// It knows their sources.
    Added,
    /// It has built them for a kernel.
    Built,
    /// They are in that kernel's tree.
    Installed,
}

/// One line of `dkms status`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DkmsStatus {
    /// The modules.
    pub module: DkmsModule,
    /// The kernel; `None` where nothing is built.
    pub kernel: Option<String>,
    /// How far it has got.
    pub state: DkmsState,
}

/// The modules that DKMS knows; nothing where there is no DKMS.
pub(crate) async fn registered(host: &Host) -> Result<Vec<DkmsModule>, CommandError> {
    let mut modules: Vec<DkmsModule> = status(host).await?.into_iter().map(|line| line.module).collect();
    modules.sort_unstable();
    modules.dedup();
    Ok(modules)
}

/// All that DKMS knows; nothing where there is no DKMS.
pub(super) async fn status(host: &Host) -> Result<Vec<DkmsStatus>, CommandError> {
    if host.find_program("dkms").is_none() {
        return Ok(Vec::new());
    }
    let status = host.run(&Invocation::new("dkms").arg("status").deadline(DKMS_DEADLINE)).await?;
    Ok(parse_status(&status.stdout))
}

/// Reads `dkms status`: `name/version, kernel, arch: state` since DKMS 3, before it `name, version, kernel, arch: state`;
/// without kernel and architecture where nothing is built. There is a line for each kernel.
fn parse_status(text: &str) -> Vec<DkmsStatus> {
    text.lines().filter_map(parse_line).collect()
}

/// A line that speaks of no module, such as a warning, is passed over. A state that is not known is that of sources which
/// are known.
fn parse_line(line: &str) -> Option<DkmsStatus> {
    let (head, state) = line.trim().split_once(": ")?;
    let mut fields = head.split(", ");
    let first = fields.next()?;
    let (name, version) = match first.split_once('/') {
        Some(both) => both,
        None => (first, fields.next()?),
    };
    let is_word = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    let state = match state.split([' ', '-']).next() {
        Some("installed") => DkmsState::Installed,
        Some("built") => DkmsState::Built,
        _ => DkmsState::Added,
    };
    (is_word(name) && is_word(version)).then(|| DkmsStatus {
        module: DkmsModule { name: name.to_owned(), version: version.to_owned() },
        kernel: fields.next().map(str::to_owned),
        state,
    })
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
             mlnx-ofed-kernel/25.10.OFED.25.10.1.2.8.1, 6.11.0-9-generic, x86_64: built\n\
             iser/25.10: added\n",
            "mlnx-ofed-kernel, 25.10.OFED.25.10.1.2.8.1, 5.15.0-25-generic, x86_64: installed\n\
             mlnx-ofed-kernel, 25.10.OFED.25.10.1.2.8.1, 6.8.0-31-generic, x86_64: installed-weak from 6.8.0-30\n\
             mlnx-ofed-kernel, 25.10.OFED.25.10.1.2.8.1, 6.11.0-9-generic, x86_64: built\n\
             iser, 25.10: added\n\
             Deprecated feature: REMAKE_INITRD (/var/lib/dkms/iser/25.10/source/dkms.conf)\n\n",
        ] {
            let lines: Vec<String> = parse_status(text)
                .iter()
                .map(|line| {
                    format!("{} {} {:?}", line.module, line.kernel.as_deref().unwrap_or("-"), line.state)
                })
                .collect();
            assert_eq!(
                lines,
                [
                    "mlnx-ofed-kernel/25.10.OFED.25.10.1.2.8.1 5.15.0-25-generic Installed",
                    "mlnx-ofed-kernel/25.10.OFED.25.10.1.2.8.1 6.8.0-31-generic Installed",
                    "mlnx-ofed-kernel/25.10.OFED.25.10.1.2.8.1 6.11.0-9-generic Built",
                    "iser/25.10 - Added",
                ],
                "{text}"
            );
        }
        assert_eq!(parse_status(""), []);
    }
}
