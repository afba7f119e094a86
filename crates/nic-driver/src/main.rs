//! The `nic-driver` program: parses, sets up logs, calls one function, and turns its result into an exit code.

use std::process::ExitCode;

use nic_driver::cli::{Cli, run};

fn main() -> ExitCode {
    run(Cli::of_process())
}
