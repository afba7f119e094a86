//! The `nic-driver` program: parses, sets up logs, calls one function, and turns its result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    nic_driver::cli::run()
}
