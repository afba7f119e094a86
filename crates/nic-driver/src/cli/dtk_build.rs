//! `dtk-build`, which is given nothing but the variables of `dtk.env`.

use std::collections::BTreeMap;

use nic_build::Proxies;
use nic_dtk::DtkEnv;

use super::arguments::Cli;
use super::output::fail;
use super::settings::machine;
use super::signals;
use crate::{Exit, InstanceLock, StopRequest};

pub(super) async fn dtk_build(cli: &Cli) -> Exit {
    // A variable that is no text is none of those that are looked for.
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let variables: BTreeMap<String, String> = std::env::vars_os().filter_map(text).collect();
    let env = match DtkEnv::from_variables(&variables) {
        Ok(env) => env,
        Err(error) => return fail(cli, &error, Exit::Usage),
    };
    let (stop, proxies) = (StopRequest::default(), Proxies::of_this_process());
    // Nothing is locked here: it is what a second signal lets go of.
    let listening = signals::listen(stop.clone(), InstanceLock::new(cli.lock_file.clone()));
    let listening = match listening {
        Ok(listening) => listening,
        Err(error) => return fail(cli, &error, Exit::Failed),
    };
    let served = nic_sidecar::dtk_build(&machine(cli), &env, &proxies, stop.requested()).await;
    super::await_transactions().await;
    drop(listening);
    match served {
        Ok(()) => Exit::Success,
        Err(error) => fail(cli, &error, Exit::Failed),
    }
}
