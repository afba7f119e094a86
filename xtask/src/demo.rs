//! `cargo xtask demo`: the documented night, shown while it happens, and its report.

use anyhow::{bail, ensure};
use clap::Args;

use crate::lab::{self, Kernel, Lab, Programs, Request, Said};
use crate::workspace;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The kernel of the node
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Kernel,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    lab::set_up_machine()?;
    let metadata = workspace::metadata()?;
    let programs = Programs::build(&metadata)?;
    ensure!(programs.has_nic_driver(), "the workspace has no program nic-driver to show");
    let lab = Lab::open(metadata.target_directory.as_std_path(), &[arguments.kernel])?;
    let request = Request::new("night", arguments.kernel, &[])?;
    let mut report = Vec::new();
    let run = lab.run(&request, &programs, |said| match said {
        Said::Progress(text) => println!("{text}"),
        Said::Report(text) => report.push(text.to_owned()),
    })?;
    println!("\n{}\n", report.join("\n"));
    println!("console: {}", run.log.display());
    println!("results: {}", run.results.display());
    match run.judgement.failure {
        None => {
            println!("the night took {:.1} s and every VF is what it was", run.judgement.time.as_secs_f64());
            Ok(())
        }
        Some(reason) => bail!("{reason}"),
    }
}
