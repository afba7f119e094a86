//! What the lab's two sides share: the host side (package `xtask`), which starts virtual machines and judges what they
//! say, and the guest side (this package's binary), which is PID 1 in such a machine and runs one scenario.
//!
//! It holds no mechanism. Start reading at [`scenario`]: the table of scenarios is there.

pub mod areas;
pub mod bench;
pub mod journal_names;
pub mod lines;
pub mod pod;
pub mod scenario;
pub mod wiring;
