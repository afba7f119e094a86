//! Says of each module whether the kernel has the build that is on the disk.
//!
//! `cargo run -p nic-kmod --example identity -- mlx5_core mlx5_ib ib_core`
//!
//! With `ROOT` in the environment it reads the tree of another machine, and with `RELEASE` the modules of another
//! kernel.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use nic_host::{Host, KernelRelease};
use nic_kmod::{IdentityReport, ModuleIndex, ModuleName};

fn main() -> Result<(), Box<dyn Error>> {
    let host = std::env::var_os("ROOT").map_or_else(Host::running, Host::at);
    let release: KernelRelease = match std::env::var("RELEASE") {
        Ok(release) => release.parse()?,
        Err(_) => host.kernel_release()?,
    };
    let names = std::env::args().skip(1).map(|name| name.parse()).collect::<Result<Vec<ModuleName>, _>>()?;

    let started = Instant::now();
    let index = ModuleIndex::read(&host, Path::new("/lib/modules"), &release)?;
    let indexed = started.elapsed();
    let report = IdentityReport::read(&host, &index, &names)?;
    print!("{report}");
    for module in &report.modules {
        if let Some(file) = &module.file {
            println!(
                "  {} {}",
                file.display(),
                module.file_version.as_deref().unwrap_or("without a version")
            );
        }
    }
    println!("{:?}", report.decide(|_| true));
    println!(
        "index read in {indexed:?}, {} modules compared in {:?}",
        names.len(),
        started.elapsed() - indexed
    );
    Ok(())
}
