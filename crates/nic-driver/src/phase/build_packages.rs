//! `build`: packages for a kernel without installing them, for the inventory or as what goes into an image.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _};
use std::path::{Path, PathBuf};

use nic_build::{LaidOut, Layout, ensure_free, lay_out, write_archive};
use nic_host::{Host, KernelRelease};
use serde::Serialize;

use super::error::PhaseError;
use super::install::{InstallRequest, Job, OwnFolder, PackagesFrom, begin, obtain, start};
use super::obtain_error::ObtainError;
use crate::Exit;
use crate::context::Context;
use crate::default_paths;
use crate::privileges;
use crate::state::{Phase, PhaseRecord, Step};

/// What is to be built, and as what.
#[derive(Debug, Clone)]
pub struct BuildPackagesRequest {
    /// The sources, as for an installation from them.
    pub install: InstallRequest,
    /// The kernel that is built for; `None` for the running one.
    pub kernel: Option<KernelRelease>,
    /// How the packages are laid out beside the inventory, if they are.
    pub layer: Option<Layer>,
}

/// Packages laid out as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// For whom.
    pub kind: LayerKind,
    /// Where to.
    pub target: LayerTarget,
    /// The time, in seconds since 1970, that all files get.
    pub modified: u32,
}

/// For whom packages are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LayerKind {
    /// The image of a driver container that only loads.
    Image,
    /// The loader of the Kernel Module Management operator.
    Kmm,
}

/// Where packages are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerTarget {
    /// In a folder, which must be empty or not there.
    Folder(PathBuf),
    /// In a tar archive.
    Archive(PathBuf),
}

/// What was built.
#[derive(Debug, Clone, Serialize)]
pub struct BuiltPackages {
    /// The kernel.
    pub kernel: KernelRelease,
    /// Where the packages came from.
    pub from: PackagesFrom,
    /// The packages in the inventory; none where there is no inventory.
    pub packages: Vec<PathBuf>,
    /// The folder or archive in which they were laid out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<PathBuf>,
    /// The modules in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<PathBuf>,
}

/// Builds packages, unless the inventory has them, and lays them out where that is asked for. Nothing is installed but what the build
/// needs.
pub async fn build_packages(
    context: &Context,
    request: &BuildPackagesRequest,
) -> Result<BuiltPackages, PhaseError> {
    context.ensure_privileges(&privileges::BUILD)?;
    let _lock = begin(context, "build").await?;
    if let Some(Layer { target: LayerTarget::Folder(folder), .. }) = &request.layer {
        ensure_free(&context.host, folder).map_err(ObtainError::from)?;
    }
    let Some(job) = Job::open(&context.host, &request.install, request.kernel.as_ref())? else {
        return Err(ObtainError::NothingToBuild.into());
    };
    context.check_stop()?;
    let phase = context.journal.phase(Phase::Build);
    let result = run(context, &phase, request, &job).await;
    match &result {
        Ok(built) => phase.end(&format!("{} for {}", built.from, built.kernel), Exit::Success),
        Err(error) => phase.end(&crate::error_chain(error), error.exit()),
    }
    result
}

async fn run(
    context: &Context,
    phase: &PhaseRecord,
    request: &BuildPackagesRequest,
    job: &Job,
) -> Result<BuiltPackages, PhaseError> {
    start(context, phase, &job.observed, &request.install).await?;
    let (packages, from) = obtain(context, phase, job).await?;
    let kernel = job.observed.node.kernel.clone();
    let names = packages.set.packages.iter().filter_map(|package| package.path.file_name());
    let mut built = BuiltPackages {
        from,
        packages: job
            .entry
            .iter()
            .flat_map(|entry| names.clone().map(|name| entry.folder.join(name)))
            .collect(),
        layer: None,
        modules: Vec::new(),
        kernel,
    };
    let Some(layer) = &request.layer else { return Ok(built) };
    let host = &context.host;
    let layout = match layer.kind {
        LayerKind::Image => Layout::ImageLayer { merged_usr: host.path("/lib").is_symlink() },
        LayerKind::Kmm => Layout::ModuleLoader,
    };
    let (folder, _own) = match &layer.target {
        LayerTarget::Folder(folder) => (folder.clone(), None),
        LayerTarget::Archive(_) => {
            let own = OwnFolder::empty(host, Path::new(default_paths::LAID_OUT_PACKAGES))?;
            (own.path().to_path_buf(), Some(own))
        }
    };
    let step = phase.step(Step::LayOutPackages { folder: folder.clone() });
    let laid_out = lay_out(host, &packages.set, &built.kernel, &layout, &folder, layer.modified).await;
    let laid_out: LaidOut = step.record(laid_out).map_err(ObtainError::from)?;
    if let LayerTarget::Archive(archive) = &layer.target {
        write(host, &folder, archive, layer.modified)?;
    }
    let (LayerTarget::Folder(place) | LayerTarget::Archive(place)) = &layer.target;
    built.layer = Some(place.clone());
    built.modules = laid_out.modules;
    Ok(built)
}

/// What an archive may take the place of: nothing, an empty file, or another archive. A path that was mistyped costs nobody a file.
fn ensure_ours(path: &Path) -> io::Result<()> {
    let file = match Host::at("/").open(path) {
        Ok(file) => file,
        Err(error) if error.source.kind() == io::ErrorKind::NotFound && !path.is_symlink() => return Ok(()),
        Err(error) => return Err(error.source),
    };
    let mut beginning = Vec::new();
    // The mark of a tar archive stands at the end of its first header's names (tar(5), `magic`).
    file.take(262).read_to_end(&mut beginning)?;
    if beginning.is_empty() || beginning.get(257..262) == Some(b"ustar") {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        "another file is there, and no archive: it is not replaced",
    ))
}

/// Takes away what a killed run has left of an archive.
fn remove_left(unfinished: &Path) -> io::Result<()> {
    if unfinished.symlink_metadata().is_err() {
        return Ok(());
    }
    ensure_ours(unfinished)?;
    fs::remove_file(unfinished)
}

/// Writes the archive beside its place, so that it is whole or not there.
fn write(host: &Host, folder: &Path, archive: &Path, modified: u32) -> Result<(), ObtainError> {
    let archive = host.path(archive);
    let failed = |source| ObtainError::MakeArchive { archive: archive.clone(), source };
    let mut unfinished = archive.clone().into_os_string();
    unfinished.push(".partial");
    ensure_ours(&archive).and_then(|()| remove_left(Path::new(&unfinished))).map_err(failed)?;
    let written = File::create_new(&unfinished).map_err(failed).and_then(|file| {
        write_archive(host, folder, modified, BufWriter::new(&file))
            .map_err(|source| ObtainError::Archive { archive: archive.clone(), source })?;
        file.sync_all().and_then(|()| fs::rename(&unfinished, &archive)).map_err(failed)
    });
    if written.is_err()
        && let Err(error) = fs::remove_file(&unfinished)
    {
        tracing::debug!(%error, unfinished = %Path::new(&unfinished).display(), "nothing of the archive is left");
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trial_w8_an_archive_takes_the_place_of_nothing_but_an_archive() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("tree")).unwrap();
        fs::write(path("tree/a"), "a").unwrap();
        let make = || write(&host, Path::new("/tree"), Path::new("/archive.tar"), 0);
        make().unwrap();
        let archive = fs::read(path("archive.tar")).unwrap();
        // Again, over an empty one, and behind a run that was killed.
        make().unwrap();
        fs::write(path("archive.tar"), "").unwrap();
        fs::write(path("archive.tar.partial"), &archive[..700]).unwrap();
        make().unwrap();
        assert_eq!(fs::read(path("archive.tar")).unwrap(), archive);
        for name in ["archive.tar", "archive.tar.partial"] {
            fs::remove_file(path("archive.tar")).unwrap();
            fs::write(path(name), "notes").unwrap();
            let error = crate::error_chain(&make().unwrap_err());
            assert!(error.ends_with("another file is there, and no archive: it is not replaced"), "{error}");
            assert_eq!(fs::read(path(name)).unwrap(), b"notes");
            fs::write(path("archive.tar"), "").unwrap();
        }
        fs::remove_file(path("archive.tar.partial")).unwrap();
        fs::write(path("precious"), "x").unwrap();
        std::os::unix::fs::symlink("precious", path("archive.tar.partial")).unwrap();
        make().unwrap_err();
        assert_eq!(fs::read(path("precious")).unwrap(), b"x");
    }
}
