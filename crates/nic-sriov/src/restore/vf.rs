//! One VF: bound, waited for, its netdev configured. It decides on the second try of a binding.

use std::time::Duration;

use nic_host::error_chain;
use nic_netlink::Links;
use tokio::sync::Semaphore;

use super::event::RestoreEvent;
use super::executor::Executor;
use super::ledger::VfProgress;
use super::step_error::StepError;
use crate::arrivals::Arrival;
use crate::machine::Machine;
use crate::plan::{BindStep, plan_binding, plan_netdev};
use crate::step::Activity;
use crate::sysfs::VfWriteError;
use crate::{Component, DeviceAddress, DeviceUser, NetdevState, PfState, Usage, VfNetdev, VfState};

const BIND_AND_WAIT: Activity<'static> = Activity("bind and wait for the netdev");

/// How often it is looked whether a netdev that is waited for has been taken to another network namespace.
const TAKEN_CHECK: Duration = Duration::from_secs(1);

/// A VF that has its driver.
enum Bound {
    /// Its netdev is here.
    Arrived(Box<Arrival>),
    /// It had none, and none is waited for.
    NoNetdevDue,
    /// Somebody has moved its netdev to another network namespace.
    Taken,
}

impl<M: Machine> Executor<'_, M> {
    pub(super) async fn restore_vf(&self, pf: &PfState, found: &VfState, saved: &VfState) {
        let mut progress = VfProgress::new(Component::of_vf(pf, saved));
        let _in_progress = self.in_progress(&progress.component, &BIND_AND_WAIT);
        let mut result = self.bind_and_await(saved, plan_binding(saved, found), &mut progress).await;
        // Bound and yet without a netdev, or a probe that failed: a second probe is what can help.
        if let (Err(error), Some(driver)) = (&result, &saved.driver)
            && !error.leaves_alone()
        {
            tracing::warn!(
                vf = %progress.component,
                error = error_chain(error),
                "binding the VF failed; binding it once more"
            );
            progress.retried = true;
            result = self.rebind(pf, saved, driver, &mut progress).await;
        }
        let failure = match result {
            Ok(Bound::Arrived(arrival)) => {
                progress.first_seen_as.clone_from(&arrival.first_seen_as);
                progress.waited = Some(arrival.waited);
                (self.on_event)(RestoreEvent::VfArrived {
                    component: progress.component.clone(),
                    name: arrival.link.name.clone(),
                    first_seen_as: arrival.first_seen_as.clone(),
                });
                if !arrival.udev_finished {
                    tracing::warn!(
                        vf = %progress.component,
                        "udev has not finished with the VF's netdev in time"
                    );
                }
                self.restore_netdev(saved, &arrival, &mut progress).await;
                None
            }
            Ok(Bound::NoNetdevDue) => None,
            // As it should be: the comparison states it.
            Ok(Bound::Taken) => {
                tracing::info!(vf = %progress.component, "the VF's netdev was moved to another network namespace meanwhile; left alone");
                None
            }
            Err(error) => {
                let cause = error_chain(&error);
                self.fail(&progress.component, &BIND_AND_WAIT, &error);
                Some(cause)
            }
        };
        (self.on_event)(RestoreEvent::VfDone {
            component: progress.component.clone(),
            steps: progress.steps,
            failure,
        });
        self.ledger().vfs.push(progress);
    }

    /// Gives the VF its driver, and waits for its netdev where it had one.
    async fn bind_and_await(
        &self,
        saved: &VfState,
        steps: Vec<BindStep>,
        progress: &mut VfProgress,
    ) -> Result<Bound, StepError> {
        // Until the netdev is there: what waits for udev waits for at most so many others. A PF that is restored has its share, and nobody
        // closes it; without a permit the steps are still right.
        let share = self.binds.get(progress.component.pf());
        let _permit = futures_util::future::OptionFuture::from(share.map(Semaphore::acquire)).await;
        // A netdev that was in another namespace comes back in this one, with the binding.
        let comes_here =
            saved.netdev.is_elsewhere() && steps.iter().any(|step| matches!(step, BindStep::Bind(_)));
        for step in steps {
            match self.bind_step(saved, &step, progress).await {
                Err(StepError::Vf(VfWriteError::InUse {
                    usage: Usage::InUse(DeviceUser::Namespace),
                    ..
                })) => {
                    return Ok(Bound::Taken);
                }
                done => done?,
            }
        }
        match saved.address {
            Some(address) if comes_here || saved.netdev.here().is_some() => {
                self.await_netdev(&DeviceAddress::from(address)).await
            }
            Some(_) | None => Ok(Bound::NoNetdevDue),
        }
    }

    /// Waits for the netdev, which somebody may take to another network namespace as soon as it is there.
    async fn await_netdev(&self, device: &DeviceAddress) -> Result<Bound, StepError> {
        let taken = async {
            while !self.machine.is_elsewhere(device).await? {
                self.machine.after(TAKEN_CHECK).await;
            }
            Ok(Bound::Taken)
        };
        tokio::select! {
            biased;
            arrival = self.machine.await_netdev(device) => Ok(Bound::Arrived(Box::new(arrival?))),
            taken = taken => taken,
        }
    }

    async fn rebind(
        &self,
        pf: &PfState,
        saved: &VfState,
        driver: &str,
        progress: &mut VfProgress,
    ) -> Result<Bound, StepError> {
        let now = self.machine.observe(&pf.address).await?;
        let found = now.as_ref().and_then(|pf| pf.vf(saved.index)).ok_or(StepError::Gone)?;
        if found.is_in_use() {
            return Ok(Bound::Taken);
        }
        let mut steps = plan_binding(saved, found);
        if !steps.iter().any(|step| matches!(step, BindStep::Bind(_))) {
            steps = vec![BindStep::Unbind(driver.to_owned()), BindStep::Bind(driver.to_owned())];
        }
        self.bind_and_await(saved, steps, progress).await
    }

    async fn restore_netdev(&self, saved: &VfState, arrival: &Arrival, progress: &mut VfProgress) {
        let VfNetdev::Here(wanted) = &saved.netdev else { return };
        // Only for the name of its master: all links are many, with the lists of all their VFs.
        let links = match arrival.link.master {
            None => Ok(Links::default()),
            Some(_) => self.machine.links().await,
        };
        let links = match links {
            Ok(links) => links,
            Err(error) => {
                self.fail(&progress.component, &Activity("read the links"), &StepError::Observe(error));
                return;
            }
        };
        let found = NetdevState::of(&arrival.link, &links);
        let owner = saved.address.map(DeviceAddress::from);
        let steps = plan_netdev(wanted, &found);
        progress.steps += self.netdev_steps(&progress.component, owner.as_ref(), found.index, steps).await;
    }
}
