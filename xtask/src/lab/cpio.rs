//! Writing initramfs archives: the `newc` form of cpio, as `Documentation/driver-api/early-userspace/buffer-format.rst` of
//! the kernel defines it. The kernel unpacks several of them one after another, so each part of the guest is its own.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use walkdir::WalkDir;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive in the making. Everything in it belongs to root.
#[derive(Debug)]
pub(crate) struct Archive<W: Write> {
    writer: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(writer: W) -> Self {
        Self { writer, entries: 0 }
    }

    /// Adds everything below `root` for which `keep` (called with the path relative to `root`) holds, under the same names.
    pub(crate) fn tree(&mut self, root: &Path, keep: impl Fn(&Path) -> bool) -> anyhow::Result<()> {
        self.tree_below(root, "", keep)
    }

    /// Adds everything below `root` for which `keep` holds, below the folder `prefix` of the archive.
    pub(crate) fn tree_below(
        &mut self,
        root: &Path,
        prefix: &str,
        keep: impl Fn(&Path) -> bool,
    ) -> anyhow::Result<()> {
        let relative = |path: &Path| path.strip_prefix(root).map(Path::to_path_buf).unwrap_or_default();
        let walk = WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter();
        for entry in walk.filter_entry(|entry| entry.depth() == 0 || keep(&relative(entry.path()))) {
            let entry = entry.with_context(|| format!("cannot walk {}", root.display()))?;
            let name = Path::new(prefix).join(relative(entry.path()));
            let name = name.to_str().context("a file name is no UTF-8")?;
            let metadata =
                entry.metadata().with_context(|| format!("cannot look at {}", entry.path().display()))?;
            let mode = metadata.permissions().mode() & 0o7777;
            let written = if metadata.is_dir() {
                self.directory(name, mode)
            } else if metadata.is_symlink() {
                let target = fs::read_link(entry.path())
                    .with_context(|| format!("cannot read {}", entry.path().display()))?;
                self.entry(name, LINK | 0o777, target.as_os_str().as_bytes(), (0, 0))
            } else {
                let content = fs::read(entry.path())
                    .with_context(|| format!("cannot read {}", entry.path().display()))?;
                self.file(name, mode, &content)
            };
            written.with_context(|| format!("cannot archive {name}"))?;
        }
        Ok(())
    }

    /// Adds a folder.
    pub(crate) fn directory(&mut self, name: &str, mode: u32) -> io::Result<()> {
        self.entry(name, DIRECTORY | mode, &[], (0, 0))
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(name, REGULAR | mode, content, (0, 0))
    }

    /// Adds a character device.
    pub(crate) fn character_device(
        &mut self,
        name: &str,
        mode: u32,
        major: u32,
        minor: u32,
    ) -> io::Result<()> {
        self.entry(name, CHARACTER_DEVICE | mode, &[], (major, minor))
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[], (0, 0))?;
        self.writer.flush()?;
        Ok(self.writer)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8], (major, minor): (u32, u32)) -> io::Result<()> {
        let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "a cpio entry holds at most 4 GiB");
        let size = u32::try_from(content.len()).map_err(too_long)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_long)?;
        self.entries += 1;
        // magic, inode, mode, uid, gid, links, mtime, size, major, minor, rmajor, rminor, name size, check
        write!(self.writer, "070701")?;
        for field in [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0] {
            write!(self.writer, "{field:08x}")?;
        }
        self.writer.write_all(name.as_bytes())?;
        self.writer.write_all(&[0])?;
        self.pad(110 + name.len() + 1)?;
        self.writer.write_all(content)?;
        self.pad(content.len())
    }

    /// Name and content are padded to a multiple of 4 bytes.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        let padding: &[u8] = match written % 4 {
            0 => &[],
            1 => &[0; 3],
            2 => &[0; 2],
            _ => &[0; 1],
        };
        self.writer.write_all(padding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_form_the_kernel_reads() {
        let mut archive = Archive::new(Vec::new());
        archive.file("init", 0o755, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with(concat!(
            "070701", "00000001", "000081ed", "00000000", "00000000", "00000001", "00000000", "00000005",
            "00000000", "00000000", "00000000", "00000000", "00000005", "00000000", "init\0"
        )));
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[116..124], b"hello\0\0\0", "the content starts at a multiple of 4 and is padded");
        assert!(text.contains("TRAILER!!!\0"));
    }

    #[test]
    fn a_tree_is_archived_without_what_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("keep")).unwrap();
        fs::write(root.path().join("keep/file"), "x").unwrap();
        fs::create_dir(root.path().join("drop")).unwrap();
        fs::write(root.path().join("drop/file"), "x").unwrap();
        let mut archive = Archive::new(Vec::new());
        archive.tree(root.path(), |path| !path.starts_with("drop")).unwrap();
        let text = String::from_utf8_lossy(&archive.finish().unwrap()).into_owned();
        assert!(text.contains("keep/file\0") && !text.contains("drop"));
    }
}
