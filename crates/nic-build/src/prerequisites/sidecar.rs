use crate::command::PlannedCommand;
use crate::step::Plan;

/// What the build sidecar, whose image has the kernel's headers and compiler, lacks for a build of the driver.
#[must_use]
pub fn sidecar_prerequisites() -> Plan {
    let dnf = |purpose: &str| PlannedCommand::new(purpose, ["dnf", "install", "-y"]);
    Plan::of([
        dnf("install perl, in which install.pl is written").args(["perl"]).into(),
        dnf("install programs for builds")
            .args(["ethtool", "autoconf", "pciutils", "automake", "libtool", "python3-devel"])
            .into(),
    ])
}
