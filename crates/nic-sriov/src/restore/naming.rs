//! Contested names: in how many rounds they are tried again, and which alternative names make way for them.

use std::collections::{BTreeSet, HashMap};

use nic_host::error_chain;
use nic_netlink::{IfIndex, LinkChange, Links};

use super::executor::Executor;
use super::step_error::StepError;
use crate::NicState;
use crate::machine::Machine;
use crate::names::{Contested, plan_contested};
use crate::plan::NetdevStep;

/// How often contested names are tried again. Each round fails only when udev has been quicker again.
const NAMING_ROUNDS: usize = 10;

impl<M: Machine> Executor<'_, M> {
    /// Names that another interface held when they were to be given. By now every interface is there.
    ///
    /// It may take several rounds: when an interface steps aside, udev gives it its old name back as an alternative
    /// one (systemd's `src/udev/net/link-config.c`, `link_apply_config`), which then holds the name once more.
    pub(super) async fn give_contested_names(&self, saved: &NicState) {
        for _ in 0..NAMING_ROUNDS {
            let contested = std::mem::take(&mut self.ledger().contested);
            if contested.is_empty() {
                return;
            }
            if let Err(error) = self.contested_round(saved, &contested).await {
                for entry in &contested {
                    self.fail(&entry.component, &entry.step, &error);
                }
                return;
            }
        }
        // Not in the loop's head, where the lock would be held while the failures are recorded.
        let contested = std::mem::take(&mut self.ledger().contested);
        for entry in contested {
            self.fail(&entry.component, &entry.step, &StepError::StillTaken);
        }
    }

    async fn contested_round(&self, saved: &NicState, contested: &[Contested]) -> Result<(), StepError> {
        let links = self.machine.links().await?;
        let in_the_way = altnames_in_the_way(saved, contested, &links);
        for (wanting, holder, altname) in &in_the_way {
            let change = LinkChange::RemoveAltName(altname.clone());
            let _in_progress = self.in_progress(&wanting.component, &wanting.step);
            if let Err(error) = self.machine.set_link(*holder, &change).await {
                tracing::debug!(
                    %holder,
                    altname,
                    error = error_chain(&error),
                    "an alternative name in the way cannot be removed"
                );
            }
        }
        let links = if in_the_way.is_empty() { links } else { self.machine.links().await? };
        let nameless = std::mem::take(&mut self.ledger().nameless);
        let plan = plan_contested(contested, &nameless, &links);
        for (entry, taken) in plan.taken {
            self.fail(&entry.component, &entry.step, &StepError::Taken(taken));
        }
        for Contested { component, index, step } in plan.steps {
            self.netdev_steps(&component, None, index, vec![step]).await;
        }
        Ok(())
    }
}

/// Alternative names that keep a wanted name from being given, and are none of the snapshot's: a name was there once
/// only, so that an interface of the snapshot that has it now got it since. Each with who wants it and who has it.
fn altnames_in_the_way<'c>(
    saved: &NicState,
    contested: &'c [Contested],
    links: &Links,
) -> Vec<(&'c Contested, IfIndex, String)> {
    let devices = saved.pfs.iter().flat_map(|pf| {
        let vfs = pf.vfs.iter().filter_map(|vf| vf.address).map(|vf| vf.to_string());
        std::iter::once(pf.address.name().to_owned()).chain(vfs)
    });
    let mut holders: HashMap<&str, IfIndex> = HashMap::new();
    let devices: BTreeSet<String> = devices.collect();
    for link in devices.iter().flat_map(|device| links.on_device(device)) {
        for altname in &link.altnames {
            holders.entry(altname).or_insert(link.index);
        }
    }
    let names = contested.iter().filter_map(|entry| match &entry.step {
        NetdevStep::Link(LinkChange::Name(name)) => Some((entry, name.as_str())),
        NetdevStep::Link(LinkChange::AddAltName(name)) => Some((entry, name.as_str())),
        NetdevStep::Link(_) | NetdevStep::Master(_) => None,
    });
    let in_the_way = names.filter_map(|(entry, name)| {
        let holder = *holders.get(name)?;
        // An alternative name that the interface itself has already is what it is to have.
        let has_it =
            holder == entry.index && matches!(entry.step, NetdevStep::Link(LinkChange::AddAltName(_)));
        (!has_it).then(|| (entry, holder, name.to_owned()))
    });
    in_the_way.collect()
}

#[cfg(test)]
mod tests {
    use nic_netlink::{Link, Setting};

    use super::*;
    use crate::{Component, OfedAttributes, PciAddress, PfState, VfNetdev, VfState};

    fn vf(bus: u8, index: u32) -> VfState {
        let number = u8::try_from(index).unwrap();
        VfState {
            index,
            address: Some(PciAddress { domain: 0, bus, device: 2 + number / 8, function: number % 8 }),
            driver: None,
            driver_override: None,
            admin: Setting::NotThere,
            ofed: OfedAttributes::default(),
            rdma: Setting::NotThere,
            netdev: VfNetdev::Unbound,
        }
    }

    fn pf(bus: u8) -> PfState {
        PfState {
            address: format!("0000:{bus:02x}:00.0").parse().unwrap(),
            pci_id: None,
            driver: None,
            total_vfs: None,
            num_vfs: 240,
            drivers_autoprobe: None,
            eswitch: Setting::NotThere,
            netdev: Setting::NotThere,
            rdma: Setting::NotThere,
            vfs: (0..240).map(|index| vf(bus, index)).collect(),
            representors: Vec::new(),
        }
    }

    #[test]
    fn fault_5_4_what_is_in_the_way_of_960_names_is_looked_for_by_name_and_device() {
        let saved = NicState { pfs: (1..5).map(pf).collect(), ..NicState::default() };
        let vfs: Vec<&VfState> = saved.pfs.iter().flat_map(|pf| &pf.vfs).collect();
        let link = |(number, vf): (u32, &&VfState)| Link {
            parent_device: vf.address.map(|address| address.to_string()),
            altnames: vec![format!("old{number}")],
            ..Link::new(IfIndex(number), format!("eth{number}").parse().unwrap())
        };
        let mut links: Links = (1..).zip(&vfs).map(link).collect();
        // A stranger's alternative names stay its own.
        links.update(Link {
            altnames: vec!["old0".to_owned()],
            ..Link::new(IfIndex(5000), "lo".parse().unwrap())
        });
        let entry = |number: u32| Contested {
            component: Component::Pf(saved.pfs[0].address.clone()),
            index: IfIndex(number + 1),
            step: NetdevStep::Link(LinkChange::Name(format!("old{number}").parse().unwrap())),
        };
        let contested: Vec<Contested> = (0..=960).map(entry).collect();
        let found = altnames_in_the_way(&saved, &contested, &links);
        assert_eq!(found.len(), 960);
        for (wanting, holder, altname) in found {
            assert_eq!((altname, wanting.index.0), (format!("old{holder}"), holder.0 + 1));
        }
    }
}
