use nic_host::{Host, ReadError};
use serde::{Deserialize, Serialize};

use crate::IfIndex;

/// How far udev has come with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UdevState {
    /// No udev daemon: nobody will rename the link, and there is nothing to wait for.
    NotRunning,
    /// In a container that does not have the node's `/run/udev`: a udev daemon may be about to rename the link, and nothing here tells.
    NotVisible,
    /// udev has not begun with the link.
    Absent,
    /// udev is renaming the link.
    Renaming,
    /// udev is carrying out its rules for the link.
    Processing,
    /// udev is done: the name is the one it gave.
    Finished,
}

impl UdevState {
    /// Whether nothing is to be expected from udev for this link.
    #[must_use]
    pub fn is_settled(self) -> bool {
        matches!(self, Self::NotRunning | Self::Finished)
    }
}

/// udev's database entry of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UdevEntry {
    /// When udev first had done with the device, in microseconds of the monotonic clock (`I:`).
    pub initialized_usec: Option<u64>,
    /// The properties (`E:`), in the file's order.
    pub properties: Vec<(String, String)>,
}

/// udev's state of a link could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read udev's entry of network interface {index}")]
pub struct UdevStateError {
    /// The link.
    pub index: IfIndex,
    /// Why udev's file could not be read.
    #[source]
    pub source: ReadError,
}

/// The daemon's control socket. libudev, too, takes its absence for the daemon's.
pub(crate) const CONTROL: &str = "/run/udev/control";

/// It exists while the daemon has events to process.
const QUEUE: &str = "/run/udev/queue";

impl UdevEntry {
    /// Reads the text of a file in `/run/udev/data` (`device_update_db` in systemd's
    /// `src/libsystemd/sd-device/device-private.c`). Lines of other kinds are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut entry = Self::default();
        for line in text.lines() {
            match line.split_once(':') {
                Some(("I", usec)) => entry.initialized_usec = usec.trim().parse().ok(),
                Some(("E", property)) => {
                    if let Some((key, value)) = property.split_once('=') {
                        entry.properties.push((key.to_owned(), value.to_owned()));
                    }
                }
                _ => {}
            }
        }
        entry
    }

    /// The value of a property.
    #[must_use]
    pub fn property(&self, key: &str) -> Option<&str> {
        self.properties.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// What the entry says of udev's progress.
    ///
    /// While it renames a link, udev keeps `ID_RENAMING=1` in the entry; "initialized" is already true then. Recent
    /// versions keep `ID_PROCESSING=1` in it for as long as the rules are carried out.
    #[must_use]
    pub fn state(&self) -> UdevState {
        if self.property("ID_RENAMING") == Some("1") {
            UdevState::Renaming
        } else if self.property("ID_PROCESSING") == Some("1") {
            UdevState::Processing
        } else {
            UdevState::Finished
        }
    }
}

/// How far udev has come with the link, from its control socket and its database (`/run/udev/data/n<ifindex>`).
///
/// To wait for the end, start a [`crate::UdevMonitor`] first and ask this then; the other way round, the event that
/// ends the waiting can fall in between. The database is that of the whole machine, and indices are of one network
/// namespace: ask only for links of the namespace udev works in.
pub fn udev_state(host: &Host, index: IfIndex) -> Result<UdevState, UdevStateError> {
    if !host.exists(CONTROL) {
        return Ok(if udev_is_hidden(host) { UdevState::NotVisible } else { UdevState::NotRunning });
    }
    let entry = host
        .read_if_exists(format!("/run/udev/data/n{index}"))
        .map_err(|source| UdevStateError { index, source })?;
    Ok(entry.map_or(UdevState::Absent, |text| UdevEntry::parse(&text).state()))
}

/// Whether a udev daemon may be at work that cannot be seen: the node's root is mounted here ([`Host::has_host_mount`]), as in a container, and
/// there is no daemon's socket here.
#[must_use]
pub fn udev_is_hidden(host: &Host) -> bool {
    !host.exists(CONTROL) && host.has_host_mount()
}

/// Whether udev has nothing to do: no event waits for it, and none is being processed. So it is, too, when the daemon was
/// killed.
///
/// A link that udev has not finished with while it has nothing to do is one that it has given up, or never heard of: when a
/// rename fails because the name is taken, the database entry keeps its `ID_RENAMING=1` for good. An event that has just
/// been sent is not in the queue yet, so ask more than once.
#[must_use]
pub fn udev_queue_is_empty(host: &Host) -> bool {
    // libudev goes by the same file (systemd's src/libudev/libudev-queue.c, `udev_queue_get_queue_is_empty`).
    !host.exists(QUEUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    // As udev 252 left it for an igbvf link.
    const FINISHED: &str = "I:6382410\n\
        E:ID_NET_NAMING_SCHEME=v252\n\
        E:ID_NET_NAME_PATH=enp1s0v3\n\
        E:ID_BUS=pci\n\
        E:ID_PATH=pci-0000:01:10.6\n\
        E:SYSTEMD_ALIAS=/sys/subsystem/net/devices/enp1s0v3\n\
        G:systemd\n\
        Q:systemd\n\
        V:1\n";

    #[test]
    fn an_entry_tells_how_far_udev_has_come() {
        let cases = [
            (FINISHED.to_owned(), UdevState::Finished),
            (FINISHED.replace("E:ID_BUS=pci", "E:ID_RENAMING=1"), UdevState::Renaming),
            (FINISHED.replace("E:ID_BUS=pci", "E:ID_PROCESSING=1"), UdevState::Processing),
            (FINISHED.replace("E:ID_BUS=pci", "E:ID_RENAMING=0"), UdevState::Finished),
            (String::new(), UdevState::Finished),
        ];
        for (text, state) in cases {
            assert_eq!(UdevEntry::parse(&text).state(), state, "{text}");
        }
        let entry = UdevEntry::parse(FINISHED);
        assert_eq!(entry.initialized_usec, Some(6_382_410));
        assert_eq!(entry.property("ID_PATH"), Some("pci-0000:01:10.6"), "a value keeps its colons");
    }

    #[test]
    fn without_the_daemon_an_old_database_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        assert!(udev_queue_is_empty(&host));
        let data = dir.path().join("run/udev/data");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("n7"), "E:ID_RENAMING=1\n").unwrap();
        assert_eq!(udev_state(&host, IfIndex(7)).unwrap(), UdevState::NotRunning);
        // fault 7.5: in a container the daemon may be the node's.
        std::fs::create_dir_all(dir.path().join("host/etc")).unwrap();
        assert_eq!(udev_state(&host, IfIndex(7)).unwrap(), UdevState::NotVisible);
        assert!(!UdevState::NotVisible.is_settled());
        std::fs::write(dir.path().join("run/udev/control"), "").unwrap();
        assert!(!udev_is_hidden(&host));
        assert_eq!(udev_state(&host, IfIndex(7)).unwrap(), UdevState::Renaming);
        assert_eq!(udev_state(&host, IfIndex(8)).unwrap(), UdevState::Absent);
        std::fs::write(dir.path().join("run/udev/queue"), "").unwrap();
        assert!(!udev_queue_is_empty(&host));
        std::fs::create_dir(data.join("n9")).unwrap();
        let error = udev_state(&host, IfIndex(9)).unwrap_err();
        assert_eq!(error.to_string(), "cannot read udev's entry of network interface 9");
    }
}
