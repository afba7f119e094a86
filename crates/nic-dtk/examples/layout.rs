//! Shows where the driver container and the build sidecar meet for a kernel and a driver version.
//!
//! ```text
//! cargo run -p nic-dtk --example layout -- 5.14.0-570.73.1.el9_6.aarch64+64k 25.10-1.2.8.0
//! ```

use std::error::Error;

use nic_dtk::{DtkEnv, RhelRelease, SharedFolder};
use nic_host::{DriverVersion, KernelRelease, OsRelease};

#[expect(clippy::print_stdout, reason = "showing the result is what this example is for")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(kernel), Some(version)) = (args.next(), args.next()) else {
        return Err("give a kernel release and a driver version".into());
    };
    let (kernel, version): (KernelRelease, DriverVersion) = (kernel.parse()?, version.parse()?);
    let base = "/mnt/shared-nvidia-nic-driver-toolkit";
    let folder = SharedFolder::new(base, &kernel);
    println!("sources       {}", folder.sources(&version).display());
    println!("start flag    {}", folder.start_flag().display());
    println!("done flag     {}", folder.done_flag(&version).display());
    match RhelRelease::deduce(&OsRelease::default(), &kernel) {
        Ok(release) => println!("distribution  {}", release.distro()),
        Err(error) => println!("distribution  unknown: {error}"),
    }
    println!("\n{}:\n{}", folder.env_file().display(), DtkEnv::new(base, &folder, &version).render());
    Ok(())
}
