use std::collections::BTreeMap;

use futures_util::future::join_all;
use nic_netlink::{Ethtool, EthtoolGroup, EthtoolSettings, IfIndex, LinkName, RequestError, Setting, Unread};

use crate::DeviceSettings;

/// What these devices have, with one question for each group.
///
/// A group that cannot be read, of one device or of all, is not known of it. A kernel before 5.6 cannot be asked: then nothing is known.
pub async fn observe(ethtool: &Ethtool, links: &[(IfIndex, LinkName)]) -> Vec<DeviceSettings> {
    let mut devices: Vec<_> =
        links.iter().map(|(index, name)| DeviceSettings::new(*index, name.clone())).collect();
    if devices.is_empty() {
        return devices;
    }
    let groups =
        join_all(EthtoolGroup::ALL.map(|group| async move { (group, of_all(ethtool, group, links).await) }));
    for (group, mut known) in groups.await {
        for device in &mut devices {
            if let Some(settings) = known.remove(&device.index) {
                device.ethtool.insert(group, settings);
            }
        }
    }
    devices
}

async fn of_all(
    ethtool: &Ethtool,
    group: EthtoolGroup,
    links: &[(IfIndex, LinkName)],
) -> BTreeMap<IfIndex, Setting<EthtoolSettings>> {
    match ethtool.settings_of_all(group).await {
        Ok(all) => all.into_iter().map(|(index, settings)| (index, Setting::Set(settings))).collect(),
        Err(error @ (RequestError::NoFamily { .. } | RequestError::Closed)) => {
            let unread = Unread::of(&error);
            links.iter().map(|(index, _)| (*index, Setting::NotKnown(unread.clone()))).collect()
        }
        // One device's failure ends the list of all.
        Err(error) => {
            tracing::debug!(%group, %error, "the settings of all devices cannot be listed: each is asked alone");
            let each =
                links.iter().map(|(index, _)| async { (*index, of_one(ethtool, group, *index).await) });
            let known = join_all(each).await.into_iter();
            known.filter(|(_, settings)| !matches!(settings, Setting::NotThere)).collect()
        }
    }
}

/// What one device has.
pub(crate) async fn observe_one(ethtool: &Ethtool, index: IfIndex, name: &LinkName) -> DeviceSettings {
    let mut device = DeviceSettings::new(index, name.clone());
    let groups = EthtoolGroup::ALL.map(|group| async move { (group, of_one(ethtool, group, index).await) });
    let known = join_all(groups).await.into_iter();
    device.ethtool = known.filter(|(_, settings)| !matches!(settings, Setting::NotThere)).collect();
    device
}

async fn of_one(ethtool: &Ethtool, group: EthtoolGroup, index: IfIndex) -> Setting<EthtoolSettings> {
    Setting::read(ethtool.settings(index, group).await)
}
