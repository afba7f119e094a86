use std::path::{Path, PathBuf};

use nic_host::{Host, ListError, ReadError};
use serde::Serialize;

use super::module::{DkmsModule, SOURCES};
use crate::PackageFile;

const CONFIGURATION: &str = "dkms.conf";
/// The kernel follows no more (`MAXSYMLINKS` in include/linux/namei.h).
const MOST_LINKS: usize = 40;

/// Sources with a configuration for DKMS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DkmsSource {
    /// What they are called in their configuration.
    pub module: DkmsModule,
    /// The folder of the configuration, with links followed.
    pub folder: PathBuf,
}

/// There are no sources for DKMS, or they could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum FindSourcesError {
    /// `/usr/src` could not be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// A link or a configuration could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// None were found.
    #[error(
        "no sources for DKMS are below {SOURCES}: there is neither */{CONFIGURATION} nor */source/{CONFIGURATION} that names its \
         package and version; was the driver built without DKMS?"
    )]
    None,
}

impl DkmsSource {
    /// The sources that packages have brought, by their `recorded` folders; where none are recorded, as on an image whose
    /// packages others installed: those of `mlnx-ofa_kernel-*`, or else the first.
    ///
    /// A configuration is looked for in each folder of `/usr/src` and in its `source/`, through links.
    ///
    /// # Errors
    /// There are none, or they could not be looked at.
    pub fn find(host: &Host, recorded: &[PathBuf]) -> Result<Vec<Self>, FindSourcesError> {
        let mut names = host.list_if_exists(SOURCES)?;
        names.sort_by_key(|name| !name.starts_with("mlnx-ofa_kernel-"));
        let mut sources: Vec<Self> = Vec::new();
        for name in names {
            if let Some(source) = Self::below(host, &Path::new(SOURCES).join(name))?
                && !sources.iter().any(|other| other.folder == source.folder)
            {
                sources.push(source);
            }
        }
        if recorded.is_empty() {
            sources.truncate(1);
        } else {
            let recorded: Vec<PathBuf> =
                recorded.iter().map(|folder| resolve(host, folder)).collect::<Result<_, _>>()?;
            sources.retain(|source| recorded.contains(&source.folder));
        }
        if sources.is_empty() { Err(FindSourcesError::None) } else { Ok(sources) }
    }

    /// The sources in `folder` or its `source/`.
    fn below(host: &Host, folder: &Path) -> Result<Option<Self>, ReadError> {
        let folder = resolve(host, folder)?;
        for place in [folder.clone(), resolve(host, &folder.join("source"))?] {
            if let Some(module) = configured(host, &place)? {
                return Ok(Some(Self { module, folder: place }));
            }
        }
        Ok(None)
    }

    /// Whether DKMS finds them under their name.
    pub(super) fn is_found_by_name(&self, host: &Host) -> Result<bool, ReadError> {
        Ok(resolve(host, &self.module.source_folder())? == self.folder)
    }
}

/// What the configuration in `folder` is for; `None` where there is none that tells it.
fn configured(host: &Host, folder: &Path) -> Result<Option<DkmsModule>, ReadError> {
    let text = host.read_if_exists(folder.join(CONFIGURATION))?;
    Ok(text.as_deref().and_then(parse_configuration))
}

/// Reads `PACKAGE_NAME` and `PACKAGE_VERSION`. A `dkms.conf` is a shell script; a value that only a shell could tell is
/// none.
fn parse_configuration(text: &str) -> Option<DkmsModule> {
    let value = |name: &str| {
        let line = text.lines().rev().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?;
        let words = shell_words::split(line).ok()?;
        let value = words.first()?;
        (!value.is_empty() && !value.contains(['$', '`', '/'])).then(|| value.clone())
    };
    Some(DkmsModule { name: value("PACKAGE_NAME")?, version: value("PACKAGE_VERSION")? })
}

/// `path` with the links at its end followed, within the host's root.
fn resolve(host: &Host, path: &Path) -> Result<PathBuf, ReadError> {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let Some(target) = host.link_target(&path)? else { break };
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    // `a/../b` is `b`: package's links are written so.
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    Ok(plain)
}

/// The folders of sources for DKMS that a package holds: those right below `/usr/src`, and their `source/`.
pub(crate) fn source_folders(package: &PackageFile) -> impl Iterator<Item = PathBuf> {
    package.files.iter().filter_map(|file| {
        let folder = file.parent().filter(|_| file.file_name().is_some_and(|name| name == CONFIGURATION))?;
        let above = if folder.ends_with("source") { folder.parent()? } else { folder };
        (above.parent() == Some(Path::new(SOURCES))).then(|| folder.to_path_buf())
    })
}

/// Those of what DKMS knows whose sources lie in the recorded folders: by the configuration that lies there, by the name of
/// the folder, or through a link by that name.
pub(crate) fn of_recorded(
    host: &Host,
    recorded: &[PathBuf],
    registered: &[DkmsModule],
) -> Result<Vec<DkmsModule>, ReadError> {
    let mut ours = Vec::new();
    for folder in recorded {
        let configured = configured(host, folder)?;
        for module in registered {
            let is_of_it = configured.as_ref() == Some(module)
                || module.source_folder() == *folder
                || resolve(host, &module.source_folder())? == resolve(host, folder)?;
            if is_of_it && !ours.contains(module) {
                ours.push(module.clone());
            }
        }
    }
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations() {
        let parse = |text: &str| parse_configuration(text).map(|module| module.to_string());
        for (text, module) in [
            ("PACKAGE_NAME=\"mlnx-ofa_kernel\"\nPACKAGE_VERSION='25.10'\n", Some("mlnx-ofa_kernel/25.10")),
            ("# x\n  PACKAGE_NAME=a # the name\nPACKAGE_VERSION=1\nPACKAGE_VERSION=2\n", Some("a/2")),
            ("PACKAGE_NAME=a\n", None),
            ("PACKAGE_NAME=a\nPACKAGE_VERSION=$(cat VERSION)\n", None),
            ("PACKAGE_NAME=../a\nPACKAGE_VERSION=1\n", None),
            ("PACKAGE_NAME=\nPACKAGE_VERSION=1\n", None),
            ("PACKAGE_NAMES=a\nPACKAGE_VERSION=1\n", None),
            ("PACKAGE_NAME='a\nPACKAGE_VERSION=1\n", None),
        ] {
            assert_eq!(parse(text).as_deref(), module, "{text}");
        }
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
                "mlnx-ofed-kernel-25.10/source/deeper/dkms.conf",
                "ofa_kernel-26.04/source/dkms.conf",
                "other-1/Makefile",
            ]
            .map(|file| Path::new(SOURCES).join(file))
            .to_vec(),
        };
        let folders: Vec<PathBuf> = source_folders(&package).collect();
        assert_eq!(
            folders,
            ["mlnx-ofed-kernel-25.10", "ofa_kernel-26.04/source"]
                .map(|folder| Path::new(SOURCES).join(folder))
        );
    }
}
