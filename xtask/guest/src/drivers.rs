//! The driver packages of the lab and the kernel modules they hold.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::command::run;
use crate::{read, write};

/// Where the host puts the packages in the initramfs.
pub(crate) const PACKAGES: &str = "/lab/packages";

/// One version of the driver under test, as the host built it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DriverVersion {
    /// `MODULE_VERSION` of its modules.
    pub(crate) version: String,
    /// srcversion of each module.
    pub(crate) srcversions: BTreeMap<String, String>,
}

/// How packages reach the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// A RHEL-like machine with rpm.
    Rpm,
    /// Debian with dpkg and apt.
    Deb,
}

/// The versions, by letter: `A` is older than `B`.
pub(crate) fn version(letter: &str) -> anyhow::Result<DriverVersion> {
    version_in(PACKAGES, letter)
}

/// The same among `packages`.
pub(crate) fn version_in(packages: &str, letter: &str) -> anyhow::Result<DriverVersion> {
    let path = Path::new(packages).join("versions.json");
    let mut versions: BTreeMap<String, DriverVersion> =
        serde_json::from_str(&read(&path)?).with_context(|| format!("{} does not parse", path.display()))?;
    versions.remove(letter).with_context(|| format!("the lab built no version {letter}"))
}

/// The folder that holds the packages of version `letter` for `flow`.
pub(crate) fn folder(letter: &str, flow: Flow) -> PathBuf {
    folder_in(PACKAGES, letter, flow)
}

/// The same among `packages`.
pub(crate) fn folder_in(packages: &str, letter: &str, flow: Flow) -> PathBuf {
    Path::new(packages).join(letter).join(match flow {
        Flow::Rpm => "rpm",
        Flow::Deb => "deb",
    })
}

/// A folder with packages for a kernel that is not the running one.
pub(crate) fn folder_for_another_kernel(flow: Flow) -> PathBuf {
    folder("another-kernel", flow)
}

/// The only file in `folder`.
pub(crate) fn only_file(folder: &Path) -> anyhow::Result<PathBuf> {
    let files: Vec<_> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .with_context(|| format!("cannot list {}", folder.display()))?;
    match files.as_slice() {
        [file] => Ok(file.clone()),
        _ => anyhow::bail!("{} holds {} files, not one", folder.display(), files.len()),
    }
}

/// Makes /etc/os-release that of a machine on which `flow` is at home.
pub(crate) fn pretend_distribution(flow: Flow) -> anyhow::Result<()> {
    let text = match flow {
        Flow::Rpm => {
            "NAME=\"Red Hat Enterprise Linux\"\nID=\"rhel\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.6\"\nPLATFORM_ID=\"platform:el9\"\n\
             PRETTY_NAME=\"Red Hat Enterprise Linux 9.6 (Plow)\"\n"
        }
        Flow::Deb => {
            "NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n\
             PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"
        }
    };
    write_os_release(text)
}

/// Makes this the text of /etc/os-release.
pub(crate) fn write_os_release(text: &str) -> anyhow::Result<()> {
    // The packaged file is a link to /usr/lib/os-release.
    if Path::new("/etc/os-release").is_symlink() {
        fs::remove_file("/etc/os-release").context("cannot replace /etc/os-release")?;
    }
    write("/etc/os-release", text)
}

/// Forgets which packages are installed, as a new container's image does: the modules stay in /lib/modules, which is the
/// host's, while the package database was the old container's.
pub(crate) fn new_container() -> anyhow::Result<()> {
    let database = run("rpm", ["--eval", "%_dbpath"])?;
    match fs::remove_dir_all(database.trim()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("cannot remove the rpm database")
        }
        _ => Ok(()),
    }
}

/// Where files of installed drivers are kept, by name.
const KEPT: &str = "/lab/kept";

/// Keeps the files of the driver that is installed, for [`put_files`].
pub(crate) fn keep_files(name: &str) -> anyhow::Result<()> {
    copy_files(|module, installed| (installed, Path::new(KEPT).join(name).join(module)))
}

/// Puts the files of a version where those of the installed one are, which takes none of the time of an installation:
/// paths, dependencies and index are the same. It is to have been kept. What it overwrites is the files of the driver
/// that runs, as when a container comes in the place of another.
pub(crate) fn put_files(name: &str) -> anyhow::Result<()> {
    copy_files(|module, installed| (Path::new(KEPT).join(name).join(module), installed))
}

/// Copies a file of each module: `paths` says from where to where, given the name and the installed file.
fn copy_files(paths: impl Fn(&str, PathBuf) -> (PathBuf, PathBuf)) -> anyhow::Result<()> {
    for module in version("A")?.srcversions.keys() {
        let installed = run("modinfo", ["-F", "filename", module])?;
        let (from, to) = paths(module, PathBuf::from(installed.trim()));
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// How a loaded module identifies itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadedModule {
    /// Absent on the inbox modules of Debian.
    pub(crate) srcversion: Option<String>,
    /// The build-id note, in hexadecimal.
    pub(crate) build_id: String,
}

/// The identity of a loaded module, from /sys/module.
pub(crate) fn loaded(module: &str) -> anyhow::Result<LoadedModule> {
    let folder = Path::new("/sys/module").join(module);
    ensure!(folder.exists(), "module {module} is not loaded");
    let srcversion = folder.join("srcversion");
    let srcversion = if srcversion.exists() { Some(read(srcversion)?) } else { None };
    let note = folder.join("notes/.note.gnu.build-id");
    let note = fs::read(&note).with_context(|| format!("cannot read {}", note.display()))?;
    Ok(LoadedModule { srcversion, build_id: note.iter().map(|byte| format!("{byte:02x}")).collect() })
}

/// Whether the modules that are loaded are those that are installed. The inbox modules alone have no srcversion, on the disk
/// as in the kernel.
pub(crate) fn runs_what_is_installed() -> anyhow::Result<bool> {
    for module in version("A")?.srcversions.keys() {
        let installed = run("modinfo", ["-F", "srcversion", module])?;
        if loaded(module)?.srcversion.unwrap_or_default() != installed.trim() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether both modules are the distribution's own, which alone have no srcversion.
pub(crate) fn runs_inbox() -> anyhow::Result<bool> {
    let modules = version("A")?.srcversions;
    let inbox = modules.keys().map(|module| Ok(loaded(module)?.srcversion.is_none()));
    inbox.collect::<anyhow::Result<Vec<bool>>>().map(|inbox| inbox.into_iter().all(|is| is))
}

/// An error unless exactly this version of both modules is loaded.
pub(crate) fn expect_loaded(version: &DriverVersion) -> anyhow::Result<()> {
    for (module, built) in &version.srcversions {
        let loaded = loaded(module)?;
        ensure!(
            loaded.srcversion.as_ref() == Some(built),
            "{module} {} has srcversion {built}; loaded is {}",
            version.version,
            loaded.srcversion.as_deref().unwrap_or("a module without one")
        );
    }
    Ok(())
}
