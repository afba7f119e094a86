//! The folder that packages are laid out in: whole, or told to be unfinished.
//!
//! It may be a mount, beside which nothing can be written and onto which nothing can be renamed. So the tree is made in a folder
//! inside it, and what stands at the top of the tree is moved up when all of it is there. Before the first move their names are noted:
//! what a process that was killed has left is known by them, and nothing else is taken for it.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nic_host::Host;

use super::error::LayoutError;
use super::tree::{TreeError, make, set_time};

/// Where it is, the folder is unfinished. It comes first and goes last, and names what was moved to the top.
const MARK: &str = ".nic-driver-unfinished";
/// The last line of a mark that was written to its end.
const END: &str = ".";
/// In which the tree is made.
const TREE: &str = ".nic-driver-tree";

/// The folder for a layout, which holds nothing but what an earlier process had begun to lay out in it.
#[derive(Debug)]
pub(super) struct Target {
    folder: PathBuf,
    seen: PathBuf,
    /// What an earlier process has left there.
    left: Vec<String>,
}

impl Target {
    /// Looks, and changes nothing.
    ///
    /// # Errors
    /// There is something in the folder that no layout which was cut off has put there, or the path is none of a folder.
    pub(super) fn find(host: &Host, folder: &Path) -> Result<Self, LayoutError> {
        let seen = host.path(folder);
        let not_empty = || LayoutError::NotEmpty { folder: seen.clone() };
        let left = if host.exists(folder) { host.list(folder).map_err(|_| not_empty())? } else { Vec::new() };
        if !left.is_empty() {
            let mark = host.read_if_exists(folder.join(MARK)).ok().flatten().ok_or_else(not_empty)?;
            let lines: Vec<&str> = mark.lines().collect();
            let moved =
                lines.split_last().filter(|(last, _)| **last == END).map_or(&[][..], |(_, moved)| moved);
            let is_ours =
                |name: &String| [MARK, TREE].contains(&name.as_str()) || moved.contains(&name.as_str());
            if !left.iter().all(is_ours) {
                return Err(not_empty());
            }
        }
        Ok(Self { folder: folder.to_path_buf(), seen, left })
    }

    /// Takes away what is left in it, and makes the folder in which the tree is made. Returns that, as a path of the host.
    pub(super) fn begin(&self) -> Result<PathBuf, TreeError> {
        for name in self.left.iter().filter(|name| *name != MARK) {
            remove(&self.seen.join(name))?;
        }
        let (mark, tree) = (self.seen.join(MARK), self.seen.join(TREE));
        fs::create_dir_all(&self.seen).map_err(make(&self.seen))?;
        File::create(&mark).and_then(|mark| mark.sync_all()).map_err(make(&mark))?;
        self.sync()?;
        fs::create_dir(&tree).map_err(make(&tree))?;
        Ok(self.folder.join(TREE))
    }

    /// Moves the tree to its place. Afterwards the folder is whole.
    pub(super) fn finish(&self, modified: u32) -> Result<(), TreeError> {
        let (mark, tree) = (self.seen.join(MARK), self.seen.join(TREE));
        let names = names(&tree).map_err(make(&tree))?;
        let note = || {
            let mut file = File::create(&mark)?;
            names.iter().try_for_each(|name| writeln!(file, "{name}"))?;
            writeln!(file, "{END}")?;
            file.sync_all()
        };
        note().map_err(make(&mark))?;
        for name in &names {
            let to = self.seen.join(name);
            fs::rename(tree.join(name), &to).map_err(make(&to))?;
        }
        fs::remove_dir(&tree).map_err(make(&tree))?;
        self.sync()?;
        remove(&mark)?;
        fs::set_permissions(&self.seen, Permissions::from_mode(0o755)).map_err(make(&self.seen))?;
        set_time(&self.seen, modified)
    }

    fn sync(&self) -> Result<(), TreeError> {
        File::open(&self.seen).and_then(|folder| folder.sync_all()).map_err(make(&self.seen))
    }
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    fs::read_dir(folder)?.map(name).collect()
}

fn remove(path: &Path) -> Result<(), TreeError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(make(path)(error)),
        _ => Ok(()),
    }
}
