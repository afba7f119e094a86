//! Modules that were built for one kernel and that another one uses through links.
//!
//! Red Hat and SUSE keep the symbols that modules may rely on the same within a release, so a vendor ships one package for all
//! its kernels. When it is installed, weak-modules(8) compares the symbols and makes links below
//! `/lib/modules/<running kernel>/weak-updates`, where depmod finds them. Whether the symbols are the same is for that program
//! to say; here is looked beforehand whether it can be so, and afterwards whether it was.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use nic_host::{Host, KernelRelease};
use walkdir::WalkDir;

use crate::PackageFile;

/// SUSE's, which is no command.
const OF_SUSE: &str = "/usr/lib/module-init-tools/weak-modules2";

/// The links of a kernel could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot look for links to modules in {}", folder.display())]
pub struct WeakLinksError {
    /// The folder as this process sees it.
    pub folder: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// Whether the machine has the program that makes the links.
pub(crate) fn can_be_made(host: &Host) -> bool {
    host.find_program("weak-modules").is_some() || host.is_executable(OF_SUSE)
}

/// Which of the package's kernels the running one can share modules with: itself, or else the newest one of the same release
/// and flavour. `None` where there is none, or where the package has no modules.
pub(crate) fn kernel_to_use(package: &PackageFile, running: &KernelRelease) -> Option<KernelRelease> {
    let kernels = package.kernels();
    if kernels.contains(running) {
        return Some(running.clone());
    }
    let mut sharing: Vec<KernelRelease> =
        kernels.into_iter().filter(|kernel| may_share_modules(kernel, running)).collect();
    sharing.sort_by_cached_key(|kernel| numbers(kernel.as_str()));
    sharing.pop()
}

/// The modules of a package that the running kernel uses.
pub(crate) fn modules_to_use<'a>(
    package: &'a PackageFile,
    running: &KernelRelease,
) -> impl Iterator<Item = &'a Path> + use<'a> {
    let kernel = kernel_to_use(package, running);
    package.modules().filter(move |module| kernel.is_some() && crate::package::kernel_of(module) == kernel)
}

/// Those of `modules` that are of another kernel than the running one and to which none of its links leads.
pub(crate) fn unlinked<'a>(
    host: &Host,
    running: &KernelRelease,
    modules: impl IntoIterator<Item = &'a Path>,
) -> Result<Vec<PathBuf>, WeakLinksError> {
    let of_others: Vec<&Path> = modules
        .into_iter()
        .filter(|module| crate::package::kernel_of(module).is_some_and(|kernel| kernel != *running))
        .collect();
    if of_others.is_empty() {
        return Ok(Vec::new());
    }
    let targets = targets(host, running)?;
    Ok(of_others
        .into_iter()
        .filter(|module| !targets.contains(&plain(module)))
        .map(Path::to_path_buf)
        .collect())
}

/// What the links of a kernel lead to.
fn targets(host: &Host, running: &KernelRelease) -> Result<BTreeSet<PathBuf>, WeakLinksError> {
    let folder = Path::new("/lib/modules").join(running.as_str()).join("weak-updates");
    let seen = host.path(&folder);
    let failed = |source| WeakLinksError { folder: seen.clone(), source };
    let mut targets = BTreeSet::new();
    if !host.exists(&folder) {
        return Ok(targets);
    }
    for entry in WalkDir::new(&seen) {
        let entry = entry.map_err(|error| failed(error.into()))?;
        if !entry.path_is_symlink() {
            continue;
        }
        let target = fs::read_link(entry.path()).map_err(failed)?;
        let below = entry.path().strip_prefix(&seen).unwrap_or(entry.path());
        let from = folder.join(below);
        targets.insert(plain(&from.parent().unwrap_or(&folder).join(target)));
    }
    Ok(targets)
}

/// Without `..`, and without the `/usr` that one of two names of the same folder has in front.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain.strip_prefix("/usr").map_or(plain.clone(), |below| Path::new("/").join(below))
}

/// Whether modules for `built` may have the same symbols as those for `running`: the same version, the same first number of the
/// release, which is one of each minor release of RHEL and each service pack of SLES, the same architecture and flavour.
/// Realtime kernels promise nothing.
fn may_share_modules(built: &KernelRelease, running: &KernelRelease) -> bool {
    let line = KernelLine::of(built.as_str());
    line.is_some() && line == KernelLine::of(running.as_str())
}

/// What kernels between which symbols are kept have in common.
#[derive(Debug, PartialEq, Eq)]
struct KernelLine<'a> {
    version: &'a str,
    build: &'a str,
    /// `el9` of `el9_6`: the kernel with which a minor release began may have no minor number.
    distribution: &'a str,
    /// Architecture and flavour.
    rest: &'a str,
}

impl<'a> KernelLine<'a> {
    /// `5.14.0-570.73.1.el9_6.aarch64+64k`, `6.4.0-150700.53.3-default`.
    fn of(release: &'a str) -> Option<Self> {
        let (version, rest) = release.split_once('-')?;
        let (numbers, distribution, rest) = match rest.split_once(".el") {
            Some((numbers, rest)) => {
                let (distribution, rest) = rest.split_once('.')?;
                (numbers, distribution.split('_').next()?, rest)
            }
            None => {
                let (numbers, flavour) = rest.rsplit_once('-')?;
                (numbers, "", flavour)
            }
        };
        let is_realtime = numbers.contains("rt") || rest.split(['+', '-']).any(|word| word == "rt");
        let build = numbers.split('.').next()?;
        // Ubuntu's `6.8.0-31-generic` looks alike, and promises nothing: SUSE's numbers begin with that of the service pack.
        let is_known = !distribution.is_empty() || build.len() >= 6;
        (is_known && !is_realtime && build.bytes().all(|byte| byte.is_ascii_digit())).then_some(Self {
            version,
            build,
            distribution,
            rest,
        })
    }
}

/// The numbers of a release, by which a newer one is told from an older one.
fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_kernels_may_share_modules() {
        for (built, running, shared) in [
            ("5.14.0-570.12.1.el9_6.x86_64", "5.14.0-570.73.1.el9_6.x86_64", true),
            ("5.14.0-570.12.1.el9_6.x86_64", "5.14.0-503.11.1.el9_5.x86_64", false),
            ("4.18.0-553.el8_10.x86_64", "4.18.0-553.16.1.el8_10.x86_64", true),
            ("5.14.0-570.el9.x86_64", "5.14.0-570.12.1.el9_6.x86_64", true),
            ("5.14.0-570.12.1.el9_6.x86_64", "5.14.0-570.12.1.el9_6.aarch64", false),
            ("5.14.0-570.12.1.el9_6.aarch64", "5.14.0-570.73.1.el9_6.aarch64+64k", false),
            ("5.14.0-570.12.1.el9_6.aarch64+64k", "5.14.0-570.73.1.el9_6.aarch64+64k", true),
            ("5.14.0-570.12.1.el9_6.x86_64+rt", "5.14.0-570.73.1.el9_6.x86_64+rt", false),
            ("4.18.0-513.11.1.rt7.313.el8_9.x86_64", "4.18.0-513.18.1.rt7.320.el8_9.x86_64", false),
            ("6.4.0-150700.51-default", "6.4.0-150700.53.3-default", true),
            ("6.4.0-150600.21-default", "6.4.0-150700.53.3-default", false),
            ("6.4.0-150700.51-default", "6.4.0-150700.53.3-rt", false),
            ("6.8.0-31-generic", "6.8.0-31-generic", false),
            ("6.8.0-31-generic", "6.8.0-35-generic", false),
            ("6.12.94+deb12-amd64", "6.12.94+deb12-amd64", false),
            ("6.1.0", "6.1.0", false),
        ] {
            let [built, other] = [built, running].map(|release| release.parse().unwrap());
            assert_eq!(may_share_modules(&built, &other), shared, "{built} {running}");
            assert_eq!(may_share_modules(&other, &built), shared, "{running} {built}");
        }
    }

    #[test]
    fn one_folder_of_two_names() {
        for (path, expected) in [
            ("/usr/lib/modules/6/extra/a.ko", "/lib/modules/6/extra/a.ko"),
            ("/lib/modules/5/weak-updates/x/../../../6/extra/a.ko", "/lib/modules/6/extra/a.ko"),
            ("/lib/modules/6/a.ko", "/lib/modules/6/a.ko"),
        ] {
            assert_eq!(plain(Path::new(path)), Path::new(expected));
        }
    }
}
