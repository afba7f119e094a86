//! Carrying out a restore: stage by stage, PFs and VFs concurrently, verified at the end.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nic_host::{DeadlineWriteError, Host};
use nic_netlink::{IfIndex, LinkChange, LinkName};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::arrivals::{Arrival, ArrivalError, Arrivals};
use crate::names::plan_names;
use crate::observe::{KernelLinks, LinkSource, observe};
use crate::plan::{
    BindStep, NetdevStep, PfStep, RestoreObstacle, obstacles, plan_admin_after, plan_admin_before,
    plan_binding, plan_finish, plan_netdev, plan_prepare, vfs_need_binding,
};
use crate::sysfs::{self, VfWriteError};
use crate::{
    DeviceAddress, DeviceSelector, Difference, Gravity, NetdevState, NicState, ObserveError, Part,
    PciAddress, PfState, VfNetdev, VfState, compare,
};

/// How a restore goes about its work.
#[derive(Debug, Clone, Copy)]
pub struct RestoreOptions {
    /// How many VFs are bound at the same time.
    pub jobs: usize,
    /// What one operation may take, on a NIC with a single VF.
    pub base_deadline: Duration,
    /// What each VF of the machine adds to that.
    pub deadline_per_vf: Duration,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self { jobs: 64, base_deadline: Duration::from_secs(60), deadline_per_vf: Duration::from_secs(2) }
    }
}

impl RestoreOptions {
    /// The deadline of one operation on a machine with `vfs` VFs.
    #[must_use]
    pub fn deadline(&self, vfs: usize) -> Duration {
        self.base_deadline + self.deadline_per_vf * u32::try_from(vfs).unwrap_or(u32::MAX)
    }
}

/// A restore that was not begun: nothing has been changed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot does not fit the machine.
    #[error("the snapshot cannot be restored on this machine: {}", list(.0))]
    Obstacles(Vec<RestoreObstacle>),
    /// The machine could not be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The events could not be listened to.
    #[error(transparent)]
    Listen(#[from] ArrivalError),
}

fn list(obstacles: &[RestoreObstacle]) -> String {
    obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What happens during a restore, as it happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RestoreEvent {
    /// A stage of a PF begins.
    StageBegan {
        /// The PF.
        pf: DeviceAddress,
        /// The stage.
        stage: Stage,
    },
    /// A stage of a PF has ended.
    StageEnded {
        /// The PF.
        pf: DeviceAddress,
        /// The stage.
        stage: Stage,
    },
    /// A VF's driver has been bound.
    VfBound {
        /// The VF.
        part: Part,
    },
    /// A VF's netdev has come and has its final name.
    VfArrived {
        /// The VF.
        part: Part,
        /// Its name.
        name: LinkName,
        /// The name it was first seen under, when that was another.
        first_seen_as: Option<String>,
    },
    /// All that could be done for a VF has been done.
    VfDone {
        /// The VF.
        part: Part,
        /// How many steps it took.
        steps: usize,
        /// What went wrong.
        failure: Option<String>,
    },
}

/// The stages of a PF's restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The PF's own properties, and its VFs created without drivers.
    Prepare,
    /// What the PF holds for its VFs.
    Admin,
    /// Binding, waiting for netdevs, and the netdevs' own properties.
    Vfs,
    /// Autoprobe and the PF's netdev as saved.
    Finish,
}

/// A step that failed. Whether that matters is for the verification to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailure {
    /// What it was for.
    pub part: Part,
    /// The step.
    pub step: String,
    /// The error and its causes.
    pub cause: String,
    /// Whether the driver says that it has no such attribute (EOPNOTSUPP).
    pub unsupported: bool,
}

/// How one VF fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfOutcome {
    /// Which VF.
    pub part: Part,
    /// Its netdev's name at the end, where it has one.
    pub name: Option<LinkName>,
    /// The name its netdev was first seen under, when that was another.
    pub first_seen_as: Option<String>,
    /// How long its netdev was waited for, in milliseconds.
    pub waited_ms: Option<u64>,
    /// How many steps it took; 0 when it already was what it was.
    pub steps: usize,
    /// Whether it had to be bound a second time.
    pub retried: bool,
    /// Whether it now is what the snapshot says.
    pub verified: bool,
}

/// What came of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreOutcome {
    /// How many changes were made to the machine.
    pub steps: usize,
    /// Each VF.
    pub vfs: Vec<VfOutcome>,
    /// Steps that failed.
    pub failures: Vec<StepFailure>,
    /// What is different from the snapshot now.
    pub differences: Vec<Difference>,
}

impl RestoreOutcome {
    /// Whether the machine was read back and equals the snapshot, but for what cannot be equal.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        !self.differences.iter().any(|difference| difference.gravity == Gravity::Wrong)
    }

    /// How many VFs were first seen under another name than the one udev gave them in the end.
    #[must_use]
    pub fn renamed_after_arrival(&self) -> usize {
        self.vfs.iter().filter(|vf| vf.first_seen_as.is_some()).count()
    }
}

/// Gives the NICs back what `saved` says, as far as they differ from it, and verifies.
///
/// Returns an error only when nothing was changed. One VF's failure is one VF's failure: it is in the outcome.
pub async fn restore(
    host: &Host,
    kernel: &KernelLinks,
    selector: &DeviceSelector,
    saved: &NicState,
    options: RestoreOptions,
    on_event: &(dyn Fn(RestoreEvent) + Sync),
) -> Result<RestoreOutcome, RestoreError> {
    let source = LinkSource::Kernel(kernel.clone());
    let pfs: Vec<DeviceAddress> = saved.pfs.iter().map(|pf| pf.address.clone()).collect();
    let found = observe(host, &source, selector, &pfs).await?;
    let obstacles = obstacles(saved, &found);
    if !obstacles.is_empty() {
        return Err(RestoreError::Obstacles(obstacles));
    }
    if !compare(saved, &found).iter().any(|difference| difference.gravity == Gravity::Wrong) {
        return Ok(outcome(saved, compare(saved, &found), Record::default()));
    }
    let work = Work {
        host,
        kernel,
        source: &source,
        selector,
        arrivals: Arrivals::listen(host, kernel).await?,
        deadline: options.deadline(saved.vf_count()),
        binds: Semaphore::new(options.jobs.max(1)),
        record: Mutex::default(),
        on_event,
    };
    join_all(saved.pfs.iter().map(|pf| work.restore_pf(pf))).await;
    work.give_contested_names().await;
    let found = observe(host, &source, selector, &pfs).await;
    let record = work.record.into_inner().unwrap_or_else(PoisonError::into_inner);
    let differences = match found {
        Ok(found) => {
            let mut differences = compare(saved, &found);
            weigh(&mut differences, &record.failures);
            differences
        }
        // Not knowing is not the same as equal.
        Err(error) => saved.pfs.iter().map(|pf| unreadable(pf, &error)).collect(),
    };
    Ok(outcome(saved, differences, record))
}

fn unreadable(pf: &PfState, error: &ObserveError) -> Difference {
    Difference {
        part: Part::Pf(pf.address.clone()),
        attribute: "state".to_owned(),
        saved: "known".to_owned(),
        found: format!("unknown: {}", chain(error)),
        gravity: Gravity::Wrong,
    }
}

/// A difference whose step the driver refused with "not supported" is what the driver lacks, not what went wrong.
fn weigh(differences: &mut [Difference], failures: &[StepFailure]) {
    for difference in differences {
        let attribute = difference.attribute.rsplit('.').next().unwrap_or_default();
        let refused = failures.iter().any(|failure| {
            failure.unsupported
                && failure.part == difference.part
                && failure.step.starts_with(step_word(attribute))
        });
        if refused && difference.gravity == Gravity::Wrong {
            difference.gravity = Gravity::Unsupported;
        }
    }
}

/// The word with which a step on this attribute begins.
fn step_word(attribute: &str) -> &str {
    match attribute {
        "min_tx_rate" | "max_tx_rate" => "min_tx_rate",
        "spoof_check" => "spoofchk",
        "link_state" => "state",
        other => other,
    }
}

fn outcome(saved: &NicState, differences: Vec<Difference>, record: Record) -> RestoreOutcome {
    let vfs = saved.pfs.iter().flat_map(|pf| pf.vfs.iter().map(move |vf| (pf, vf)));
    let vfs = vfs.map(|(pf, vf)| {
        let part = Part::of_vf(pf, vf);
        let whole_pf_wrong = |d: &Difference| {
            d.part == Part::Pf(pf.address.clone()) && matches!(d.attribute.as_str(), "presence" | "state")
        };
        let wrong =
            differences.iter().any(|d| d.gravity == Gravity::Wrong && (d.part == part || whole_pf_wrong(d)));
        let note = record.vfs.iter().find(|note| note.part == part);
        VfOutcome {
            name: vf.netdev.here().map(|netdev| netdev.name.clone()),
            first_seen_as: note.and_then(|note| note.first_seen_as.clone()),
            waited_ms: note
                .and_then(|note| note.waited)
                .map(|waited| u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)),
            steps: note.map_or(0, |note| note.steps),
            retried: note.is_some_and(|note| note.retried),
            verified: !wrong,
            part,
        }
    });
    RestoreOutcome { vfs: vfs.collect(), steps: record.steps, failures: record.failures, differences }
}

#[derive(Debug, Default)]
struct Record {
    steps: usize,
    failures: Vec<StepFailure>,
    vfs: Vec<VfNote>,
    contested: Vec<Contested>,
}

#[derive(Debug)]
struct VfNote {
    part: Part,
    first_seen_as: Option<String>,
    waited: Option<Duration>,
    steps: usize,
    retried: bool,
}

/// A name that was held by another interface when it was to be given.
#[derive(Debug, Clone)]
struct Contested {
    part: Part,
    index: IfIndex,
    name: LinkName,
    up: bool,
}

struct Work<'a> {
    host: &'a Host,
    kernel: &'a KernelLinks,
    source: &'a LinkSource,
    selector: &'a DeviceSelector,
    arrivals: Arrivals,
    deadline: Duration,
    binds: Semaphore,
    record: Mutex<Record>,
    on_event: &'a (dyn Fn(RestoreEvent) + Sync),
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

impl Work<'_> {
    async fn restore_pf(&self, saved: &PfState) {
        let part = Part::Pf(saved.address.clone());
        let Some(found) = self.look(saved).await else { return };
        let stage = self.begin(saved, Stage::Prepare);
        for step in plan_prepare(saved, &found) {
            // Without its VFs there is nothing further to do for this PF but to finish it.
            self.pf_step(&part, &found, &step).await;
        }
        self.end(saved, stage);

        let Some(found) = self.look(saved).await else { return };
        let stage = self.begin(saved, Stage::Admin);
        for (vf, now) in saved.vfs.iter().filter_map(|vf| Some((vf, found.vf(vf.index)?))) {
            for change in plan_admin_before(vf, now) {
                self.admin_step(saved, &found, vf, &change).await;
            }
        }
        self.end(saved, stage);

        let stage = self.begin(saved, Stage::Vfs);
        if vfs_need_binding(saved, &found) && found.drivers_autoprobe == Some(false) {
            self.pf_step(&part, &found, &PfStep::Autoprobe(true)).await;
        }
        join_all(saved.vfs.iter().map(|vf| self.restore_vf(saved, &found, vf))).await;
        self.end(saved, stage);

        let Some(found) = self.look(saved).await else { return };
        let stage = self.begin(saved, Stage::Finish);
        for (vf, now) in saved.vfs.iter().filter_map(|vf| Some((vf, found.vf(vf.index)?))) {
            for change in plan_admin_after(vf, now) {
                self.admin_step(saved, &found, vf, &change).await;
            }
        }
        for step in plan_finish(saved, &found) {
            self.pf_step(&part, &found, &step).await;
        }
        self.end(saved, stage);
    }

    async fn restore_vf(&self, pf: &PfState, pf_found: &PfState, saved: &VfState) {
        let Some(found) = pf_found.vf(saved.index) else { return };
        let mut note = VfNote {
            part: Part::of_vf(pf, saved),
            first_seen_as: None,
            waited: None,
            steps: 0,
            retried: false,
        };
        let mut result = self.bind_and_await(saved, found, &mut note).await;
        // Bound and yet without a netdev, or a probe that failed: a second probe is what can help.
        if let (Err(error), Some(address), Some(driver)) = (&result, saved.address, &saved.driver) {
            tracing::warn!(vf = %note.part, error = %chain(error), "binding it once more");
            note.retried = true;
            result = self.rebind(address, driver, saved, &mut note).await;
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
                let cause = chain(&error);
                self.fail(&note.part, "bind and wait for the netdev".to_owned(), &error);
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
        found: &VfState,
        note: &mut VfNote,
    ) -> Result<Option<Arrival>, StepError> {
        for step in plan_binding(saved, found) {
            self.bind_step(saved, &step, note).await?;
        }
        self.await_netdev(saved).await
    }

    async fn rebind(
        &self,
        address: PciAddress,
        driver: &str,
        saved: &VfState,
        note: &mut VfNote,
    ) -> Result<Option<Arrival>, StepError> {
        let device = DeviceAddress::from(address);
        let bound = self.host.link_name(format!("{}/driver", device.sysfs())).map_err(ObserveError::Read)?;
        if let Some(bound) = bound {
            self.bind_step(saved, &BindStep::Unbind(bound), note).await?;
        }
        self.bind_step(saved, &BindStep::Bind(driver.to_owned()), note).await?;
        self.await_netdev(saved).await
    }

    async fn await_netdev(&self, saved: &VfState) -> Result<Option<Arrival>, StepError> {
        let had_netdev = matches!(saved.netdev, VfNetdev::Here(_));
        match saved.address {
            Some(address) if had_netdev => {
                Ok(Some(self.arrivals.wait(&DeviceAddress::from(address), self.deadline).await?))
            }
            Some(_) | None => Ok(None),
        }
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
            (None, _) => nic_netlink::Links::default(),
            (Some(_), Ok(links)) => links,
            (Some(_), Err(error)) => {
                self.fail(&note.part, "read the links".to_owned(), &StepError::Observe(error));
                return;
            }
        };
        let found = NetdevState::of(&arrival.link, &links);
        note.steps +=
            self.netdev_steps(&note.part, found.index, wanted.up, plan_netdev(wanted, &found)).await;
    }

    /// Carries out steps on a netdev; returns how many succeeded.
    async fn netdev_steps(&self, part: &Part, index: IfIndex, up: bool, steps: Vec<NetdevStep>) -> usize {
        let mut done = 0;
        for step in steps {
            match self.netdev_step(index, &step).await {
                Ok(()) => done += 1,
                Err(error) if error.errno() == Some(Errno::EXIST) => {
                    let NetdevStep::Link(LinkChange::Name(name)) = step else {
                        self.fail(part, step.to_string(), &error);
                        continue;
                    };
                    self.record().contested.push(Contested { part: part.clone(), index, name, up });
                }
                Err(error) => self.fail(part, step.to_string(), &error),
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
        let result = match step {
            PfStep::Netdev(step) => match &found.netdev {
                Some(netdev) => {
                    self.netdev_steps(part, netdev.index, netdev.up, vec![step.clone()]).await;
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
                    .set_eswitch(&crate::observe::devlink_handle(&found.address), *change, self.deadline)
                    .await
                    .map_err(StepError::from),
            },
        };
        match result {
            Ok(()) => self.record().steps += 1,
            Err(error) => self.fail(part, step.to_string(), &error),
        }
    }

    async fn admin_step(&self, pf: &PfState, found: &PfState, vf: &VfState, change: &nic_netlink::VfChange) {
        let part = Part::of_vf(pf, vf);
        let result = match &found.netdev {
            None => Err(StepError::NoUplink),
            Some(uplink) => {
                self.kernel.netlink.change_vf(uplink.index, vf.index, change).await.map_err(StepError::from)
            }
        };
        match result {
            Ok(()) => self.record().steps += 1,
            Err(error) => self.fail(&part, change.to_string(), &error),
        }
    }

    /// Names that another interface held when they were to be given. By now every interface is there.
    async fn give_contested_names(&self) {
        let contested = std::mem::take(&mut self.record().contested);
        if contested.is_empty() {
            return;
        }
        let links = match self.source.links().await {
            Ok(links) => links,
            Err(error) => {
                let error = StepError::Observe(error);
                for entry in &contested {
                    self.fail(&entry.part, format!("name {}", entry.name), &error);
                }
                return;
            }
        };
        let wanted: Vec<(IfIndex, LinkName)> =
            contested.iter().map(|entry| (entry.index, entry.name.clone())).collect();
        let (renames, taken) = plan_names(&wanted, &links);
        let part_of = |index: IfIndex| contested.iter().find(|entry| entry.index == index);
        for taken in taken {
            if let Some(entry) = part_of(taken.index) {
                self.record().failures.push(StepFailure {
                    part: entry.part.clone(),
                    step: format!("name {}", taken.name),
                    cause: taken.to_string(),
                    unsupported: false,
                });
            }
        }
        for rename in renames {
            let Some(entry) = part_of(rename.index) else { continue };
            let mut steps =
                vec![NetdevStep::Link(LinkChange::Up(false)), NetdevStep::Link(LinkChange::Name(rename.to))];
            if entry.up {
                steps.push(NetdevStep::Link(LinkChange::Up(true)));
            }
            self.netdev_steps(&entry.part, rename.index, entry.up, steps).await;
        }
        for entry in std::mem::take(&mut self.record().contested) {
            self.record().failures.push(StepFailure {
                part: entry.part,
                step: format!("name {}", entry.name),
                cause: "another interface took the name meanwhile".to_owned(),
                unsupported: false,
            });
        }
    }

    async fn look(&self, saved: &PfState) -> Option<PfState> {
        let address = std::slice::from_ref(&saved.address);
        match observe(self.host, self.source, self.selector, address).await {
            Ok(mut state) => state.pfs.pop(),
            Err(error) => {
                self.fail(&Part::Pf(saved.address.clone()), "observe".to_owned(), &StepError::Observe(error));
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

    fn fail(&self, part: &Part, step: String, error: &StepError) {
        let cause = chain(error);
        let unsupported = error.errno() == Some(Errno::OPNOTSUPP);
        tracing::warn!(%part, step, cause, "step failed");
        self.record().failures.push(StepFailure { part: part.clone(), step, cause, unsupported });
    }

    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
