//! The handshake from end to end, on temporary folders: with the incumbent's sides, as CONTRACT has them, and with what
//! can go wrong.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it expects by panicking, and that it was skipped; its functions, too"
)]

mod disk;
mod hostile;
mod interop;
mod pod;
mod restarts;
mod stale;
