//! The model in the running machine's place: each question and each change waits for its turn, and time is what the clock here says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nic_host::{DeadlineWriteError, LookError, WriteError};
use nic_netlink::{
    ChangeError, EswitchChange, IfIndex, LinkChange, Links, PhysPortName, RdmaError, RequestError, Setting,
    VfChange, VfChangeError,
};
use rustix::io::Errno;

use super::kernel::{Attempt, Event, Hang, Kernel};
use crate::DeviceUser;
use crate::machine::{Machine, MachineError};
use crate::plan::{BindStep, PfStep};
use crate::sysfs::VfWriteError;
use crate::{
    Arrival, ArrivalError, DeviceAddress, ObserveError, OfedStep, Operation, Patience, PciAddress, PfState,
    RestoreEvent, Usage,
};

/// A model, on which one restore runs.
pub(super) struct World(Mutex<Inner>);

struct Inner {
    kernel: Kernel,
    listens: bool,
    now: Duration,
    patience: Patience,
    turns: BTreeMap<usize, Turn>,
    next: usize,
}

/// Somebody who waits to go on.
struct Turn {
    until: Until,
    granted: bool,
    waker: Option<Waker>,
}

/// What is waited for.
#[derive(Debug, Clone)]
enum Until {
    /// Only for others to go first.
    Now,
    /// A netdev that udev is done with, or this time.
    Netdev(DeviceAddress, Duration),
    /// Ports with netdevs that udev is done with, or this time.
    Ports(DeviceAddress, Vec<PhysPortName>, Duration),
    /// A netdev that can pass traffic, or this time.
    Link(DeviceAddress, Duration),
    /// This time.
    Time(Duration),
    /// Nothing that comes.
    Never,
}

impl Inner {
    fn is_due(&self, until: &Until) -> bool {
        let is_done = |netdev: Option<(IfIndex, bool)>| netdev.is_some_and(|(_, done)| done);
        match until {
            Until::Now => true,
            Until::Netdev(device, end) => self.now >= *end || is_done(self.kernel.netdev_of(device)),
            Until::Ports(pf, ports, end) => {
                self.now >= *end || ports.iter().all(|port| is_done(self.kernel.netdev_of_port(pf, *port)))
            }
            Until::Link(pf, end) => {
                let link = self.kernel.netdev_of(pf);
                self.now >= *end
                    || link.is_some_and(|(index, _)| self.kernel.links().get(index).unwrap().running)
            }
            Until::Time(end) => self.now >= *end,
            Until::Never => false,
        }
    }

    fn arrival(&self, netdev: Option<(IfIndex, bool)>, began: Duration) -> Option<Arrival> {
        let (index, udev_finished) = netdev?;
        let link = self.kernel.links().get(index).unwrap().clone();
        let first_seen_as = self.kernel.first_name(&link);
        Some(Arrival { link, first_seen_as, waited: self.now - began, udev_finished })
    }
}

/// Is ready when the turn has been granted.
struct Granted<'a> {
    world: &'a World,
    turn: usize,
}

impl Future for Granted<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.world.lock();
        let turn = inner.turns.get_mut(&self.turn).unwrap();
        if turn.granted {
            return Poll::Ready(());
        }
        turn.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Whoever is no longer waited for waits no longer.
impl Drop for Granted<'_> {
    fn drop(&mut self) {
        self.world.lock().turns.remove(&self.turn);
    }
}

impl World {
    /// A world that is so patient with single questions and changes.
    pub(super) fn new(kernel: Kernel, patience: Patience) -> Self {
        let (now, turns) = (Duration::ZERO, BTreeMap::new());
        Self(Mutex::new(Inner { kernel, listens: false, now, patience, turns, next: 0 }))
    }

    /// What has become of the model, and what time it is.
    pub(super) fn end(self) -> (Kernel, Duration) {
        let inner = self.0.into_inner().unwrap();
        assert!(inner.turns.is_empty(), "somebody still waits");
        (inner.kernel, inner.now)
    }

    /// Notes what a restore tells. Returns what time it is.
    pub(super) fn note_event(&self, event: &RestoreEvent) -> Duration {
        let mut inner = self.lock();
        inner.kernel.note_event(event);
        inner.now
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one go on, or one thing happen: the one that `pick` picks of so many. When nobody can and nothing does, time passes.
    pub(super) fn go_on(&self, pick: impl FnOnce(usize) -> usize) {
        enum Next {
            Turn(usize),
            Event(Event),
        }
        let mut inner = self.lock();
        loop {
            let turns = inner.turns.iter().filter(|(_, turn)| inner.is_due(&turn.until));
            let turns = turns.map(|(id, _)| Next::Turn(*id));
            let mut next: Vec<Next> =
                turns.chain(inner.kernel.events().into_iter().map(Next::Event)).collect();
            if next.is_empty() {
                let ends = inner.turns.values().filter_map(|turn| match &turn.until {
                    Until::Netdev(_, end)
                    | Until::Ports(_, _, end)
                    | Until::Link(_, end)
                    | Until::Time(end) => Some(*end),
                    Until::Now | Until::Never => None,
                });
                inner.now = ends.min().expect("everybody waits for something that never comes");
                continue;
            }
            match next.swap_remove(pick(next.len())) {
                Next::Event(event) => inner.kernel.happen(event),
                Next::Turn(id) => {
                    let turn = inner.turns.get_mut(&id).unwrap();
                    turn.granted = true;
                    turn.waker.take().expect("a turn that nobody polls").wake();
                }
            }
            return;
        }
    }

    async fn turn(&self, until: Until) {
        let turn = {
            let mut inner = self.lock();
            inner.next += 1;
            let id = inner.next;
            inner.turns.insert(id, Turn { until, granted: false, waker: None });
            id
        };
        Granted { world: self, turn }.await;
    }

    /// Something that is asked.
    async fn ask<T>(&self, question: impl FnOnce(&mut Kernel) -> T) -> T {
        self.turn(Until::Now).await;
        question(&mut self.lock().kernel)
    }

    /// Something that is changed, of the PF that `whose` tells.
    async fn act(
        &self,
        operation: Operation,
        whose: impl FnOnce(&Kernel) -> Option<usize>,
        change: impl FnOnce(&mut Kernel) -> Attempt,
    ) -> Attempt {
        self.turn(Until::Now).await;
        let (hang, end) = {
            let mut inner = self.lock();
            if !inner.listens {
                inner.kernel.violations.push("a change before anybody listened".to_owned());
            }
            let pf = whose(&inner.kernel);
            (inner.kernel.hang(pf), inner.now + inner.patience.of(operation))
        };
        match hang {
            Some(Hang::ForEver) => self.turn(Until::Never).await,
            Some(Hang::ToItsDeadline) => {
                self.turn(Until::Time(end)).await;
                return Err(Errno::TIMEDOUT);
            }
            None => {}
        }
        change(&mut self.lock().kernel)
    }

    async fn set_pf(&self, pf: &DeviceAddress, step: PfStep) -> Result<(), MachineError> {
        let vfs = self.lock().kernel.state.pf(pf).here().map_or(0, |pf| pf.vfs.len());
        let operation = match &step {
            PfStep::NumVfs(count) => Operation::NumVfs { vfs: vfs.max(usize::try_from(*count).unwrap()) },
            PfStep::Eswitch(EswitchChange::Mode(_)) => Operation::EswitchMode { vfs },
            PfStep::Eswitch(_) | PfStep::Autoprobe(_) | PfStep::Netdev(_) => Operation::Attribute,
        };
        let whose = |kernel: &Kernel| kernel.pf_at(pf);
        let changed = self.act(operation, whose, |kernel| match kernel.pf_at(pf) {
            Some(at) => kernel.pf_step(at, &step),
            None => Err(Errno::NOENT),
        });
        changed.await.map_err(|errno| refused_write(errno).into())
    }
}

fn refused_write(errno: Errno) -> DeadlineWriteError {
    let path = PathBuf::from("/sys");
    DeadlineWriteError::Write(WriteError { path, action: "write to".to_owned(), source: errno.into() })
}

fn refused(errno: Errno) -> RequestError {
    RequestError::Refused { errno, message: None }
}

fn unreadable() -> ObserveError {
    LookError::Thread { what: "the PF".to_owned(), source: Errno::AGAIN.into() }.into()
}

impl Machine for World {
    async fn listen(&self) -> Result<(), ArrivalError> {
        self.turn(Until::Now).await;
        self.lock().listens = true;
        Ok(())
    }

    async fn observe(&self, pf: &DeviceAddress) -> Result<Option<PfState>, ObserveError> {
        self.ask(|kernel| kernel.observe(pf)).await.map_err(|()| unreadable())
    }

    async fn links(&self) -> Result<Links, ObserveError> {
        Ok(self.ask(Kernel::read_links).await)
    }

    async fn vfs(&self, pf: &DeviceAddress) -> Result<Vec<PciAddress>, ObserveError> {
        let vfs = |kernel: &mut Kernel| {
            let vfs =
                kernel.state.pf(pf).here().map(|pf| pf.vfs.iter().filter_map(|vf| vf.address).collect());
            vfs.unwrap_or_default()
        };
        Ok(self.ask(vfs).await)
    }

    async fn driver(&self, vf: PciAddress) -> Result<Option<String>, ObserveError> {
        let driver = |kernel: &mut Kernel| {
            let (pf, vf) = kernel.place(vf)?;
            kernel.state.pfs[pf].vfs[vf].driver.clone()
        };
        Ok(self.ask(driver).await)
    }

    async fn usage(&self, device: &DeviceAddress) -> Usage {
        if self.ask(|kernel| kernel.is_in_namespace(device)).await {
            return Usage::InUse(DeviceUser::Namespace);
        }
        if self.ask(|kernel| kernel.is_open(device)).await {
            return Usage::InUse(DeviceUser::Open("/dev/vfio/7".to_owned()));
        }
        Usage::Free
    }

    async fn is_elsewhere(&self, device: &DeviceAddress) -> Result<bool, ObserveError> {
        Ok(self.ask(|kernel| kernel.is_in_namespace(device)).await)
    }

    async fn set_autoprobe(&self, pf: &DeviceAddress, on: bool) -> Result<(), MachineError> {
        self.set_pf(pf, PfStep::Autoprobe(on)).await
    }

    async fn set_num_vfs(&self, pf: &DeviceAddress, count: u32) -> Result<(), MachineError> {
        self.set_pf(pf, PfStep::NumVfs(count)).await
    }

    async fn set_eswitch(&self, pf: &DeviceAddress, change: EswitchChange) -> Result<(), MachineError> {
        self.set_pf(pf, PfStep::Eswitch(change)).await
    }

    async fn set_admin(&self, uplink: IfIndex, vf: u32, changes: &[VfChange]) -> Result<(), MachineError> {
        let whose = |kernel: &Kernel| kernel.pf_of_uplink(uplink);
        let changed = self.act(Operation::Attribute, whose, |kernel| match kernel.pf_of_uplink(uplink) {
            Some(pf) => kernel.admin_steps(pf, vf, changes),
            None => Err(Errno::NODEV),
        });
        changed.await.map_err(|errno| {
            let source = match errno {
                // Nobody has refused anything.
                Errno::TIMEDOUT => RequestError::Deadline { after: Duration::ZERO },
                errno => refused(errno),
            };
            VfChangeError { pf: uplink, name: None, vf, changes: changes.to_vec(), source }.into()
        })
    }

    async fn set_ofed(&self, pf: &DeviceAddress, vf: u32, step: OfedStep) -> Result<(), MachineError> {
        let whose = |kernel: &Kernel| kernel.pf_at(pf);
        let changed = self.act(Operation::Attribute, whose, |kernel| match kernel.pf_at(pf) {
            Some(at) => kernel.ofed_step(at, vf, step),
            None => Err(Errno::NOENT),
        });
        changed.await.map_err(|errno| refused_write(errno).into())
    }

    async fn bind(&self, vf: PciAddress, step: &BindStep) -> Result<(), MachineError> {
        if self.lock().kernel.place(vf).is_none() {
            return Err(VfWriteError::NotVf(vf).into());
        }
        let whose = |kernel: &Kernel| Some(kernel.place(vf)?.0);
        let changed = self.act(Operation::Bind, whose, |kernel| kernel.bind_step(vf, step));
        changed.await.map_err(|errno| VfWriteError::Write(refused_write(errno)).into())
    }

    async fn set_link(&self, link: IfIndex, change: &LinkChange) -> Result<(), MachineError> {
        let whose = |kernel: &Kernel| kernel.pf_of_link(link);
        let changed = self.act(Operation::Attribute, whose, |kernel| kernel.link_step(link, change));
        changed.await.map_err(|errno| {
            let change = change.clone();
            ChangeError { index: link, name: None, change, source: refused(errno) }.into()
        })
    }

    async fn rdma_devices(&self, device: &DeviceAddress) -> Setting<Vec<String>> {
        self.ask(|kernel| kernel.rdma_of(device)).await
    }

    async fn rename_rdma(&self, from: &str, to: &str) -> Result<(), MachineError> {
        let changed = self.act(Operation::Attribute, |_| None, |kernel| kernel.rename_rdma(from, to)).await;
        changed.map_err(|errno| {
            let (from, to) = (from.to_owned(), to.to_owned());
            RdmaError::Rename { from, to, source: refused(errno) }.into()
        })
    }

    async fn await_netdev(&self, device: &DeviceAddress) -> Result<Arrival, ArrivalError> {
        let (began, after) = self.time(Operation::Netdev);
        self.turn(Until::Netdev(device.clone(), began + after)).await;
        let inner = self.lock();
        let arrival = inner.arrival(inner.kernel.netdev_of(device), began);
        arrival.ok_or_else(|| ArrivalError::Deadline { device: device.clone(), after })
    }

    async fn await_ports(
        &self,
        pf: &DeviceAddress,
        ports: &[PhysPortName],
    ) -> Result<Vec<(PhysPortName, Arrival)>, ArrivalError> {
        let (began, after) = self.time(Operation::Ports { ports: ports.len() });
        self.turn(Until::Ports(pf.clone(), ports.to_vec(), began + after)).await;
        let inner = self.lock();
        let arrived = ports
            .iter()
            .filter_map(|port| Some((*port, inner.arrival(inner.kernel.netdev_of_port(pf, *port), began)?)));
        Ok(arrived.collect())
    }

    async fn await_link(&self, pf: &DeviceAddress, patience: Duration) -> Result<bool, ArrivalError> {
        let began = self.lock().now;
        self.turn(Until::Link(pf.clone(), began + patience)).await;
        let inner = self.lock();
        let link = inner.kernel.netdev_of(pf);
        Ok(link.is_some_and(|(index, _)| inner.kernel.links().get(index).unwrap().running))
    }

    async fn after(&self, time: Duration) {
        let end = self.lock().now + time;
        self.turn(Until::Time(end)).await;
    }
}

impl World {
    /// What time it is, and how long this may take.
    fn time(&self, operation: Operation) -> (Duration, Duration) {
        let inner = self.lock();
        (inner.now, inner.patience.of(operation))
    }
}
