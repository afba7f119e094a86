//! Waiting for something to happen in folders: by the kernel's events, and by a look now and then.
//!
//! Not every file system tells (a change on the other side of a network or of a virtual machine goes unseen), and the
//! kernel has a limit of watches. So the events only make it faster; the look now and then is what it rests on.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::beneath::Folder;
use crate::registered::register;

/// The kernel's queue of events.
#[derive(Debug)]
pub(crate) struct Watch {
    events: Option<AsyncFd<OwnedFd>>,
    recheck: Duration,
}

impl Watch {
    /// Without a queue of events (too many on this machine) there is only the look now and then, and a log line.
    pub(crate) fn new(recheck: Duration) -> Self {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(std::io::Error::from)
            .and_then(register);
        let events = events.map_err(|error| {
            tracing::warn!(%error, ?recheck, "the kernel gives no inotify queue; the shared folder is only looked at now and then");
        });
        Self { events: events.ok(), recheck }
    }

    /// Watches the names in `folder` from now on. To be called before each look: the folder may have been replaced by
    /// another one. One that is watched already costs nothing.
    pub(crate) fn arm(&self, folder: &Folder) {
        let Some(events) = &self.events else { return };
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MODIFY
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        // By the descriptor: what is looked at is what is watched.
        if let Err(errno) = inotify::add_watch(events.get_ref(), folder.by_descriptor(), flags) {
            self.tell_unwatched(folder.path(), errno);
        }
    }

    fn tell_unwatched(&self, folder: &Path, error: Errno) {
        let recheck = self.recheck;
        tracing::debug!(folder = %folder.display(), %error, ?recheck, "the folder cannot be watched; it is looked at now and then");
    }

    /// Waits until something has happened in a folder that is watched, or until it is time for another look.
    pub(crate) async fn changed(&self) {
        let event = async {
            match &self.events {
                Some(events) => next_event(events).await,
                None => std::future::pending().await,
            }
        };
        // A timeout is the look now and then.
        let _ = tokio::time::timeout(self.recheck, event).await;
    }
}

/// Waits for events, and takes all that are there off the queue.
async fn next_event(events: &AsyncFd<OwnedFd>) {
    loop {
        let Ok(mut ready) = events.readable().await else {
            // The runtime ends.
            return std::future::pending().await;
        };
        let (mut seen, mut buffer) = (false, [MaybeUninit::uninit(); 4096]);
        let mut reader = inotify::Reader::new(events.get_ref(), &mut buffer);
        loop {
            match reader.next() {
                // A folder that is gone is no longer watched, which follows the event that told so.
                Ok(event) => seen |= event.events() != ReadFlags::IGNORED,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        ready.clear_ready();
        if seen {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nic_host::Host;

    use super::*;

    #[tokio::test]
    async fn a_file_is_told_at_once_also_in_a_folder_that_took_the_place_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("watched");
        let watch = Watch::new(Duration::from_secs(3600));
        for _ in 0..2 {
            std::fs::create_dir(&path).unwrap();
            let folder = Folder::open(&Host::running(), &path).unwrap();
            watch.arm(&folder);
            watch.arm(&folder);
            let writer = {
                let path = path.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(30));
                    std::fs::write(path.join("flag"), "").unwrap();
                })
            };
            tokio::time::timeout(Duration::from_secs(30), watch.changed()).await.unwrap();
            writer.join().unwrap();
            assert!(folder.has_flag("flag").unwrap());
            std::fs::rename(&path, dir.path().join(format!("{:?}", Instant::now()))).unwrap();
        }
    }

    #[tokio::test]
    async fn without_an_event_it_is_time_for_a_look_now_and_then() {
        let watch = Watch { events: None, recheck: Duration::from_millis(10) };
        tokio::time::timeout(Duration::from_secs(30), watch.changed()).await.unwrap();
        let watch = Watch::new(Duration::from_millis(10));
        tokio::time::timeout(Duration::from_secs(30), watch.changed()).await.unwrap();
    }
}
