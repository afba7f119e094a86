use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nic_host::Host;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::IfIndex;
use crate::events::EventsEnded;
use crate::udev_state::CONTROL;

/// udev has done something with a network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UdevEvent {
    /// An event went through udev's rules.
    Processed {
        /// `add`, `change`, `remove`, or `move` for a rename.
        action: String,
        /// The link.
        index: IfIndex,
        /// Its name after the rules (`INTERFACE`).
        name: Option<String>,
        /// The name in sysfs, which is the same unless the link is being renamed.
        sysname: String,
    },
    /// Events were lost, because too many came at once: read the state of every link that is waited for.
    Overrun,
}

/// The monitor could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen to udev")]
pub struct UdevMonitorError {
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// What udev says when it is done with an event of a network interface.
///
/// Start it before the first look at [`crate::udev_state`], so that nothing falls in between. An event is sent after
/// the database entry was written, so a look at the entry at the time of the event sees what the event reports.
///
/// udev sends in its own network namespace: a process in another one hears nothing.
#[derive(Debug)]
pub struct UdevMonitor {
    events: mpsc::UnboundedReceiver<UdevEvent>,
    stop: OwnedFd,
}

impl UdevMonitor {
    /// Starts listening, in a thread of its own, which ends with the monitor.
    ///
    /// `None` where there is no udev daemon, or the host is not the running machine: libudev would then listen to
    /// nothing, in silence.
    pub fn start(host: &Host) -> Result<Option<Self>, UdevMonitorError> {
        if !host.is_running_machine() || !host.exists(CONTROL) {
            return Ok(None);
        }
        start().map(Some).map_err(|source| UdevMonitorError { source })
    }

    /// The next event. Dropping the future loses none.
    pub async fn recv(&mut self) -> Result<UdevEvent, EventsEnded> {
        self.events.recv().await.ok_or(EventsEnded { of: "udev" })
    }
}

impl Drop for UdevMonitor {
    fn drop(&mut self) {
        if let Err(error) = rustix::io::write(&self.stop, &1_u64.to_ne_bytes()) {
            tracing::debug!(%error, "the udev monitor's thread will end with the next event only");
        }
    }
}

fn start() -> io::Result<UdevMonitor> {
    // Listening has begun when this function returns; only the reading is the thread's.
    let socket = udev::MonitorBuilder::new()?.match_subsystem("net")?.listen()?;
    enlarge_buffer(&socket);
    let (sender, events) = mpsc::unbounded_channel();
    let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
    let stopped = stop.try_clone()?;
    std::thread::Builder::new().name("udev-monitor".into()).spawn(move || {
        if let Err(error) = forward(&socket, &stopped, &sender) {
            tracing::warn!(%error, "listening to udev has ended");
        }
    })?;
    Ok(UdevMonitor { events, stop })
}

fn enlarge_buffer(socket: &udev::MonitorSocket) {
    const SIZE: usize = 4 << 20;
    use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
    let fd = socket.as_fd();
    // Past the system's limit only with CAP_NET_ADMIN.
    if let Err(error) =
        set_socket_recv_buffer_size_force(fd, SIZE).or_else(|_| set_socket_recv_buffer_size(fd, SIZE))
    {
        tracing::debug!(%error, "the receive buffer keeps its size: bursts of udev events overrun it earlier");
    }
}

/// Until told to stop, or nobody listens any more.
fn forward(
    socket: &udev::MonitorSocket,
    stopped: &OwnedFd,
    sender: &mpsc::UnboundedSender<UdevEvent>,
) -> io::Result<()> {
    loop {
        let mut waits =
            [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        match poll(&mut waits, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        let [from_udev, from_owner] = waits.map(|wait| wait.revents());
        if !from_owner.is_empty() {
            return Ok(());
        }
        if from_udev.contains(PollFlags::ERR) {
            // Reading the pending error takes it away; libudev would swallow it. ENOBUFS is the only one a netlink
            // socket that is merely listening gets (netlink_overrun in net/netlink/af_netlink.c).
            rustix::net::sockopt::socket_error(socket.as_fd())?
                .or_else(|error| if error == rustix::io::Errno::NOBUFS { Ok(()) } else { Err(error) })?;
            if sender.send(UdevEvent::Overrun).is_err() {
                return Ok(());
            }
        }
        for event in socket.iter() {
            if let Some(event) = processed(&event)
                && sender.send(event).is_err()
            {
                return Ok(());
            }
        }
    }
}

fn processed(event: &udev::Event) -> Option<UdevEvent> {
    let property = |name: &str| event.property_value(name).map(|value| value.to_string_lossy().into_owned());
    // Queues are in the subsystem "queues"; what is in "net" has an index.
    let index = property("IFINDEX")?.parse().ok()?;
    Some(UdevEvent::Processed {
        // The library's own type of event knows no "move".
        action: property("ACTION").unwrap_or_default(),
        index,
        name: property("INTERFACE"),
        sysname: event.sysname().to_string_lossy().into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_daemon_would_speak_nobody_listens() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        assert!(UdevMonitor::start(&host).unwrap().is_none());
        // A tree can have the socket's file; the daemon it belonged to is of another machine.
        std::fs::create_dir_all(dir.path().join("run/udev")).unwrap();
        std::fs::write(dir.path().join("run/udev/control"), "").unwrap();
        assert!(UdevMonitor::start(&host).unwrap().is_none());
    }
}
