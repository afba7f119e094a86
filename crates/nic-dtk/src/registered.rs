//! A descriptor that the runtime waits for.

#![expect(unsafe_code, reason = "tokio's safe way to register a descriptor is deprecated as unsound")]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the runtime tell when `fd` can be read.
pub(crate) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is an open descriptor, always the same one, and stays open until it is dropped, which the
    // `AsyncFd` that owns it does last.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    Ok(registered?)
}
