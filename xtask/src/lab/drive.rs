//! A disk with what images of the lab have in common: the distribution's image, and a kernel's headers. Hundreds of MiB that a
//! guest then need not have in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::cache::{Cache, Cached};
use super::kernel::KernelTree;
use super::{image, process};

const FILE: &str = "drive.ext4";
/// The files take some half of it; what is not written takes no place in the file.
const SIZE: &str = "1200M";

/// The folder that holds the disk for a kernel.
pub(super) fn folder(image: &Cached, tree: &KernelTree, cache: &Cache) -> anyhow::Result<Cached> {
    let name = format!("drive-{}", tree.release());
    cache.folder(&name, &[include_str!("drive.rs"), image.key(), &tree.key()], |folder| {
        make(&image::root(image.path()), tree, folder)
    })
}

/// The disk in the folder of [`folder`].
pub(super) fn file(cached: &Cached) -> PathBuf {
    cached.path().join(FILE)
}

fn make(image: &Path, tree: &KernelTree, folder: &Path) -> anyhow::Result<()> {
    let content = folder.join("content");
    let copy = |from: &Path, to: &Path| {
        let into = to.parent().unwrap_or(to);
        fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
        process::run(Command::new("cp").args(["--archive", "--link"]).arg(from).arg(to))
    };
    copy(image, &content.join("base"))?;
    let (root, headers) = (tree.root(), content.join("headers"));
    let modules = Path::new("usr/lib/modules").join(tree.release());
    let mut parts = vec![PathBuf::from("usr/src")];
    parts.extend(["build", "source", "modules.order", "modules.builtin"].map(|part| modules.join(part)));
    let lib = root.join("usr/lib");
    for entry in fs::read_dir(&lib).with_context(|| format!("cannot list {}", lib.display()))? {
        let name = entry.with_context(|| format!("cannot list {}", lib.display()))?.file_name();
        // The programs that the headers are built with.
        if name.to_string_lossy().starts_with("linux-kbuild-") {
            parts.push(Path::new("usr/lib").join(name));
        }
    }
    for part in parts {
        copy(&root.join(&part), &headers.join(&part))?;
    }
    process::run(
        Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-O", "^has_journal", "-L", "lab", "-d"])
            .arg(&content)
            .arg(folder.join(FILE))
            .arg(SIZE),
    )?;
    fs::remove_dir_all(&content).context("cannot remove the disk's content")
}
