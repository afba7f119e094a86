//! Shows what package files hold, and for which kernels.
//!
//! ```text
//! cargo run -p nic-packages --example inspect -- /mnt/packages/*.rpm
//! ```

use std::error::Error;
use std::path::absolute;

use nic_host::Host;
use nic_packages::PackageFile;

#[expect(clippy::print_stdout, reason = "showing the result is what this example is for")]
fn main() -> Result<(), Box<dyn Error>> {
    let host = Host::running();
    for path in std::env::args_os().skip(1) {
        let package = PackageFile::read(&host, absolute(path)?)?;
        println!("{} {} {} ({})", package.name, package.version, package.architecture, package.format);
        for kernel in package.kernels() {
            println!("  kernel {kernel}: {} modules", package.modules_for(&kernel).count());
        }
        for file in &package.files {
            println!("  {}", file.display());
        }
    }
    Ok(())
}
