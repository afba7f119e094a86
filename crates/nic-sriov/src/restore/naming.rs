//! Contested names: in how many rounds they are tried again, and which alternative names make way for them.

use nic_host::error_chain;
use nic_netlink::{IfIndex, Link, LinkChange, Links};

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
    let restored = |link: &Link| {
        saved.pfs.iter().any(|pf| {
            let is_parent = |name: &str| link.parent_device.as_deref() == Some(name);
            let vfs = pf.vfs.iter().filter_map(|vf| vf.address);
            is_parent(pf.address.name()) || vfs.into_iter().any(|vf| is_parent(&vf.to_string()))
        })
    };
    let held = |name: &str| {
        links.iter().filter(|link| restored(link)).find_map(|link| {
            let altname = link.altnames.iter().find(|altname| *altname == name)?;
            Some((link.index, altname.clone()))
        })
    };
    let names = contested.iter().filter_map(|entry| match &entry.step {
        NetdevStep::Link(LinkChange::Name(name)) => Some((entry, name.as_str())),
        NetdevStep::Link(LinkChange::AddAltName(name)) => Some((entry, name.as_str())),
        NetdevStep::Link(_) | NetdevStep::Master(_) => None,
    });
    let in_the_way = names.filter_map(|(entry, name)| {
        let (holder, altname) = held(name)?;
        // An alternative name that the interface itself has already is what it is to have.
        let has_it =
            holder == entry.index && matches!(entry.step, NetdevStep::Link(LinkChange::AddAltName(_)));
        (!has_it).then_some((entry, holder, altname))
    });
    in_the_way.collect()
}
