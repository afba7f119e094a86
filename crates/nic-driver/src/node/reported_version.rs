//! Which version the drivers of the family's netdevs say that they are.

use std::collections::BTreeMap;
use std::time::Duration;

use nic_host::{Host, LookError};
use nic_netlink::DriverInfo;
use nic_sriov::{LinkSource, NetdevState, NicState, ObserveError, PfState, find_pfs, observe};
use serde::Serialize;

use crate::context::Context;

/// The version that a driver gives its netdevs, as `ethtool -i` shows it. It tells people which driver runs, and decides
/// nothing: a driver that declares none has the kernel's release here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportedVersion {
    /// The driver.
    pub driver: String,
    /// The driver's version.
    pub version: String,
    /// The PFs' and VFs' netdevs that report it.
    pub netdevs: Vec<String>,
}

/// What the netdevs here report, driver by driver. Each is asked under the lock of all netdevs (`dev_ethtool` in `net/ethtool/ioctl.c` takes
/// `rtnl_lock`), which a driver that hangs may hold.
pub(crate) async fn reported_versions(
    host: &Host,
    found: &NicState,
    deadline: Duration,
) -> Result<Vec<ReportedVersion>, LookError> {
    let found = found.clone();
    host.look_within("the versions of the drivers", deadline, move |_| versions_of(&found)).await
}

fn versions_of(found: &NicState) -> Vec<ReportedVersion> {
    let mut netdevs: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let of_pf = |pf: &PfState| {
        pf.netdev
            .as_set()
            .into_iter()
            .chain(pf.vfs.iter().filter_map(|vf| vf.netdev.here()))
            .cloned()
            .collect()
    };
    for netdev in found.pfs.iter().flat_map::<Vec<NetdevState>, _>(of_pf) {
        match DriverInfo::read(netdev.index) {
            Ok(Some(info)) => {
                netdevs.entry((info.driver, info.version)).or_default().push(netdev.name.to_string());
            }
            Ok(None) => {}
            // It may have gone since; the rest is still worth telling.
            Err(error) => {
                tracing::info!(
                    netdev = %netdev.name,
                    error = crate::error_chain(&error),
                    "the netdev does not tell the version of its driver"
                );
            }
        }
    }
    let reported = netdevs.into_iter();
    reported.map(|((driver, version), netdevs)| ReportedVersion { driver, version, netdevs }).collect()
}

/// Logs which version runs. What cannot be told is said, and matters to nothing.
pub(crate) async fn tell_reported_versions(context: &Context) {
    match observe_reported_versions(context).await {
        Ok(reported) => tell(reported),
        Err(error) => {
            tracing::info!(
                error = crate::error_chain(&error),
                "the version of the driver that runs is not known"
            );
        }
    }
}

fn tell(reported: Vec<ReportedVersion>) {
    if reported.is_empty() {
        tracing::info!("no netdev tells the version of its driver");
    }
    for ReportedVersion { driver, version, netdevs } in reported {
        tracing::info!(driver, version, netdevs = netdevs.len(), "the driver that runs reports its version");
    }
}

async fn observe_reported_versions(context: &Context) -> Result<Vec<ReportedVersion>, ObserveError> {
    let (host, selector) = (&context.host, &context.family.devices);
    let source = LinkSource::open(host).await?;
    let deadline = context.settings.timeout;
    let found = observe(host, &source, selector, &find_pfs(host, selector)?, deadline).await?;
    Ok(reported_versions(host, &found, deadline).await?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_log_has_the_version_of_each_driver() {
        let mut log = tempfile::tempfile().unwrap();
        let writer = Arc::new(log.try_clone().unwrap());
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(writer).finish();
        tracing::subscriber::with_default(subscriber, || {
            let netdevs = vec!["eth0".to_owned(), "eth1".to_owned()];
            let of = |driver: &str, version: &str| ReportedVersion {
                driver: driver.to_owned(),
                version: version.to_owned(),
                netdevs: netdevs.clone(),
            };
            tell(vec![of("mlx5_core", "25.10-1.2.8"), of("mlx5_core_vf", "6.12.1")]);
            tell(Vec::new());
        });
        log.rewind().unwrap();
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        for expected in [
            "driver=\"mlx5_core\" version=\"25.10-1.2.8\" netdevs=2",
            "driver=\"mlx5_core_vf\" version=\"6.12.1\"",
            "no netdev tells the version of its driver",
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }
}
