//! The project's chores: `cargo xtask VERB`. One file per verb; [`lab`] is the library of virtual machines behind several of
//! them.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks to its user")]

mod bench;
mod check;
mod demo;
mod dist;
mod fixtures;
mod fleet;
mod lab;
mod lab_verb;
mod needs;
mod pictures;
mod pipeline;
mod pod;
mod sidecar;
mod soak;
mod test;
mod touched;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of the nic-driver project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Set up, check, lint, test, prove the sidecar's program, build the documentation, and run the lab's scenarios on all kernels
    Test(test::Arguments),
    /// Show the night this project is for, in a virtual machine
    Demo(demo::Arguments),
    /// Measure restore and snapshot against what the kernel takes alone
    Bench(bench::Arguments),
    /// Kill the program at random moments, and compare what it leaves
    Soak(soak::Arguments),
    /// Build driver packages with the program, in the build sidecar and without it, and install them, in containers
    Pipeline(pipeline::Arguments),
    /// Build the program of the build sidecar so that it runs in any image, and prove that it does
    Sidecar(sidecar::Arguments),
    /// Make all that a release consists of: programs, packages, manifests, checksums
    Dist(dist::Arguments),
    /// List, run or enter the lab's virtual machines
    Lab(lab_verb::Arguments),
    /// Say which crates' tests and which scenarios a change touches, and how to run them
    Touched(touched::Arguments),
    /// Show the pages that people look at in a browser, take pictures of them, and fail when it complains
    Pictures(pictures::Arguments),
    /// Check the rules that the workspace keeps
    Check,
    /// Play an upgrade of many nodes from what reports of few tell
    Fleet(fleet::Arguments),
    /// Write the fixture trees anew
    Fixtures,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Test(arguments) => test::run(&arguments),
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Soak(arguments) => soak::run(&arguments),
        Verb::Pipeline(arguments) => pipeline::run(&arguments),
        Verb::Sidecar(arguments) => sidecar::run(&arguments),
        Verb::Dist(arguments) => dist::run(&arguments),
        Verb::Lab(arguments) => lab_verb::run(&arguments),
        Verb::Touched(arguments) => touched::run(&arguments),
        Verb::Pictures(arguments) => pictures::run(&arguments),
        Verb::Check => check::run(),
        Verb::Fleet(arguments) => fleet::run(&arguments),
        Verb::Fixtures => fixtures::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
