//! The node: what a swap finds on it, and leaves.

mod api_servers;
mod elsewhere;
mod family_devices;
mod grace;
mod headers;
mod lost_uses;
mod machine;
mod management;
mod names_rule;
mod network;
mod nics_look;
mod observe;
mod pfs;
mod readiness;
mod reported_version;
mod settings;

pub(crate) use elsewhere::lost_elsewhere;
pub use family_devices::FamilyDevicesError;
pub(crate) use family_devices::driverless_devices;
pub use grace::NoTimeLeft;
pub(crate) use grace::reload_fits;
pub use headers::{HeadersError, mount_headers, unmount_headers};
pub(crate) use lost_uses::lost_uses;
pub(crate) use machine::tell_machine;
pub use machine::{MachineStatus, RunningStatus};
pub use management::ManagementError;
pub(crate) use management::{StorageBehind, behind_nics};
pub use names_rule::{NamesRuleError, NamesRulePlan, plan_names_rule, remove_names_rule, write_names_rule};
pub use network::NetworkError;
pub(crate) use network::{network_differs, network_summary, restore_network};
pub(crate) use nics_look::NicsLook;
pub use observe::ObserveNodeError;
pub(crate) use observe::{NicsAndNetwork, nics_differ, observe_node, still_lost_modules};
pub use pfs::PfMissing;
pub(crate) use pfs::{
    drivers_fault, listen_and_wait_for_pfs, pfs_on_their_way, pfs_with_netdevs, wait_for_pfs,
};
pub(crate) use readiness::{give_readiness, take_readiness_away};
pub use reported_version::ReportedVersion;
pub(crate) use reported_version::{reported_versions, tell_reported_versions};
pub use settings::SettingsError;
pub(crate) use settings::{restore_settings, settings_differ, settings_summary};
