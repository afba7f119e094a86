//! Carries the steps of setting up out, and decides nothing.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use nic_host::Host;

use crate::beneath::{Folder, FolderError};
use crate::blocking::{Abort, Blocking};
use crate::digest::Digest;
use crate::driver_side::{DriverEvent, Place, Prepared, SetUpStep};
use crate::request::{Request, SCHEMA};
use crate::shared_folder::OWN_FOLDER;
use crate::sources::{SourceContent, SourceEntry, SourcesError};

/// Sources that are not all there yet, in the folder of this crate's own files.
const PARTIAL_SOURCES: &str = "sources.partial";

/// A step of setting up that failed.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// In the shared folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// With the sources in this container.
    #[error(transparent)]
    Sources(#[from] SourcesError),
}

pub(super) async fn apply(
    host: &Host,
    prepared: &Prepared,
    steps: Vec<SetUpStep>,
    blocking: &Blocking,
    events: &mut impl FnMut(DriverEvent),
) -> Result<(), SetUpError> {
    for step in steps {
        events(DriverEvent::Step(step.clone()));
        let (host, prepared) = (host.clone(), prepared.clone());
        blocking.run(move |abort| apply_step(&host, &prepared, &step, abort)).await?;
    }
    Ok(())
}

fn apply_step(host: &Host, prepared: &Prepared, step: &SetUpStep, abort: &Abort) -> Result<(), SetUpError> {
    let base = Folder::open(host, prepared.request.folder.base())?;
    let name = prepared.request.folder.name();
    if let SetUpStep::MakeFolders(_) = step {
        base.make_folder(name)?.make_folder(OWN_FOLDER)?;
        return Ok(());
    }
    let kernels = base.folder(name)?;
    let own = kernels.folder(OWN_FOLDER)?;
    let folder = |place: &Place| if place.is_own { &own } else { &kernels };
    match step {
        SetUpStep::MakeFolders(_) => {}
        SetUpStep::Remove(place) => {
            folder(place).remove(&place.name)?;
        }
        SetUpStep::CopySources { from, to } => {
            own.remove(PARTIAL_SOURCES)?;
            let copied = copy_sources(&host.path(from), &own, &prepared.inputs.sources, abort);
            let placed = copied.and_then(|()| Ok(own.move_to(PARTIAL_SOURCES, folder(to), &to.name)?));
            if placed.is_err() {
                own.discard(PARTIAL_SOURCES);
            }
            placed?;
        }
        SetUpStep::CopyEntrypoint { from, to } => {
            copy_whole(&host.path(from), folder(to), &to.name, abort)?;
        }
        SetUpStep::Write { to, content, executable } => {
            folder(to).write_durably(&to.name, content.as_bytes(), mode(*executable))?;
        }
        SetUpStep::WriteRequest(to) => {
            let request = Request {
                schema: SCHEMA,
                attempt: prepared.attempt.clone(),
                digest: prepared.digest,
                inputs: prepared.inputs.clone(),
            };
            folder(to).write_json(&to.name, &request)?;
        }
        SetUpStep::PutStartFlag(to) => folder(to).put_flag(&to.name)?,
    }
    Ok(())
}

/// Copies the tree, each file compared with what was seen of it, and has all of it on the disk.
fn copy_sources(from: &Path, own: &Folder, entries: &[SourceEntry], abort: &Abort) -> Result<(), SetUpError> {
    let tree = own.make_folder(PARTIAL_SOURCES)?;
    let folder = |below: &str| if below.is_empty() { tree.folder(".") } else { tree.folder(below) };
    for entry in entries {
        let (parent, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
        let parent = folder(parent)?;
        match &entry.content {
            SourceContent::Folder => {
                parent.make_folder(name)?;
            }
            SourceContent::Link { target } => parent.link(name, target)?,
            SourceContent::File { size, sha256, executable } => {
                let source = from.join(&entry.path);
                let copied = copy_file(&source, &parent, name, mode(*executable), abort)?;
                if copied != (*sha256, *size) {
                    return Err(SourcesError::Changed { path: source }.into());
                }
            }
        }
    }
    for entry in entries.iter().filter(|entry| entry.content == SourceContent::Folder) {
        folder(&entry.path)?.sync()?;
    }
    Ok(tree.sync()?)
}

/// Copies a program under a name of its own, and gives it its name when it is whole. One that is being executed keeps
/// its file.
fn copy_whole(from: &Path, folder: &Folder, name: &str, abort: &Abort) -> Result<(), SetUpError> {
    let partial = format!(".{name}.partial");
    folder.remove(&partial)?;
    let copied = copy_file(from, folder, &partial, mode(true), abort);
    let placed = copied.and_then(|_| Ok(folder.rename(&partial, name)?));
    if placed.is_err() {
        folder.discard(&partial);
    }
    placed
}

fn copy_file(
    from: &Path,
    folder: &Folder,
    name: &str,
    mode: u32,
    abort: &Abort,
) -> Result<(Digest, u64), SetUpError> {
    let unreadable = |source| SourcesError::Read { path: from.to_path_buf(), source };
    let mut source = File::open(from).map_err(unreadable)?;
    let mut target = folder.create(name, mode)?;
    let mut unwritten = None;
    let copied = Digest::of_reader(&mut source, abort, |piece| {
        target.write_all(piece).map_err(|error| {
            // Which of the two failed decides what is said; the reader's own error is passed on as it is.
            let kind = error.kind();
            unwritten = Some(error);
            kind.into()
        })
    });
    let in_folder = |source| FolderError::Io { action: "write", path: folder.path().join(name), source };
    if let Some(error) = unwritten {
        return Err(in_folder(error).into());
    }
    let copied = copied.map_err(unreadable)?;
    target.sync_all().map_err(in_folder)?;
    Ok(copied)
}

fn mode(executable: bool) -> u32 {
    if executable { 0o755 } else { 0o644 }
}
