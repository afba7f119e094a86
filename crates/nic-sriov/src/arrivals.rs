//! Waiting for netdevs: by the kernel's and udev's events, by device and ifindex, never by name or by time alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nic_host::{Host, error_chain};
use nic_netlink::{
    Change, Changes, IfIndex, Link, LinkEvent, Netlink, PhysPortName, UdevEvent, UdevState, udev_is_hidden,
    udev_queue_is_empty, udev_state,
};
use tokio::sync::Notify;

use crate::observe::{ifindexes_of_device, is_uplink, links_of_device};
use crate::source::KernelLinks;
use crate::{DeviceAddress, ObserveError};

/// How often a netdev that is waited for is looked at although no event came, in case one was lost.
const RECHECK: Duration = Duration::from_secs(1);

/// How long udev may have nothing to do while a netdev is not finished, before it is taken to have given it up: it has
/// crashed, or could not give the name. Far longer than an event takes into its queue.
const UDEV_PATIENCE: Duration = Duration::from_secs(5);

/// Listens to link and udev events and knows who waits for what.
///
/// Start it before the step that makes netdevs appear, so that no event is missed and the first name is seen.
#[derive(Debug)]
pub struct Arrivals {
    host: Host,
    netlink: Netlink,
    registry: Arc<Mutex<Registry>>,
    listener: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Registry {
    devices: HashMap<String, Seen>,
    device_of: HashMap<IfIndex, String>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The name under which each of the device's netdevs was first seen.
    first_names: HashMap<IfIndex, String>,
    /// The netdevs of which there was an event since somebody last took this list.
    touched: BTreeSet<IfIndex>,
    changed: Arc<Notify>,
}

/// Whether udev has anything to do.
#[derive(Debug, Default)]
struct UdevWatch {
    idle_since: Option<Instant>,
}

/// A netdev that has come and has its final name.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The netdev as it is now.
    pub link: Link,
    /// The name it was first seen under, when that was another: udev has renamed it since.
    pub first_seen_as: Option<String>,
    /// How long it was waited for.
    pub waited: Duration,
    /// Whether udev was done with it. `false` when the time ran out before.
    pub udev_finished: bool,
}

/// A netdev that did not come, or a wait that could not be kept up.
#[derive(Debug, thiserror::Error)]
pub enum ArrivalError {
    /// Nothing appeared.
    #[error("no netdev of {device} has appeared within {after:?}")]
    Deadline {
        /// The device.
        device: DeviceAddress,
        /// How long it was waited for.
        after: Duration,
    },
    /// The driver's probe of it fails, or there is no driver for it. Why is in the kernel's log.
    #[error("no driver has taken {device}, which was probed {probes} times")]
    NoDriver {
        /// The device.
        device: DeviceAddress,
        /// How often it was probed.
        probes: usize,
    },
    /// The events cannot be listened to.
    #[error("cannot listen to link events")]
    Subscribe(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kernel could not be asked for the netdev.
    #[error("cannot read the netdev {index} of {device}")]
    Query {
        /// The device.
        device: DeviceAddress,
        /// The netdev.
        index: IfIndex,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The device could not be looked at.
    #[error(transparent)]
    Observe(#[from] ObserveError),
}

/// What a look at a device has brought. One that failed is made again, at the next event or re-check: what stands in its way may pass,
/// as with a file of udev's that is being written. It fails the wait when the time is over.
fn unless_final<T>(
    device: &DeviceAddress,
    look: Result<T, ArrivalError>,
    is_over: bool,
) -> Result<Option<T>, ArrivalError> {
    match look {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_over => Err(error),
        Err(error) => {
            let error = error_chain(&error);
            tracing::debug!(%device, error, "a look at a device that is waited for has failed; there will be another");
            Ok(None)
        }
    }
}

impl Arrivals {
    /// Begins to listen.
    pub async fn listen(host: &Host, kernel: &KernelLinks) -> Result<Self, ArrivalError> {
        let mut changes =
            Changes::subscribe(host).map_err(|error| ArrivalError::Subscribe(Box::new(error)))?;
        if udev_is_hidden(host) {
            tracing::warn!(
                "the node's /run/udev is not in this container: when udev has done with a name is told by the name alone, or by {} s without it",
                UDEV_PATIENCE.as_secs()
            );
        }
        let registry = Arc::new(Mutex::new(Registry::default()));
        let (listener_host, listener_registry) = (host.clone(), Arc::clone(&registry));
        let listener = tokio::spawn(async move {
            loop {
                match changes.recv().await {
                    Ok(change) => note(&listener_host, &mut lock(&listener_registry), change),
                    Err(error) => {
                        tracing::warn!(
                            %error,
                            "the events have ended; waiting for netdevs goes on with re-checks alone"
                        );
                        return;
                    }
                }
            }
        });
        Ok(Self { host: host.clone(), netlink: kernel.netlink.clone(), registry, listener })
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Waits until the device has a netdev and udev is done with it.
    ///
    /// When the deadline passes with a netdev that udev has not finished with, or udev has given it up, the netdev is
    /// returned all the same, and said so: it can be acted on by its ifindex.
    pub async fn wait(&self, device: &DeviceAddress, deadline: Duration) -> Result<Arrival, ArrivalError> {
        let started = Instant::now();
        let changed = Arc::clone(&lock(&self.registry).seen(device.name()).changed);
        let mut udev = UdevWatch::default();
        loop {
            // Armed before the look, so that what changes in between wakes the wait.
            let notified = changed.notified();
            let look = self.look(device).await;
            let waited = started.elapsed();
            let present = unless_final(device, look, waited >= deadline)?.flatten();
            if let Some((link, state)) = present {
                let finished = state.is_settled();
                if finished || waited >= deadline || udev.has_given_up(&self.host) {
                    return Ok(self.arrival(device, link, waited, finished));
                }
            } else if waited >= deadline {
                return Err(ArrivalError::Deadline { device: device.clone(), after: deadline });
            }
            let patience = RECHECK.min(deadline.saturating_sub(waited));
            // Either way the device is looked at again: that the time ran out is no error here.
            let _ = tokio::time::timeout(patience, notified).await;
        }
    }

    /// Waits until each of these ports of the device's eswitch has a netdev and udev is done with it.
    pub async fn wait_ports(
        &self,
        device: &DeviceAddress,
        ports: &[PhysPortName],
        deadline: Duration,
    ) -> Result<Vec<(PhysPortName, Arrival)>, ArrivalError> {
        let started = Instant::now();
        let changed = Arc::clone(&lock(&self.registry).seen(device.name()).changed);
        let mut pending: BTreeSet<PhysPortName> = ports.iter().copied().collect();
        let mut arrived = Vec::new();
        // `None`: all links. Afterwards only those of which there was an event, or all again when none came.
        let mut touched: Option<BTreeSet<IfIndex>> = None;
        let mut udev = UdevWatch::default();
        loop {
            let notified = changed.notified();
            let waited = started.elapsed();
            let given_up = udev.has_given_up(&self.host);
            let is_over = waited >= deadline;
            let look = self.links_of(device, touched.as_ref()).await;
            let links = unless_final(device, look, is_over)?;
            let mut failed = links.is_none();
            for link in links.into_iter().flatten() {
                let Some(port) = link.port().filter(|port| pending.contains(port)) else { continue };
                let settled = unless_final(device, self.is_settled(device, &link), is_over)?;
                failed |= settled.is_none();
                let finished = settled.unwrap_or(false);
                lock(&self.registry).note_link(device.name(), &link);
                if finished || is_over || given_up {
                    pending.remove(&port);
                    arrived.push((port, self.arrival(device, link, waited, finished)));
                }
            }
            if pending.is_empty() || is_over {
                return Ok(arrived);
            }
            let patience = RECHECK.min(deadline.saturating_sub(waited));
            touched = match tokio::time::timeout(patience, notified).await {
                Ok(()) if !failed => {
                    Some(std::mem::take(&mut lock(&self.registry).seen(device.name()).touched))
                }
                Ok(()) | Err(_) => None,
            };
        }
    }

    /// Waits until the device's netdev can pass traffic. Returns whether it can.
    pub async fn wait_running(
        &self,
        device: &DeviceAddress,
        deadline: Duration,
    ) -> Result<bool, ArrivalError> {
        let started = Instant::now();
        let changed = Arc::clone(&lock(&self.registry).seen(device.name()).changed);
        loop {
            let notified = changed.notified();
            let look = self.look(device).await;
            let waited = started.elapsed();
            let present = unless_final(device, look, waited >= deadline)?.flatten();
            let running = present.is_some_and(|(link, _)| link.running);
            if running || waited >= deadline {
                return Ok(running);
            }
            // Either way the device is looked at again: that the time ran out is no error here.
            let _ = tokio::time::timeout(RECHECK.min(deadline.saturating_sub(waited)), notified).await;
        }
    }

    fn arrival(&self, device: &DeviceAddress, link: Link, waited: Duration, udev_finished: bool) -> Arrival {
        let mut registry = lock(&self.registry);
        let first_name = registry.seen(device.name()).first_names.get(&link.index).cloned();
        let first_seen_as = first_name.filter(|first| *first != link.name.as_str());
        Arrival { link, first_seen_as, waited, udev_finished }
    }

    async fn links_of(
        &self,
        device: &DeviceAddress,
        only: Option<&BTreeSet<IfIndex>>,
    ) -> Result<Vec<Link>, ArrivalError> {
        let Some(only) = only else {
            let links = self.netlink.links().await.map_err(|error| ObserveError::Netlink(Box::new(error)))?;
            let of_device = links_of_device(&self.host, device, &links)?;
            return Ok(of_device.into_iter().cloned().collect());
        };
        let mut links = Vec::new();
        for index in only {
            let query = self.netlink.link(*index).await;
            links.extend(query.map_err(|error| query_error(device, *index, error))?);
        }
        Ok(links)
    }

    fn udev_state(&self, device: &DeviceAddress, index: IfIndex) -> Result<UdevState, ArrivalError> {
        udev_state(&self.host, index).map_err(|error| query_error(device, index, error))
    }

    /// Whether udev has done with the link.
    fn is_settled(&self, device: &DeviceAddress, link: &Link) -> Result<bool, ArrivalError> {
        let state = self.udev_state(device, link.index)?;
        Ok(state.is_settled() || self.was_renamed(link, state)?)
    }

    /// Where udev cannot be seen, that the link was renamed by user space is the sign that it has done with it.
    fn was_renamed(&self, link: &Link, state: UdevState) -> Result<bool, ObserveError> {
        /// `NET_NAME_RENAMED` in include/uapi/linux/netdevice.h.
        const RENAMED: &str = "4";
        if state != UdevState::NotVisible {
            return Ok(false);
        }
        let assigned = self.host.attribute(format!("/sys/class/net/{}/name_assign_type", link.name))?;
        Ok(assigned.as_deref() == Some(RENAMED))
    }

    async fn look(&self, device: &DeviceAddress) -> Result<Option<(Link, UdevState)>, ArrivalError> {
        for index in ifindexes_of_device(&self.host, device)? {
            // udev is asked first: the link is then read with the name that udev was done with.
            let state = self.udev_state(device, index)?;
            let query = self.netlink.link(index).await.map_err(|error| query_error(device, index, error))?;
            let Some(link) = query.filter(is_uplink) else { continue };
            lock(&self.registry).note_link(device.name(), &link);
            let state = if self.was_renamed(&link, state)? { UdevState::Finished } else { state };
            return Ok(Some((link, state)));
        }
        Ok(None)
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl UdevWatch {
    /// Whether udev has had nothing to do for long enough.
    fn has_given_up(&mut self, host: &Host) -> bool {
        if !udev_queue_is_empty(host) {
            self.idle_since = None;
            return false;
        }
        self.idle_since.get_or_insert_with(Instant::now).elapsed() >= UDEV_PATIENCE
    }
}

impl Registry {
    fn seen(&mut self, device: &str) -> &mut Seen {
        self.devices.entry(device.to_owned()).or_default()
    }

    fn note_link(&mut self, device: &str, link: &Link) {
        self.device_of.insert(link.index, device.to_owned());
        let seen = self.seen(device);
        seen.touched.insert(link.index);
        seen.first_names.entry(link.index).or_insert_with(|| link.name.to_string());
    }
}

fn note(host: &Host, registry: &mut Registry, change: Change) {
    match change {
        Change::Link(LinkEvent::Changed(link)) => {
            let Some(device) = device_of(host, &link) else { return };
            registry.note_link(&device, &link);
            registry.seen(&device).changed.notify_waiters();
        }
        Change::Link(LinkEvent::Gone(index)) => {
            if let Some(device) = registry.device_of.remove(&index) {
                let seen = registry.devices.entry(device).or_default();
                seen.first_names.remove(&index);
                seen.touched.remove(&index);
            }
        }
        Change::Link(LinkEvent::Overrun) | Change::Udev(UdevEvent::Overrun) => {
            for seen in registry.devices.values() {
                seen.changed.notify_waiters();
            }
        }
        Change::Udev(UdevEvent::Processed { index, .. }) => {
            let device = registry.device_of.get(&index);
            if let Some(seen) = device.and_then(|device| registry.devices.get_mut(device)) {
                seen.touched.insert(index);
                seen.changed.notify_waiters();
            }
        }
    }
}

/// The device a link belongs to: as the kernel says since 5.14, or by the link in sysfs.
fn device_of(host: &Host, link: &Link) -> Option<String> {
    if let Some(device) = &link.parent_device {
        return Some(device.clone());
    }
    match host.link_name(format!("/sys/class/net/{}/device", link.name)) {
        Ok(device) => device,
        Err(error) => {
            tracing::debug!(link = %link.name, %error, "a link's device could not be read; it is re-checked");
            None
        }
    }
}

fn query_error(
    device: &DeviceAddress,
    index: IfIndex,
    source: impl std::error::Error + Send + Sync + 'static,
) -> ArrivalError {
    ArrivalError::Query { device: device.clone(), index, source: Box::new(source) }
}

fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A device that has the netdev 1, the running kernel's `lo`, in a tree whose udev has an entry of it that cannot be read.
    fn waiting() -> (tempfile::TempDir, DeviceAddress, Arrivals) {
        let tree = tempfile::tempdir().unwrap();
        for folder in ["sys/bus/pci/devices/0000:01:00.0/net/lo", "run/udev/data/n1"] {
            fs::create_dir_all(tree.path().join(folder)).unwrap();
        }
        fs::write(tree.path().join("sys/bus/pci/devices/0000:01:00.0/net/lo/ifindex"), "1\n").unwrap();
        fs::write(tree.path().join("run/udev/control"), "").unwrap();
        let arrivals = Arrivals {
            host: Host::at(tree.path()),
            netlink: Netlink::connect().unwrap(),
            registry: Arc::default(),
            listener: tokio::spawn(async {}),
        };
        (tree, DeviceAddress::new("pci", "0000:01:00.0").unwrap(), arrivals)
    }

    #[tokio::test]
    async fn fault_2_5_a_look_that_fails_is_made_again() {
        let (tree, device, arrivals) = waiting();
        let entry = tree.path().join("run/udev/data/n1");
        let repaired = tokio::spawn(async move {
            tokio::time::sleep(RECHECK / 2).await;
            fs::remove_dir(&entry).unwrap();
            fs::write(entry, "I:1\n").unwrap();
        });
        let arrival = arrivals.wait(&device, 30 * RECHECK).await.unwrap();
        assert_eq!((arrival.link.index, arrival.udev_finished), (IfIndex(1), true));
        repaired.await.unwrap();
    }

    #[tokio::test]
    async fn what_stands_in_the_way_to_the_end_is_named() {
        let (_tree, device, arrivals) = waiting();
        let error = arrivals.wait(&device, Duration::from_millis(20)).await.unwrap_err();
        assert!(matches!(error, ArrivalError::Query { index: IfIndex(1), .. }), "{error}");
    }
}
