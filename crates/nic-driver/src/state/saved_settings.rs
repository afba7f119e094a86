use nic_netlink::IfIndex;
use nic_settings::DeviceSettings;
use serde::{Deserialize, Serialize};

/// What is set of the NICs' netdevs, and what of that is nobody's: a driver's default is not to outlive the driver.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SavedSettings {
    /// What the netdevs had when the snapshot was taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceSettings>,
    /// What they had when the driver that ran then had just come up, before anything was given back to them. It is known of those that an
    /// earlier swap of this boot has brought up, as long as they are the same interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defaults: Vec<DeviceSettings>,
    /// What the netdevs of the swap for which the snapshot was taken had when they had just come up: the defaults of the next snapshot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fresh: Vec<DeviceSettings>,
}

impl SavedSettings {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.defaults.is_empty() && self.fresh.is_empty()
    }

    /// What is set of devices now, with what an earlier swap has found of the same interfaces.
    #[must_use]
    pub fn of(devices: Vec<DeviceSettings>, earlier: Vec<DeviceSettings>) -> Self {
        let is_here = |one: &DeviceSettings| devices.iter().any(|device| device.index == one.index);
        let defaults = earlier.into_iter().filter(is_here).collect();
        Self { devices, defaults, fresh: Vec::new() }
    }

    /// What the device with this index, as it was saved, had when its driver had just come up.
    #[must_use]
    pub fn defaults_of(&self, index: IfIndex) -> Option<&DeviceSettings> {
        self.defaults.iter().find(|device| device.index == index)
    }

    /// Notes what devices have that have just come up. What was noted of one before stands: by now it may have been given something.
    pub fn note_fresh(&mut self, found: &[DeviceSettings]) {
        self.fresh.retain(|noted| found.iter().any(|device| device.index == noted.index));
        for device in found {
            if !self.fresh.iter().any(|noted| noted.index == device.index) {
                self.fresh.push(device.clone());
            }
        }
    }

    /// Without these devices, to which nothing is owed.
    pub fn forget(&mut self, gone: &[IfIndex]) {
        self.devices.retain(|device| !gone.contains(&device.index));
        self.defaults.retain(|device| !gone.contains(&device.index));
    }
}

#[cfg(test)]
mod tests {
    use nic_netlink::{EthtoolGroup, EthtoolSettings, EthtoolValue, Setting};

    use super::*;

    fn device(index: u32, rx: u32) -> DeviceSettings {
        let mut device = DeviceSettings::new(IfIndex(index), "eth0".parse().unwrap());
        let mut rings = EthtoolSettings::default();
        rings.set("rx", EthtoolValue::Number(rx));
        device.ethtool.insert(EthtoolGroup::Rings, Setting::Set(rings));
        device
    }

    fn told(devices: &[DeviceSettings]) -> Vec<String> {
        let rings = |device: &DeviceSettings| device.ethtool[&EthtoolGroup::Rings].to_string();
        devices.iter().map(|device| format!("{} {}", device.index, rings(device))).collect()
    }

    #[test]
    fn what_a_device_came_up_with_is_noted_once() {
        let mut settings = SavedSettings::default();
        settings.note_fresh(&[device(5, 256), device(6, 256)]);
        // A process was killed after it had given something back, and one VF was made anew.
        settings.note_fresh(&[device(5, 1024), device(7, 256)]);
        assert_eq!(told(&settings.fresh), ["5 rx 256", "7 rx 256"]);
    }

    #[test]
    fn defaults_are_those_of_the_same_interfaces() {
        let settings = SavedSettings::of(vec![device(5, 1024)], vec![device(5, 256), device(6, 256)]);
        assert_eq!(told(&settings.defaults), ["5 rx 256"]);
        assert!(settings.defaults_of(IfIndex(6)).is_none());
    }
}
