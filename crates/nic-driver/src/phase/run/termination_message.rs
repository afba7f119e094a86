//! Why a container has ended, for the kubelet: it reads the file at the container's end, and shows it with the pod
//! (`terminationMessagePath`).

use std::path::{Path, PathBuf};

use nic_host::Host;

/// What the kubelet takes of it, in bytes.
const LONGEST: usize = 4096;

/// The file, where the kubelet has made one: it is never made here.
#[derive(Debug)]
pub(super) struct TerminationMessage {
    file: Option<PathBuf>,
}

impl TerminationMessage {
    pub(super) fn new(host: &Host, file: &Path) -> Self {
        let file = host.path(file);
        Self { file: file.is_file().then_some(file) }
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
        if let Err(error) = std::fs::write(file, text) {
            tracing::debug!(%error, file = %file.display(), "the termination message cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
