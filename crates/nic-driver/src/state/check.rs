//! Whether a snapshot can be at all: it may have been edited since, or damaged.

use std::collections::BTreeSet;

use nic_netlink::IfIndex;
use nic_settings::DeviceSettings;
use nic_topology::Place;

use super::contradiction::{Contradiction, SnapshotContradiction, once, parameter};
use super::snapshot::Snapshot;

impl Snapshot {
    /// Looks whether the snapshot can be: a restore makes paths, messages and arguments of it.
    pub(super) fn check(&self) -> Result<(), SnapshotContradiction> {
        self.nics.check().map_err(SnapshotContradiction::Nics)?;
        self.network.check().map_err(SnapshotContradiction::Network)?;
        let settings = &self.settings;
        for (list, devices) in
            [("devices", &settings.devices), ("defaults", &settings.defaults), ("fresh", &settings.fresh)]
        {
            DeviceSettings::check(devices)
                .map_err(|found| SnapshotContradiction::Settings { list, found })?;
        }
        self.check_netdevs().and_then(|()| self.check_modules()).map_err(SnapshotContradiction::Rest)
    }

    /// What stood on a netdev, or was set of it, is of one of these NICs.
    fn check_netdevs(&self) -> Result<(), Contradiction> {
        let known: BTreeSet<IfIndex> = self.nics.pfs.iter().flat_map(nic_sriov::PfState::ifindexes).collect();
        let check = |field: String, index: IfIndex, name: &str| {
            if known.contains(&index) {
                return Ok(());
            }
            let what = format!("{index} ({name}) is no netdev of these NICs");
            Err(Contradiction { field: format!("{field}.index"), what })
        };
        for (place, link) in self.network.links.iter().enumerate() {
            if link.place == Place::Device {
                check(format!("network.links[{place}]"), link.index, link.name.as_str())?;
            }
        }
        for (place, device) in self.settings.devices.iter().enumerate() {
            check(format!("settings.devices[{place}]"), device.index, device.name.as_str())?;
        }
        Ok(())
    }

    fn check_modules(&self) -> Result<(), Contradiction> {
        once("modules", &self.modules)?;
        once("lost", &self.lost)?;
        once("forgotten", &self.forgotten)?;
        for (place, pf) in self.forgotten.iter().enumerate() {
            if self.nics.pfs.iter().any(|saved| saved.address == *pf) {
                let what = format!("{pf} is among nics.pfs, too");
                return Err(Contradiction { field: format!("forgotten[{place}]"), what });
            }
        }
        for (module, parameters) in &self.parameters {
            let field = format!("parameters.{module}");
            if !self.modules.contains(module) {
                let what = "the module is none of those that were loaded".to_owned();
                return Err(Contradiction { field, what });
            }
            parameters.keys().try_for_each(|name| parameter(&field, name))?;
        }
        Ok(())
    }
}
