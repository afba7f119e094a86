//! The work of a restore: it carries out what the plans say, observes between the stages, and decides nothing else.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nic_host::{DeadlineWriteError, Host, error_chain};
use nic_netlink::{IfIndex, Link, LinkChange, LinkName, Links, VfChange};
use rustix::io::Errno;
use tokio::sync::Semaphore;

use super::{RestoreEvent, Stage, StepFailure};
use crate::arrivals::{Arrival, ArrivalError, Arrivals};
use crate::names::{Contested, plan_contested};
use crate::observe::{KernelLinks, LinkSource, devlink_handle, observe_within};
use crate::ofed::{self, OfedStep, plan_ofed};
use crate::plan::{
    BindStep, NetdevStep, PfStep, changes_mode_under_vfs, is_refused_by_mode, plan_admin_after,
    plan_admin_before, plan_admin_mac_again, plan_binding, plan_eswitch, plan_finish, plan_netdev,
    plan_prepare, plan_rates_before, vfs_need_binding, vfs_to_unbind, without_vfs_to_unbind,
};
use crate::step::{Activity, Step};
use crate::sysfs::{self, VfWriteError};
use crate::{
    DeviceAddress, DeviceSelector, NetdevState, NicState, ObserveError, Part, PfState, VfNetdev, VfState,
    vfio_group_in_use,
};

/// How often contested names are tried again. Each round fails only when udev has been quicker again.
const NAMING_ROUNDS: usize = 10;
const BIND_AND_WAIT: Activity<'static> = Activity("bind and wait for the netdev");
/// How long the PF's link is waited for before the rates are set, which some drivers refuse without it.
const LINK_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) steps: usize,
    pub(super) failures: Vec<StepFailure>,
    pub(super) vfs: Vec<VfNote>,
    contested: Vec<Contested>,
    /// Netdevs that have come back from another network namespace and have no name to be given.
    nameless: Vec<(Part, IfIndex)>,
}

#[derive(Debug)]
pub(super) struct VfNote {
    pub(super) part: Part,
    pub(super) first_seen_as: Option<String>,
    pub(super) waited: Option<Duration>,
    pub(super) steps: usize,
    pub(super) retried: bool,
}

pub(super) struct Work<'a> {
    pub(super) host: &'a Host,
    pub(super) kernel: &'a KernelLinks,
    pub(super) source: &'a LinkSource,
    pub(super) selector: &'a DeviceSelector,
    pub(super) arrivals: Arrivals,
    pub(super) deadline: Duration,
    pub(super) binds: Semaphore,
    pub(super) record: Mutex<Record>,
    /// What is being done now, to be named when it comes to no end.
    pub(super) under_way: Mutex<Vec<(Part, String)>>,
    pub(super) on_event: &'a (dyn Fn(RestoreEvent) + Sync),
}

/// A step on sysfs or netlink that failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Vf(#[from] VfWriteError),
    #[error(transparent)]
    Write(#[from] DeadlineWriteError),
    #[error(transparent)]
    VfAttribute(#[from] nic_netlink::VfChangeError),
    #[error(transparent)]
    Netlink(#[from] nic_netlink::ChangeError),
    #[error(transparent)]
    Eswitch(#[from] nic_netlink::EswitchError),
    #[error(transparent)]
    Arrival(#[from] ArrivalError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error("this kernel has no devlink")]
    NoDevlink,
    #[error("there is no interface {0} to join")]
    NoMaster(LinkName),
    #[error("the PF has no netdev")]
    NoUplink,
    #[error(transparent)]
    Taken(crate::NameTaken),
    #[error("another interface has the name")]
    StillTaken,
    #[error("the restore had not finished when the {} s for the whole restore were over", .0.as_secs())]
    OutOfTime(Duration),
    #[error("the VF is gone")]
    Gone,
    #[error("the VF has no PCI address")]
    NoAddress,
}

impl StepError {
    fn errno(&self) -> Option<Errno> {
        match self {
            Self::Vf(VfWriteError::Write(error)) | Self::Write(error) => error.errno(),
            Self::Netlink(error) => error.errno(),
            Self::VfAttribute(error) => error.errno(),
            Self::Eswitch(error) => error.errno(),
            _ => None,
        }
    }
}

/// Something under way, until it is dropped.
struct UnderWay<'a> {
    list: &'a Mutex<Vec<(Part, String)>>,
    entry: (Part, String),
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = list.iter().position(|entry| *entry == self.entry) {
            list.swap_remove(at);
        }
    }
}

impl Work<'_> {
    fn under_way(&self, part: &Part, step: &dyn Step) -> UnderWay<'_> {
        let entry = (part.clone(), step.to_string());
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).push(entry.clone());
        UnderWay { list: &self.under_way, entry }
    }

    /// Names all that had begun and has not ended.
    pub(super) fn fail_what_is_under_way(&self, saved: &NicState, total: Duration) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if under_way.is_empty() {
            let pfs = saved.pfs.iter().map(|pf| Part::Pf(pf.address.clone()));
            under_way.extend(pfs.map(|part| (part, "restore".to_owned())));
        }
        for (part, step) in under_way {
            self.fail(&part, &Activity(&step), &StepError::OutOfTime(total));
        }
    }

    pub(super) async fn restore_pf(&self, saved: &PfState) {
        let part = Part::Pf(saved.address.clone());
        let Some(found) = self.look(saved).await else { return };
        let stage = self.begin(saved, Stage::Prepare);
        let steps = plan_prepare(saved, &found);
        if changes_mode_under_vfs(&steps) {
            self.unbind_for_mode(saved, &found).await;
        }
        for step in steps {
            self.pf_step(&part, &found, &step).await;
        }
        self.end(saved, stage);

        let Some(found) = self.look(saved).await else { return };
        let stage = self.begin(saved, Stage::Admin);
        for (vf, now) in self.vfs_at_hand(saved, &without_vfs_to_unbind(saved, &found)) {
            for change in plan_admin_before(vf, now).into_iter().chain(plan_rates_before(saved, vf, now)) {
                self.admin_step(saved, &found, vf, &change).await;
            }
            for step in plan_ofed(vf.ofed.as_ref(), now.ofed.as_ref()) {
                self.ofed_step(saved, vf, step).await;
            }
        }
        self.end(saved, stage);

        let Some(found) = self.change_eswitch(saved, found).await else { return };
        let stage = self.begin(saved, Stage::Vfs);
        if vfs_need_binding(saved, &found) && found.drivers_autoprobe == Some(false) {
            self.pf_step(&part, &found, &PfStep::Autoprobe(true)).await;
        }
        let vfs = self.vfs_at_hand(saved, &found);
        join_all(vfs.into_iter().map(|(vf, now)| self.restore_vf(saved, now, vf))).await;
        self.end(saved, stage);

        let Some(found) = self.look(saved).await else { return };
        let stage = self.begin(saved, Stage::Finish);
        let mut link_awaited = false;
        for (vf, now) in self.vfs_at_hand(saved, &found) {
            if let (true, VfNetdev::Here(netdev)) = (vf.netdev.is_elsewhere(), &now.netdev) {
                self.record().nameless.push((Part::of_vf(saved, vf), netdev.index));
            }
            for change in plan_admin_mac_again(vf, now).into_iter().chain(plan_admin_after(vf, now)) {
                if matches!(change, VfChange::Rate { .. }) && !std::mem::replace(&mut link_awaited, true) {
                    self.await_link(saved, &part).await;
                }
                self.admin_step(saved, &found, vf, &change).await;
            }
        }
        for step in plan_finish(saved, &found) {
            self.pf_step(&part, &found, &step).await;
        }
        self.end(saved, stage);
    }

    /// The saved VFs that exist and that nobody uses, each with what it is now. One that is in use is left alone; in another
    /// network namespace that is as it should be, and the comparison states it.
    fn vfs_at_hand<'s>(&self, saved: &'s PfState, found: &'s PfState) -> Vec<(&'s VfState, &'s VfState)> {
        let pairs = saved.vfs.iter().filter_map(|vf| Some((vf, found.vf(vf.index)?)));
        pairs
            .filter(|(_, now)| !now.is_in_use())
            .filter(|(vf, now)| {
                let (VfNetdev::OtherDriver, Some(address)) = (&now.netdev, now.address) else { return true };
                let Some(group) = vfio_group_in_use(self.host, address) else { return true };
                let part = Part::of_vf(saved, vf);
                let known = self.record().failures.iter().any(|failure| failure.part == part);
                if !known {
                    let error = StepError::Vf(VfWriteError::InUse { address, group });
                    self.fail(&part, &Activity("restore"), &error);
                }
                false
            })
            .collect()
    }

    /// Takes the drivers from the VFs that must not see the eswitch's mode change.
    async fn unbind_for_mode(&self, saved: &PfState, found: &PfState) {
        for vf in vfs_to_unbind(saved, found) {
            if let (Some(address), Some(driver)) = (vf.address, &vf.driver) {
                let unbound = sysfs::unbind(self.host, address, driver, self.deadline).await;
                self.note_step(
                    &Part::of_vf(saved, vf),
                    &BindStep::Unbind(driver.clone()),
                    unbound.map_err(StepError::from),
                );
            }
        }
    }

    /// The eswitch as saved, and its representors. Returns the PF as it is then.
    async fn change_eswitch(&self, saved: &PfState, mut found: PfState) -> Option<PfState> {
        let changes = !plan_eswitch(saved, &found).is_empty();
        if !changes && saved.representors.is_empty() {
            return Some(found);
        }
        let part = Part::Pf(saved.address.clone());
        let stage = self.begin(saved, Stage::Eswitch);
        self.unbind_for_mode(saved, &found).await;
        for step in plan_eswitch(saved, &found) {
            self.pf_step(&part, &found, &step).await;
        }
        if changes {
            found = self.look(saved).await?;
        }
        self.restore_representors(saved).await;
        self.end(saved, stage);
        Some(found)
    }

    async fn restore_representors(&self, saved: &PfState) {
        let ports: Vec<_> = saved.representors.iter().map(|representor| representor.port).collect();
        if ports.is_empty() {
            return;
        }
        let part = Part::Pf(saved.address.clone());
        let _under_way = self.under_way(&part, &Activity("wait for the representors"));
        let arrived = match self.arrivals.wait_ports(&saved.address, &ports, self.deadline).await {
            Ok(arrived) => arrived,
            Err(error) => {
                self.fail(&part, &Activity("wait for the representors"), &error.into());
                return;
            }
        };
        let links = match self.source.links().await {
            Ok(links) => links,
            Err(error) => {
                self.fail(&part, &Activity("read the links"), &error.into());
                return;
            }
        };
        for representor in &saved.representors {
            let part = Part::Representor { pf: saved.address.clone(), port: representor.port };
            let Some((_, arrival)) = arrived.iter().find(|(port, _)| *port == representor.port) else {
                let error = ArrivalError::Deadline { device: saved.address.clone(), after: self.deadline };
                self.fail(&part, &Activity("wait for its netdev"), &error.into());
                continue;
            };
            let found = NetdevState::of(&arrival.link, &links);
            let steps = plan_netdev(&representor.netdev_for(&found), &found);
            self.netdev_steps(&part, found.index, steps).await;
        }
    }

    async fn await_link(&self, saved: &PfState, part: &Part) {
        match self.arrivals.wait_running(&saved.address, LINK_PATIENCE).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(%part, "the PF's link has not come up; rates may be refused"),
            Err(error) => self.fail(part, &Activity("wait for the link"), &error.into()),
        }
    }

    async fn restore_vf(&self, pf: &PfState, found: &VfState, saved: &VfState) {
        let mut note = VfNote {
            part: Part::of_vf(pf, saved),
            first_seen_as: None,
            waited: None,
            steps: 0,
            retried: false,
        };
        let _under_way = self.under_way(&note.part, &BIND_AND_WAIT);
        let mut result = self.bind_and_await(saved, plan_binding(saved, found), &mut note).await;
        // Bound and yet without a netdev, or a probe that failed: a second probe is what can help.
        if let (Err(error), Some(driver)) = (&result, &saved.driver)
            && !matches!(error, StepError::Vf(VfWriteError::NotVf(_) | VfWriteError::InUse { .. }))
        {
            tracing::warn!(vf = %note.part, error = error_chain(error), "binding it once more");
            note.retried = true;
            result = self.rebind(pf, saved, driver, &mut note).await;
        }
        let failure = match result {
            Ok(Some(arrival)) => {
                note.first_seen_as.clone_from(&arrival.first_seen_as);
                note.waited = Some(arrival.waited);
                (self.on_event)(RestoreEvent::VfArrived {
                    part: note.part.clone(),
                    name: arrival.link.name.clone(),
                    first_seen_as: arrival.first_seen_as.clone(),
                });
                if !arrival.udev_finished {
                    tracing::warn!(vf = %note.part, "udev has not finished with its netdev in time");
                }
                self.restore_netdev(saved, &arrival, &mut note).await;
                None
            }
            Ok(None) => None,
            Err(error) => {
                let cause = error_chain(&error);
                self.fail(&note.part, &BIND_AND_WAIT, &error);
                Some(cause)
            }
        };
        (self.on_event)(RestoreEvent::VfDone { part: note.part.clone(), steps: note.steps, failure });
        self.record().vfs.push(note);
    }

    /// Gives the VF its driver, and waits for its netdev where it had one.
    async fn bind_and_await(
        &self,
        saved: &VfState,
        steps: Vec<BindStep>,
        note: &mut VfNote,
    ) -> Result<Option<Arrival>, StepError> {
        // A netdev that was in another namespace comes back in this one, with the binding.
        let comes_here =
            saved.netdev.is_elsewhere() && steps.iter().any(|step| matches!(step, BindStep::Bind(_)));
        for step in steps {
            self.bind_step(saved, &step, note).await?;
        }
        match saved.address {
            Some(address) if comes_here || saved.netdev.here().is_some() => {
                Ok(Some(self.arrivals.wait(&DeviceAddress::from(address), self.deadline).await?))
            }
            Some(_) | None => Ok(None),
        }
    }

    async fn rebind(
        &self,
        pf: &PfState,
        saved: &VfState,
        driver: &str,
        note: &mut VfNote,
    ) -> Result<Option<Arrival>, StepError> {
        let address = std::slice::from_ref(&pf.address);
        let now = observe_within(self.host, self.source, self.selector, address, self.deadline).await?;
        let found = now.pf(&pf.address).and_then(|pf| pf.vf(saved.index)).ok_or(StepError::Gone)?;
        let mut steps = plan_binding(saved, found);
        if !steps.iter().any(|step| matches!(step, BindStep::Bind(_))) {
            steps = vec![BindStep::Unbind(driver.to_owned()), BindStep::Bind(driver.to_owned())];
        }
        self.bind_and_await(saved, steps, note).await
    }

    async fn bind_step(&self, saved: &VfState, step: &BindStep, note: &mut VfNote) -> Result<(), StepError> {
        let address = saved.address.ok_or(StepError::NoAddress)?;
        // The semaphore is never closed, so an error here cannot come; without a permit the step is still right.
        let _permit = self.binds.acquire().await.ok();
        match step {
            BindStep::Unbind(driver) => sysfs::unbind(self.host, address, driver, self.deadline).await?,
            BindStep::Override(driver) => {
                sysfs::set_driver_override(self.host, address, driver.as_deref(), self.deadline).await?;
            }
            BindStep::Bind(driver) => {
                sysfs::bind(self.host, address, driver, self.deadline).await?;
                (self.on_event)(RestoreEvent::VfBound { part: note.part.clone() });
            }
        }
        note.steps += 1;
        self.record().steps += 1;
        Ok(())
    }

    async fn restore_netdev(&self, saved: &VfState, arrival: &Arrival, note: &mut VfNote) {
        let VfNetdev::Here(wanted) = &saved.netdev else { return };
        let links = match (&arrival.link.master, self.source.links().await) {
            (None, _) => Links::default(),
            (Some(_), Ok(links)) => links,
            (Some(_), Err(error)) => {
                self.fail(&note.part, &Activity("read the links"), &StepError::Observe(error));
                return;
            }
        };
        let found = NetdevState::of(&arrival.link, &links);
        note.steps += self.netdev_steps(&note.part, found.index, plan_netdev(wanted, &found)).await;
    }

    /// Carries out steps on a netdev; returns how many succeeded.
    async fn netdev_steps(&self, part: &Part, index: IfIndex, steps: Vec<NetdevStep>) -> usize {
        let mut done = 0;
        for step in steps {
            let _under_way = self.under_way(part, &step);
            match self.netdev_step(index, &step).await {
                Ok(()) => done += 1,
                Err(error) if error.errno() == Some(Errno::EXIST) && gives_name(&step) => {
                    self.record().contested.push(Contested { part: part.clone(), index, step });
                }
                Err(error) => self.fail(part, &step, &error),
            }
        }
        self.record().steps += done;
        done
    }

    async fn netdev_step(&self, index: IfIndex, step: &NetdevStep) -> Result<(), StepError> {
        let change = match step {
            NetdevStep::Link(change) => change.clone(),
            NetdevStep::Master(None) => LinkChange::Master(None),
            NetdevStep::Master(Some(name)) => {
                let links = self.source.links().await?;
                let master = links.by_name(name.as_str()).ok_or_else(|| StepError::NoMaster(name.clone()))?;
                LinkChange::Master(Some(master.index))
            }
        };
        Ok(self.kernel.netlink.change(index, &change).await?)
    }

    async fn pf_step(&self, part: &Part, found: &PfState, step: &PfStep) {
        (self.on_event)(RestoreEvent::PfStepBegan { pf: found.address.clone(), step: step.to_string() });
        let under_way = self.under_way(part, step);
        self.try_pf_step(part, found, step).await;
        drop(under_way);
        (self.on_event)(RestoreEvent::PfStep { pf: found.address.clone(), step: step.to_string() });
    }

    async fn try_pf_step(&self, part: &Part, found: &PfState, step: &PfStep) {
        let result = match step {
            PfStep::Netdev(step) => match &found.netdev {
                Some(netdev) => {
                    self.netdev_steps(part, netdev.index, vec![step.clone()]).await;
                    return;
                }
                None => Err(StepError::NoUplink),
            },
            PfStep::Autoprobe(on) => sysfs::set_autoprobe(self.host, &found.address, *on, self.deadline)
                .await
                .map_err(StepError::from),
            PfStep::NumVfs(count) => sysfs::set_num_vfs(self.host, &found.address, *count, self.deadline)
                .await
                .map_err(StepError::from),
            PfStep::Eswitch(change) => match &self.kernel.devlink {
                None => Err(StepError::NoDevlink),
                Some(devlink) => devlink
                    .set_eswitch(&devlink_handle(&found.address), *change, self.deadline)
                    .await
                    .map_err(StepError::from),
            },
        };
        self.note_step(part, step, result);
    }

    async fn admin_step(&self, pf: &PfState, found: &PfState, vf: &VfState, change: &VfChange) {
        let part = Part::of_vf(pf, vf);
        let _under_way = self.under_way(&part, change);
        let result = match &found.netdev {
            None => Err(StepError::NoUplink),
            Some(uplink) => {
                self.kernel.netlink.change_vf(uplink.index, vf.index, change).await.map_err(StepError::from)
            }
        };
        match result {
            Err(error) if is_refused_by_mode(found, change) => self.fail_as(&part, change, &error, false),
            result => self.note_step(&part, change, result),
        }
    }

    async fn ofed_step(&self, pf: &PfState, vf: &VfState, step: OfedStep) {
        let result = ofed::apply(self.host, &pf.address, vf.index, step, self.deadline).await;
        self.note_step(&Part::of_vf(pf, vf), &step, result.map_err(StepError::from));
    }

    fn note_step(&self, part: &Part, step: &dyn Step, result: Result<(), StepError>) {
        match result {
            Ok(()) => self.record().steps += 1,
            Err(error) => self.fail(part, step, &error),
        }
    }

    /// Names that another interface held when they were to be given. By now every interface is there.
    ///
    /// It may take several rounds: when an interface steps aside, udev gives it its old name back as an alternative
    /// one (systemd's `src/udev/net/link-config.c`, `link_apply_config`), which then holds the name once more.
    pub(super) async fn give_contested_names(&self, saved: &NicState) {
        for _ in 0..NAMING_ROUNDS {
            let contested = std::mem::take(&mut self.record().contested);
            if contested.is_empty() {
                return;
            }
            if let Err(error) = self.contested_round(saved, &contested).await {
                for entry in &contested {
                    self.fail(&entry.part, &entry.step, &error);
                }
                return;
            }
        }
        // Not in the loop's head, where the lock would be held while the failures are recorded.
        let contested = std::mem::take(&mut self.record().contested);
        for entry in contested {
            self.fail(&entry.part, &entry.step, &StepError::StillTaken);
        }
    }

    async fn contested_round(&self, saved: &NicState, contested: &[Contested]) -> Result<(), StepError> {
        let links = self.source.links().await?;
        let in_the_way = altnames_in_the_way(saved, contested, &links);
        for (holder, altname) in &in_the_way {
            let change = LinkChange::RemoveAltName(altname.clone());
            if let Err(error) = self.kernel.netlink.change(*holder, &change).await {
                tracing::debug!(%holder, altname, error = error_chain(&error), "an alternative name stays");
            }
        }
        let links = if in_the_way.is_empty() { links } else { self.source.links().await? };
        let nameless = std::mem::take(&mut self.record().nameless);
        let plan = plan_contested(contested, &nameless, &links);
        for (entry, taken) in plan.taken {
            self.fail(&entry.part, &entry.step, &StepError::Taken(taken));
        }
        for Contested { part, index, step } in plan.steps {
            self.netdev_steps(&part, index, vec![step]).await;
        }
        Ok(())
    }

    async fn look(&self, saved: &PfState) -> Option<PfState> {
        let address = std::slice::from_ref(&saved.address);
        let part = Part::Pf(saved.address.clone());
        let _under_way = self.under_way(&part, &Activity("observe"));
        match observe_within(self.host, self.source, self.selector, address, self.deadline).await {
            Ok(mut state) => state.pfs.pop(),
            Err(error) => {
                self.fail(&part, &Activity("observe"), &StepError::Observe(error));
                None
            }
        }
    }

    fn begin(&self, pf: &PfState, stage: Stage) -> (Stage, Instant) {
        (self.on_event)(RestoreEvent::StageBegan { pf: pf.address.clone(), stage });
        (stage, Instant::now())
    }

    fn end(&self, pf: &PfState, (stage, began): (Stage, Instant)) {
        tracing::debug!(pf = %pf.address, ?stage, took = ?began.elapsed(), "stage ended");
        (self.on_event)(RestoreEvent::StageEnded { pf: pf.address.clone(), stage });
    }

    fn fail(&self, part: &Part, step: &dyn Step, error: &StepError) {
        self.fail_as(part, step, error, error.errno() == Some(Errno::OPNOTSUPP));
    }

    fn fail_as(&self, part: &Part, step: &dyn Step, error: &StepError, unsupported: bool) {
        let cause = error_chain(error);
        tracing::warn!(%part, %step, cause, "step failed");
        self.record().failures.push(StepFailure {
            part: part.clone(),
            step: step.to_string(),
            attributes: step.attributes().to_vec(),
            cause,
            unsupported,
        });
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Alternative names that keep a wanted name from being given, and are none of the snapshot's: a name was there once
/// only, so that an interface of the snapshot that has it now got it since.
fn altnames_in_the_way(saved: &NicState, contested: &[Contested], links: &Links) -> Vec<(IfIndex, String)> {
    let restored = |link: &Link| {
        saved.pfs.iter().any(|pf| {
            let is_parent = |name: &str| link.parent_device.as_deref() == Some(name);
            let vfs = pf.vfs.iter().filter_map(|vf| vf.address);
            is_parent(pf.address.name()) || vfs.into_iter().any(|vf| is_parent(&vf.to_string()))
        })
    };
    let held = |name: &LinkName| {
        links.iter().filter(|link| restored(link)).find_map(|link| {
            let altname = link.altnames.iter().find(|altname| *altname == name.as_str())?;
            Some((link.index, altname.clone()))
        })
    };
    let names = contested.iter().filter_map(|entry| match &entry.step {
        NetdevStep::Link(LinkChange::Name(name)) => Some(name),
        NetdevStep::Link(_) | NetdevStep::Master(_) => None,
    });
    names.filter_map(held).collect()
}

/// Whether the step gives a name, which another interface may have.
fn gives_name(step: &NetdevStep) -> bool {
    matches!(step, NetdevStep::Link(LinkChange::Name(_) | LinkChange::AddAltName(_)))
}
