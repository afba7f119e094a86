use nic_host::Host;

use crate::connection::ConnectError;
use crate::events::{EventsEnded, LinkEvent, LinkEvents};
use crate::udev_monitor::{UdevEvent, UdevMonitor, UdevMonitorError};

/// Something happened to a link, or udev has done something with one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// From the kernel.
    Link(LinkEvent),
    /// From udev.
    Udev(UdevEvent),
}

/// The events could not be subscribed to.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// Those of the kernel.
    #[error(transparent)]
    Links(#[from] ConnectError),
    /// Those of udev.
    #[error(transparent)]
    Udev(#[from] UdevMonitorError),
}

/// All that can end the waiting for a link: the kernel's link events, and udev's where there is a udev daemon.
///
/// Subscribe first, then read links and [`crate::udev_state`]: what happens in between is then in the stream. The two
/// sources are not ordered against each other. An event can be lost for reasons outside this process, so a wait has
/// a slow re-check behind it.
#[derive(Debug)]
pub struct Changes {
    links: LinkEvents,
    udev: Option<UdevMonitor>,
}

impl Changes {
    /// From now on.
    pub fn subscribe(host: &Host) -> Result<Self, SubscribeError> {
        let udev = UdevMonitor::start(host)?;
        if udev.is_none() {
            tracing::info!("no udev daemon here: interfaces keep the names the kernel gives them");
        }
        Ok(Self { links: LinkEvents::subscribe()?, udev })
    }

    /// Whether udev's events are part of the stream.
    #[must_use]
    pub fn has_udev(&self) -> bool {
        self.udev.is_some()
    }

    /// The next event of either source. Dropping the future loses none.
    pub async fn recv(&mut self) -> Result<Change, EventsEnded> {
        let Some(udev) = &mut self.udev else {
            return self.links.recv().await.map(Change::Link);
        };
        tokio::select! {
            event = self.links.recv() => event.map(Change::Link),
            event = udev.recv() => event.map(Change::Udev),
        }
    }
}
