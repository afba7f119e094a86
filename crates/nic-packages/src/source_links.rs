//! Links below `/usr/src/ofa_kernel`, through which others find the headers of the installed driver.
//!
//! Others see that folder at another path, where an absolute link leads to files of their own, or nowhere. The packages make
//! absolute ones.

use std::fs;
use std::path::{Component, Path, PathBuf};

use nic_host::{Host, KernelRelease, ListError, ReadError, WriteError};

use crate::Architecture;

const SOURCES: &str = "/usr/src";
const FOLDER: &str = "/usr/src/ofa_kernel";

/// A link could not be made relative. Those before it are.
#[derive(Debug, thiserror::Error)]
pub enum SourceLinksError {
    /// A folder could not be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// A link could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A link could not be replaced.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Makes the absolute links of `/usr/src/ofa_kernel` relative that lead to something below `/usr/src`: the folder itself, what is in
/// it, and what is in its folders (`<architecture>/<kernel>`). An absolute link `default` leads to this kernel's folder afterwards,
/// where there is one. Returns those that were replaced, with what they point to.
///
/// # Errors
/// At the first that cannot be read or replaced.
pub fn make_source_links_relative(
    host: &Host,
    kernel: &KernelRelease,
    architecture: &Architecture,
) -> Result<Vec<(PathBuf, PathBuf)>, SourceLinksError> {
    let folder = Path::new(FOLDER);
    let own = Path::new(architecture.as_str()).join(kernel.as_str());
    let mut places = vec![folder.to_path_buf()];
    for place in list(host, folder)? {
        places.extend(list(host, &place)?);
        places.push(place);
    }
    let mut replaced = Vec::new();
    for link in places {
        let Some(target) = host.link_target(&link)?.filter(|target| target.is_absolute()) else { continue };
        let is_default = link == folder.join("default");
        let relative = match is_default && host.exists(folder.join(&own)) {
            true => Some(own.clone()),
            false => link.parent().and_then(|from| relative(from, &target)),
        };
        if let Some(relative) = relative {
            replace(host, &link, &relative)?;
            replaced.push((link, relative));
        }
    }
    Ok(replaced)
}

/// What is in a folder; nothing in a link, wherever it leads.
fn list(host: &Host, folder: &Path) -> Result<Vec<PathBuf>, ListError> {
    if !fs::symlink_metadata(host.path(folder)).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(Vec::new());
    }
    Ok(host.list(folder)?.into_iter().map(|name| folder.join(name)).collect())
}

/// The way from a folder to a target, both below `/usr/src`.
fn relative(from: &Path, target: &Path) -> Option<PathBuf> {
    let [from, target] = [from, target].map(|path| path.strip_prefix(SOURCES).ok());
    let (from, target) = (from?, target?);
    let shared = from.components().zip(target.components()).take_while(|(one, other)| one == other).count();
    if !target.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(target.components().skip(shared)).collect();
    Some(if way.as_os_str().is_empty() { PathBuf::from(".") } else { way })
}

/// Puts a link in another's place, so that there is one at any time.
fn replace(host: &Host, link: &Path, target: &Path) -> Result<(), WriteError> {
    let mut new = link.to_path_buf().into_os_string();
    new.push(".nic-driver-link");
    let new = PathBuf::from(new);
    host.remove_file(&new)?;
    host.make_link(&new, target)?;
    fs::rename(host.path(&new), host.path(link)).map_err(|source| WriteError {
        path: host.path(link),
        action: "replace the link".to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const KERNEL: &str = "6.8.0-31-generic";

    /// The links of a tree with these links, and with the folders that are named without a target, afterwards.
    fn afterwards(entries: &[(&str, Option<&str>)]) -> Result<Vec<String>, SourceLinksError> {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        for (path, target) in entries {
            let path = host.path(Path::new(SOURCES).join(path));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match target {
                None => fs::create_dir_all(path).unwrap(),
                Some(target) => symlink(target, path).unwrap(),
            }
        }
        let mend = || {
            make_source_links_relative(&host, &KERNEL.parse().unwrap(), &Architecture::from_uname("x86_64"))
        };
        let replaced = mend()?;
        assert_eq!(mend()?, [], "once is enough");
        for (link, target) in &replaced {
            assert_eq!(host.link_target(link).unwrap().as_ref(), Some(target));
        }
        let shown = |path: PathBuf| path.strip_prefix(SOURCES).unwrap().display().to_string();
        Ok(replaced
            .into_iter()
            .map(|(link, target)| format!("{} -> {}", shown(link), target.display()))
            .collect())
    }

    #[test]
    fn absolute_links_below_the_sources_are_made_relative() {
        let own = "ofa_kernel/x86_64/6.8.0-31-generic";
        // To the kernel's own folder, also where it led to another's.
        for target in ["/usr/src/ofa_kernel/x86_64/6.8.0-31-generic", "/usr/src/ofa_kernel/x86_64/5.15.0-25"]
        {
            let found = afterwards(&[(own, None), ("ofa_kernel/default", Some(target))]).unwrap();
            assert_eq!(found, ["ofa_kernel/default -> x86_64/6.8.0-31-generic"]);
        }
        // As packages for DKMS have them since 26.04.
        let dkms = afterwards(&[
            ("ofa_kernel-dkms/include", None),
            (own, Some("/usr/src/ofa_kernel-dkms")),
            ("ofa_kernel/default", Some("/usr/src/ofa_kernel-dkms")),
            ("ofa_kernel/other", Some("/usr/src/ofa_kernel-dkms/include")),
        ]);
        assert_eq!(
            dkms.unwrap(),
            [
                "ofa_kernel/default -> x86_64/6.8.0-31-generic",
                "ofa_kernel/other -> ../ofa_kernel-dkms/include",
                "ofa_kernel/x86_64/6.8.0-31-generic -> ../../ofa_kernel-dkms",
            ]
        );
        let folder =
            afterwards(&[("ofa_kernel-dkms/x", None), ("ofa_kernel", Some("/usr/src/ofa_kernel-dkms"))]);
        assert_eq!(folder.unwrap(), ["ofa_kernel -> ofa_kernel-dkms"]);
    }

    #[test]
    fn other_links_stay() {
        let found = afterwards(&[
            ("ofa_kernel/x86_64/6.8.0-31-generic", None),
            ("ofa_kernel/default", Some("x86_64/5.15.0-25")),
            ("ofa_kernel/elsewhere", Some("/lib/modules")),
            ("ofa_kernel/up", Some("/usr/src/../lib")),
            ("ofa_kernel/folder/deeper/link", Some("/usr/src/ofa_kernel")),
            ("linux", Some("/usr/src/linux-headers-6.8.0-31-generic")),
        ]);
        assert_eq!(found.unwrap(), [""; 0]);
        assert_eq!(afterwards(&[]).unwrap(), [""; 0]);
        let itself = afterwards(&[("ofa_kernel/itself", Some("/usr/src/ofa_kernel"))]);
        assert_eq!(itself.unwrap(), ["ofa_kernel/itself -> ."]);
    }

    #[test]
    fn a_link_that_cannot_be_replaced_is_named_and_stays() {
        let error = afterwards(&[
            ("ofa_kernel/default.nic-driver-link/in the way", None),
            ("ofa_kernel/default", Some("/usr/src/ofa_kernel/x86_64")),
        ])
        .unwrap_err();
        assert!(error.to_string().contains("default.nic-driver-link"), "{error}");
    }
}
