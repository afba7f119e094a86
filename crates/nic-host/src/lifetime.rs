use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{FsWord, statfs};

use crate::{Host, ReadError};

/// How long files of a folder stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileLifetime {
    /// Until the machine is started again: they lie in memory.
    UntilReboot,
    /// Until somebody removes them.
    Persistent,
    /// Until the writable layer above an image is thrown away: in a container, with the container.
    WithLayer,
}

impl Host {
    /// How long files in `folder` stay, by the file system it is on; where there is no such folder, by that of the
    /// nearest one above it, in which it would be made.
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub fn file_lifetime(&self, folder: impl AsRef<Path>) -> Result<FileLifetime, ReadError> {
        let path = self.path(folder);
        let folder = path.ancestors().find(|folder| fs::metadata(folder).is_ok()).unwrap_or(&path);
        let found = statfs(folder)
            .map_err(|errno| ReadError { path: folder.to_path_buf(), source: io::Error::from(errno) })?;
        Ok(lifetime_on(found.f_type))
    }
}

/// By the file system's number.
fn lifetime_on(file_system: FsWord) -> FileLifetime {
    /// `RAMFS_MAGIC` and `TMPFS_MAGIC` in `include/uapi/linux/magic.h`.
    const IN_MEMORY: [FsWord; 2] = [0x8584_58f6, 0x0102_1994];
    /// `OVERLAYFS_SUPER_MAGIC`, and that of aufs, which is no part of the kernel.
    const LAYERED: [FsWord; 2] = [0x794c_7630, 0x6175_6673];

    if IN_MEMORY.contains(&file_system) {
        FileLifetime::UntilReboot
    } else if LAYERED.contains(&file_system) {
        FileLifetime::WithLayer
    } else {
        FileLifetime::Persistent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_7_4_a_layer_above_an_image_is_no_disk() {
        const EXT4: FsWord = 0xef53;
        assert_eq!(lifetime_on(0x794c_7630), FileLifetime::WithLayer);
        assert_eq!(lifetime_on(EXT4), FileLifetime::Persistent);
    }

    #[test]
    fn what_lies_in_memory_dies_with_the_boot() {
        // Every Linux with POSIX shared memory has a tmpfs there, and no Linux has /proc in one.
        let host = Host::running();
        assert_eq!(host.file_lifetime("/dev/shm").unwrap(), FileLifetime::UntilReboot);
        assert_eq!(host.file_lifetime("/dev/shm/not/there").unwrap(), FileLifetime::UntilReboot);
        assert_eq!(host.file_lifetime("/proc/sys").unwrap(), FileLifetime::Persistent);
        let error = Host::at("relative/nowhere").file_lifetime("/x").unwrap_err();
        assert!(error.to_string().contains("relative/nowhere/x"), "{error}");
    }
}
