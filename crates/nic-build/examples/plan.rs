//! Shows what a build of the driver would run on this machine, and runs nothing.
//!
//! ```text
//! cargo run -p nic-build --example plan -- /usr/src/MLNX_OFED_SRC-25.10
//! ```

use std::error::Error;
use std::path::PathBuf;

use nic_build::{
    BuildFacts, BuildSettings, PackageSource, Preparation, PreparationRequest, Proxies, StartFacts, Work,
};
use nic_host::Host;
use nic_packages::Node;

#[expect(clippy::print_stdout, reason = "showing the plan is what this example is for")]
fn main() -> Result<(), Box<dyn Error>> {
    let sources = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let host = Host::running();
    let node = Node::identify(&host)?;
    let facts = BuildFacts::observe(&host, &node)?;
    let (settings, proxies) = (BuildSettings::default(), Proxies::of_this_process());
    let request = PreparationRequest {
        work: Work::due(PackageSource::Sources, false, settings.use_dkms),
        sources: &sources,
        settings: &settings,
        token: None,
        proxies: &proxies,
    };
    let preparation = Preparation::new(&node, &StartFacts::observe(&host, &node), &facts, &request)?;
    println!("{}, kernel {} ({:?})\n{preparation}", node.distribution, node.kernel, node.variant.flavour);
    Ok(())
}
