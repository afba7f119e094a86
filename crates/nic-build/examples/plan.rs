//! Shows what a build of the driver would run on this machine, and runs nothing.
//!
//! ```text
//! cargo run -p nic-build --example plan -- /usr/src/MLNX_OFED_SRC-25.10
//! ```

use std::error::Error;
use std::path::PathBuf;

use nic_build::{
    BuildFacts, BuildSettings, PackageSource, Proxies, StartFacts, Work, certificates, compiler, install_pl,
    prerequisites,
};
use nic_host::Host;
use nic_packages::Node;

#[expect(clippy::print_stdout, reason = "showing the plan is what this example is for")]
fn main() -> Result<(), Box<dyn Error>> {
    let sources = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let host = Host::running();
    let node = Node::identify(&host)?;
    let facts = BuildFacts::observe(&host, &node)?;
    let work = Work::due(PackageSource::Sources, false, false);
    let proxies = Proxies::of_this_process();
    println!("{}, kernel {} ({:?})", node.distribution, node.kernel, node.variant.flavour);
    let start = StartFacts::observe(&host, &node);
    for plan in [certificates(&node, &start), compiler(&node, &facts), prerequisites(&node, &facts, work)?] {
        print!("{}", plan.with_environment(proxies.environment()));
    }
    let build = install_pl(&node, &sources, &BuildSettings::default())?;
    println!("{}: {build}", build.purpose);
    Ok(())
}
