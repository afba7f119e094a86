//! What the host says of itself, from within a container.

use std::path::{Path, PathBuf};

use nic_host::{Host, OsRelease, ReadError};

const HOST: &str = "/host";

/// The host's os-release as a container sees it, and where it was read; `None` where this is no container that sees it.
pub(crate) fn os_release_of_host(host: &Host) -> Result<Option<(PathBuf, OsRelease)>, ReadError> {
    for place in ["etc/os-release", "usr/lib/os-release"] {
        let mut path = Path::new(HOST).join(place);
        // An absolute link would lead into the container's own tree.
        if let Some(target) = host.link_target(&path)?.filter(|target| target.is_absolute()) {
            path = Path::new(HOST).join(target.strip_prefix("/").unwrap_or(&target));
        }
        if let Some(text) = host.read_if_exists(&path)? {
            return Ok(Some((path, OsRelease::parse(&text))));
        }
    }
    Ok(None)
}

/// Whether the running kernel was booted from an image that is exchanged as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BootedImage {
    Yes,
    No,
}

impl BootedImage {
    /// By the kernel's command line, which says where ostree or composefs is to find the root. It is the only sign on
    /// image-mode systems whose os-release has no `OSTREE_VERSION`, and a container sees it.
    pub(crate) fn read(host: &Host) -> Result<Self, ReadError> {
        Ok(Self::of(&host.read_if_exists("/proc/cmdline")?.unwrap_or_default()))
    }

    fn of(command_line: &str) -> Self {
        let is_image = |word: &str| word.starts_with("ostree=") || word.starts_with("composefs=");
        if command_line.split_whitespace().any(is_image) { Self::Yes } else { Self::No }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        for (line, expected) in [
            (
                "BOOT_IMAGE=(hd0,gpt3)/boot/ostree/rhcos-3f/vmlinuz-5.14.0-427.el9_4.x86_64 rw \
                 ostree=/ostree/boot.1/rhcos/3f/0 root=UUID=1d rw",
                BootedImage::Yes,
            ),
            ("root=UUID=1d rw composefs=9ab1", BootedImage::Yes),
            (
                "BOOT_IMAGE=/vmlinuz-5.14.0-570.el9_6.x86_64 root=/dev/mapper/rhel-root ro quiet",
                BootedImage::No,
            ),
            ("root=LABEL=ostree=no ro", BootedImage::No),
            ("", BootedImage::No),
        ] {
            assert_eq!(BootedImage::of(line), expected, "{line}");
        }
    }
}
