//! Why a container has ended, for the kubelet: it reads the file at the container's end, and shows it with the pod
//! (`terminationMessagePath`).

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nic_host::{Host, open_own};

/// What the kubelet takes of it, in bytes.
const LONGEST: usize = 4096;

/// The file, where the kubelet has made one: it is never made here.
///
/// The kubelet makes it empty for each start of a container, and mounts it at its path. What is neither empty nor a mount is somebody
/// else's file, which a wrong setting names, and is not written to.
#[derive(Debug)]
pub(super) struct TerminationMessage {
    file: Option<PathBuf>,
}

impl TerminationMessage {
    pub(super) fn new(host: &Host, path: &Path) -> Self {
        let file = host.path(path);
        let Some(found) = file.symlink_metadata().ok().filter(std::fs::Metadata::is_file) else {
            return Self { file: None };
        };
        if found.len() > 0 && !is_mount(host, path) {
            tracing::warn!(
                file = %file.display(),
                "the file for the termination message holds something that is not the kubelet's: it is not touched"
            );
            return Self { file: None };
        }
        Self { file: Some(file) }
    }

    /// Writes the reason, its end left out where it is too long.
    pub(super) fn write(&self, reason: &str) {
        let mut end = reason.len().min(LONGEST);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        self.put(reason.get(..end).unwrap_or_default());
    }

    /// There is no reason any more.
    pub(super) fn clear(&self) {
        self.put("");
    }

    /// In place: it is a mount of its own, which no other file can be renamed to.
    fn put(&self, text: &str) {
        let Some(file) = &self.file else { return };
        let write =
            || open_own(file, OpenOptions::new().write(true).truncate(true))?.write_all(text.as_bytes());
        if let Err(error) = write() {
            tracing::debug!(%error, file = %file.display(), "the termination message cannot be written");
        }
    }
}

/// Whether something is mounted at `path`: the fifth field of a line (`show_mountinfo` in fs/proc_namespace.c).
fn is_mount(host: &Host, path: &Path) -> bool {
    let mounts = host.read("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|point| Path::new(point) == path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trial_w8_what_is_not_the_kubelets_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::at(folder.path());
        let path = Path::new("/notes");
        let untouched = |path: &Path| {
            let message = TerminationMessage::new(&host, path);
            message.clear();
            message.write("lost");
            assert_eq!(std::fs::read_to_string(host.path("/notes")).unwrap(), "mine");
        };
        std::fs::write(host.path(path), "mine").unwrap();
        untouched(path);
        // Nor through a link.
        std::os::unix::fs::symlink(host.path("/notes"), host.path("/link")).unwrap();
        untouched(Path::new("/link"));
        // One that the kubelet has mounted is its, whatever an earlier process of the container has left in it.
        std::fs::create_dir_all(host.path("/proc/self")).unwrap();
        let line = "30 25 8:1 /var/lib/kubelet/pods/1/2 /notes rw,relatime - ext4 /dev/sda1 rw\n";
        std::fs::write(host.path("/proc/self/mountinfo"), line).unwrap();
        TerminationMessage::new(&host, path).write("lost");
        assert_eq!(std::fs::read_to_string(host.path(path)).unwrap(), "lost");
    }

    #[test]
    fn it_is_short_and_never_made() {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::at(folder.path());
        let path = Path::new("/dev/termination-log");
        TerminationMessage::new(&host, path).write("lost");
        assert!(!host.path(path).exists());
        std::fs::create_dir(host.path("/dev")).unwrap();
        std::fs::write(host.path(path), "").unwrap();
        let message = TerminationMessage::new(&host, path);
        message.write(&"ö".repeat(LONGEST));
        let written = std::fs::read_to_string(host.path(path)).unwrap();
        assert_eq!((written.len(), written.chars().all(|letter| letter == 'ö')), (LONGEST, true));
        message.write(&format!("a{}", "ö".repeat(LONGEST)));
        assert_eq!(std::fs::read(host.path(path)).unwrap().len(), LONGEST - 1);
        message.clear();
        assert_eq!(std::fs::read(host.path(path)).unwrap(), b"");
    }
}
