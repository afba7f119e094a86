//! Waiting for netdevs: by the kernel's and udev's events, by device and ifindex, never by name or by time alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nic_host::Host;
use nic_netlink::{Change, Changes, IfIndex, Link, LinkEvent, Netlink, UdevEvent, UdevState, udev_state};
use tokio::sync::Notify;

use crate::observe::{KernelLinks, ifindexes_of_device, is_uplink};
use crate::{DeviceAddress, ObserveError};

/// How often a netdev that is waited for is looked at although no event came, in case one was lost.
const RECHECK: Duration = Duration::from_secs(1);

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
    first_name: Option<String>,
    changed: Arc<Notify>,
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

impl Arrivals {
    /// Begins to listen.
    pub async fn listen(host: &Host, kernel: &KernelLinks) -> Result<Self, ArrivalError> {
        let mut changes =
            Changes::subscribe(host).map_err(|error| ArrivalError::Subscribe(Box::new(error)))?;
        let registry = Arc::new(Mutex::new(Registry::default()));
        let (listener_host, listener_registry) = (host.clone(), Arc::clone(&registry));
        let listener = tokio::spawn(async move {
            loop {
                match changes.recv().await {
                    Ok(change) => note(&listener_host, &mut lock(&listener_registry), change),
                    Err(error) => {
                        tracing::warn!(%error, "waiting goes on with re-checks alone");
                        return;
                    }
                }
            }
        });
        Ok(Self { host: host.clone(), netlink: kernel.netlink.clone(), registry, listener })
    }

    /// Waits until the device has a netdev and udev is done with it.
    ///
    /// When the deadline passes with a netdev that udev has not finished with, the netdev is returned all the same,
    /// and said so: it can be acted on by its ifindex.
    pub async fn wait(&self, device: &DeviceAddress, deadline: Duration) -> Result<Arrival, ArrivalError> {
        let started = Instant::now();
        let changed = Arc::clone(&lock(&self.registry).seen(device.name()).changed);
        loop {
            // Armed before the look, so that what changes in between wakes the wait.
            let notified = changed.notified();
            let present = self.look(device).await?;
            let waited = started.elapsed();
            if let Some((link, state)) = present {
                let finished = state.is_settled();
                if finished || waited >= deadline {
                    let first_name = lock(&self.registry).seen(device.name()).first_name.clone();
                    let first_seen_as = first_name.filter(|first| *first != link.name.as_str());
                    return Ok(Arrival { link, first_seen_as, waited, udev_finished: finished });
                }
            } else if waited >= deadline {
                return Err(ArrivalError::Deadline { device: device.clone(), after: deadline });
            }
            let patience = RECHECK.min(deadline.saturating_sub(waited));
            // Either way the device is looked at again: that the time ran out is no error here.
            let _ = tokio::time::timeout(patience, notified).await;
        }
    }

    async fn look(&self, device: &DeviceAddress) -> Result<Option<(Link, UdevState)>, ArrivalError> {
        for index in ifindexes_of_device(&self.host, device)? {
            let query_error = |source| ArrivalError::Query { device: device.clone(), index, source };
            // udev is asked first: the link is then read with the name that udev was done with.
            let state = udev_state(&self.host, index).map_err(|error| query_error(Box::new(error)))?;
            let query = self.netlink.link(index).await.map_err(|error| query_error(Box::new(error)))?;
            let Some(link) = query.filter(is_uplink) else { continue };
            lock(&self.registry).note_link(device.name(), &link);
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

impl Registry {
    fn seen(&mut self, device: &str) -> &mut Seen {
        self.devices.entry(device.to_owned()).or_default()
    }

    fn note_link(&mut self, device: &str, link: &Link) {
        self.device_of.insert(link.index, device.to_owned());
        let seen = self.seen(device);
        if seen.first_name.is_none() {
            seen.first_name = Some(link.name.to_string());
        }
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
                registry.devices.entry(device).or_default().first_name = None;
            }
        }
        Change::Link(LinkEvent::Overrun) | Change::Udev(UdevEvent::Overrun) => {
            for seen in registry.devices.values() {
                seen.changed.notify_waiters();
            }
        }
        Change::Udev(UdevEvent::Processed { index, .. }) => {
            let device = registry.device_of.get(&index);
            if let Some(seen) = device.and_then(|device| registry.devices.get(device)) {
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

fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}
