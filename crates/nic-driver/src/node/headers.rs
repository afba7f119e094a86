//! The kernel's and the driver's headers, for containers that build modules against this driver: the folder they lie in here is
//! bound recursively below the folder that is shared with the host, whose mount propagates it to the host and from there to others.
//!
//! A recursive bind is a copy of the mounts, and each copy is a peer of what it was copied from: an unmount below one of them is an
//! unmount below all (`propagate_umount` in `fs/pnode.c`), and undoing the bind would take away what is mounted below this
//! container's own headers. So the copies are made private before they are seen by anybody: they are made in a private mount, and
//! moved from there. On their new place, which is shared, they get new peers: the copies on the host. The classic calls do all of
//! it; `open_tree` and `move_mount` would need no such detour, but kernels before 5.2 lack them, and those before 5.12
//! `mount_setattr`.
//!
//! The driver container that this program replaces makes `/sys` unbindable and private instead, which was of use when it bound its
//! whole root. `/sys` is not below the headers, so it is left alone.

mod seen;

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};

use nic_host::{Host, ReadError};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind_recursive, mount_change, mount_move, unmount,
};

use crate::state::{PhaseRecord, Step};
use seen::{SeenMount, device_of};

/// Where the copies are made: a folder of the container's own. It is there only meanwhile.
const STAGING: &str = "/run/nic-driver-headers";

/// The headers could not be mounted, or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    /// The host is a tree.
    #[error("headers are mounted on the running machine only; {} is a tree", root.display())]
    NotRunningMachine {
        /// The root of the tree.
        root: PathBuf,
    },
    /// A setting is no path that says where something is.
    #[error("{} is no absolute path without `..`: no headers can be shared there", path.display())]
    NoPath {
        /// The setting.
        path: PathBuf,
    },
    /// The headers' place would be the shared folder itself, or in itself.
    #[error(
        "the headers in {} cannot be shared in {}, which lies in them: state, lock and readiness would be covered",
        headers.display(), mount.display()
    )]
    Overlap {
        /// The folder of the headers.
        headers: PathBuf,
        /// The shared folder.
        mount: PathBuf,
    },
    /// Somebody has put a link into the way to the place.
    #[error("{} is a link: nothing is mounted or unmounted through it", path.display())]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// A folder could not be made or removed, or looked at.
    #[error("cannot {action} the folder {}", path.display())]
    Folder {
        /// `make`, `remove`, `look at`.
        action: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It cannot be told what is mounted.
    #[error("what is mounted cannot be told")]
    Mounts(#[from] ReadError),
    /// The headers could not be bound.
    #[error("cannot bind {} on {} ({action})", headers.display(), target.display())]
    Bind {
        /// The folder of the headers.
        headers: PathBuf,
        /// Where they were to be seen.
        target: PathBuf,
        /// What of it has failed.
        action: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// All went well, and nothing is seen there.
    #[error("{} was bound on {}, and nothing is mounted there", headers.display(), target.display())]
    NotSeen {
        /// The folder of the headers.
        headers: PathBuf,
        /// Where they were to be seen.
        target: PathBuf,
    },
    /// A mount could not be undone.
    #[error("cannot unmount {}", path.display())]
    Unmount {
        /// Where it is mounted.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Binds `headers`, such as `/usr/src/`, with all that is mounted below it, below `mount`, such as `/run/mellanox/drivers`. What an
/// earlier container, or an earlier call, has mounted there is taken away before; where that cannot be, it is covered. A tmpfs of
/// somebody else is covered, too.
///
/// # Errors
/// Among others, that a folder cannot be made, or that the kernel does not bind one on the other.
pub fn mount_headers(
    host: &Host,
    phase: &PhaseRecord,
    mount: &Path,
    headers: &Path,
) -> Result<(), HeadersError> {
    let place = Place::new(host, mount, headers)?;
    phase.step(Step::MountHeaders { folder: place.target.clone() }).record(place.mount(host))
}

/// Undoes the headers' mount with all that is mounted below it, lazily: who is in it keeps what they see. Its folders are removed
/// where they are empty then. Nothing else below `mount` is touched, where state, lock and readiness lie. Returns whether there was
/// one; that there is none, or that it cannot be told, is no step.
///
/// # Errors
/// A mount cannot be undone, in which case nothing is removed; or a folder cannot be removed.
pub fn unmount_headers(
    host: &Host,
    phase: &PhaseRecord,
    mount: &Path,
    headers: &Path,
) -> Result<bool, HeadersError> {
    let place = Place::new(host, mount, headers)?;
    match place.mounted(host) {
        Ok(Some(_)) => {}
        Ok(None) => return Ok(false),
        Err(HeadersError::Mounts(error)) => {
            tracing::warn!(
                target = %place.target.display(),
                error = crate::error_chain(&error),
                "whether the headers are mounted cannot be told: what is there stays"
            );
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    phase.step(Step::UnmountHeaders { folder: place.target.clone() }).record(place.unmount(host))?;
    Ok(true)
}

/// What is to be seen where.
#[derive(Debug)]
struct Place {
    headers: PathBuf,
    /// The shared folder.
    mount: PathBuf,
    /// Where the headers are seen below it.
    target: PathBuf,
}

impl Place {
    fn new(host: &Host, mount: &Path, headers: &Path) -> Result<Self, HeadersError> {
        if !host.is_running_machine() {
            return Err(HeadersError::NotRunningMachine { root: host.root().to_owned() });
        }
        let is_plain = |path: &Path| path.components().all(|part| part != Component::ParentDir);
        for path in [mount, headers] {
            if !path.is_absolute() || !is_plain(path) {
                return Err(HeadersError::NoPath { path: path.to_owned() });
            }
        }
        if mount.starts_with(headers) {
            return Err(HeadersError::Overlap { headers: headers.to_owned(), mount: mount.to_owned() });
        }
        let mut target = mount.to_owned();
        target.extend(names(headers));
        Ok(Self { headers: headers.to_owned(), mount: mount.to_owned(), target })
    }

    fn mount(&self, host: &Host) -> Result<(), HeadersError> {
        match self.undo(host) {
            Ok(0) => {}
            Ok(undone) => {
                tracing::info!(target = %self.target.display(), undone, "earlier mounts of headers are taken away");
            }
            Err(error @ (HeadersError::Unmount { .. } | HeadersError::Mounts(_))) => tracing::warn!(
                target = %self.target.display(),
                error = crate::error_chain(&error),
                "an earlier mount of headers cannot be taken away: it is covered"
            ),
            Err(error) => return Err(error),
        }
        self.make_folders()?;
        clear_staging()?;
        let bound = self.bind();
        if let Err(error) = clear_staging() {
            tracing::warn!(
                error = crate::error_chain(&error),
                "the folder in which the headers' copies were made stays"
            );
        }
        bound?;
        self.verify(host)
    }

    /// Each of them, so that none is made behind a link.
    fn make_folders(&self) -> Result<(), HeadersError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| HeadersError::Folder { action: "make", path, source }
        };
        fs::create_dir_all(&self.mount).map_err(failed(&self.mount))?;
        for folder in self.folders() {
            match DirBuilder::new().mode(0o755).create(&folder) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made.map_err(failed(&folder))?,
            }
            is_there(&folder)?;
        }
        Ok(())
    }

    /// The folders between the shared one and the target, and that itself, from the top.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folder = self.mount.clone();
        names(&self.headers)
            .map(|name| {
                folder.push(name);
                folder.clone()
            })
            .collect()
    }

    fn bind(&self) -> Result<(), HeadersError> {
        let failed = |action: &'static str| {
            move |source: rustix::io::Errno| HeadersError::Bind {
                headers: self.headers.clone(),
                target: self.target.clone(),
                action,
                source: source.into(),
            }
        };
        let make = |folder: &Path| {
            fs::create_dir_all(folder).map_err(|source| HeadersError::Folder {
                action: "make",
                path: folder.to_owned(),
                source,
            })
        };
        let staging = Path::new(STAGING);
        let copy = staging.join("headers");
        make(staging)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("nic-driver", staging, "tmpfs", flags, c"mode=0700")
            .map_err(failed("mounting a tmpfs for the copies"))?;
        // What is mounted below it is seen nowhere else, and may be moved away.
        mount_change(staging, MountPropagationFlags::PRIVATE).map_err(failed("making the tmpfs private"))?;
        make(&copy)?;
        mount_bind_recursive(&self.headers, &copy).map_err(failed("copying the mounts"))?;
        let all = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change(&copy, all).map_err(failed("making the copies private"))?;
        mount_move(&copy, &self.target).map_err(failed("moving the copies"))
    }

    /// That all calls went well does not say that others see something.
    fn verify(&self, host: &Host) -> Result<(), HeadersError> {
        match SeenMount::at(host, &self.target) {
            Ok(Some(mount)) if mount.is_shared => {}
            Ok(Some(_)) => tracing::warn!(
                mount = %self.mount.display(),
                "the headers are seen by nobody outside: the folder is not mounted with bidirectional propagation"
            ),
            Ok(None) => {
                return Err(HeadersError::NotSeen {
                    headers: self.headers.clone(),
                    target: self.target.clone(),
                });
            }
            Err(error) => tracing::warn!(
                target = %self.target.display(),
                error = crate::error_chain(&error),
                "the headers are mounted, and who sees them cannot be told"
            ),
        }
        Ok(())
    }

    fn unmount(&self, host: &Host) -> Result<(), HeadersError> {
        self.undo(host)?;
        for folder in self.folders().iter().rev() {
            match fs::remove_dir(folder) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy) =>
                {
                    tracing::info!(
                        folder = %folder.display(),
                        %error,
                        "a folder on the way to the headers is somebody else's, too, and stays"
                    );
                    break;
                }
                Err(source) => {
                    return Err(HeadersError::Folder { action: "remove", path: folder.clone(), source });
                }
            }
        }
        Ok(())
    }

    /// Undoes all mounts of headers at the place, one on the other, each with what is mounted below it. Returns how many.
    fn undo(&self, host: &Host) -> Result<usize, HeadersError> {
        let mut undone = 0;
        while self.mounted(host)?.is_some() {
            let lazily = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            unmount(&self.target, lazily).map_err(|source| HeadersError::Unmount {
                path: self.target.clone(),
                source: source.into(),
            })?;
            undone += 1;
        }
        Ok(undone)
    }

    /// The mount of headers that is seen at the place: this container's, or that of one before it. A tmpfs is somebody else's, unless
    /// the headers themselves lie in it.
    fn mounted(&self, host: &Host) -> Result<Option<SeenMount>, HeadersError> {
        for folder in self.folders() {
            if !is_there(&folder)? {
                return Ok(None);
            }
        }
        let is_headers = |mount: &SeenMount| {
            mount.file_system != "tmpfs" || device_of(&self.headers).as_ref() == Some(&mount.device)
        };
        Ok(SeenMount::at(host, &self.target)?.filter(is_headers))
    }
}

/// The names of the folders on an absolute path.
fn names(path: &Path) -> impl Iterator<Item = &Path> {
    path.components()
        .filter_map(|part| if let Component::Normal(name) = part { Some(Path::new(name)) } else { None })
}

/// Whether something is there, which must be no link.
fn is_there(path: &Path) -> Result<bool, HeadersError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => Err(HeadersError::Link { path: path.to_owned() }),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(HeadersError::Folder { action: "look at", path: path.to_owned(), source }),
    }
}

/// Takes away what this call, or a process that was killed, has left where the copies are made. They may be peers of the headers
/// still, and are made private first.
fn clear_staging() -> Result<(), HeadersError> {
    let staging = Path::new(STAGING);
    let failed =
        |source: rustix::io::Errno| HeadersError::Unmount { path: staging.to_owned(), source: source.into() };
    loop {
        match mount_change(staging, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC) {
            Ok(()) => unmount(staging, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).map_err(failed)?,
            // It is no mount, or not there.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => break,
            Err(error) => return Err(failed(error)),
        }
    }
    match fs::remove_dir(staging) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(HeadersError::Folder { action: "remove", path: staging.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
