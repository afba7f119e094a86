//! What every program inherits of this process's environment, and must not print.

use nic_host::{ProgramEnvironment, Secret};

use crate::Proxies;

/// The variable of the token for Ubuntu Pro, which turns FIPS on.
pub const TOKEN: &str = "UBUNTU_PRO_TOKEN";

/// The environment of every program that is run, whichever command it is for: both cases of the proxies. The rest is inherited;
/// of what programs print, the proxies' passwords and the token are hidden.
#[must_use]
pub fn programs_of_this_process() -> ProgramEnvironment {
    let programs = Proxies::of_this_process().for_programs();
    // One that is no text is shown as this text.
    let token = std::env::var_os(TOKEN).map(|token| Secret::new(token.to_string_lossy()));
    token.into_iter().fold(programs, ProgramEnvironment::hiding)
}
