use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use nic_host::{Host, ReadError};
use serde::{Deserialize, Serialize};

use crate::{IfIndex, Link};

/// The links of one network namespace at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Link>", into = "Vec<Link>")]
pub struct Links {
    by_index: BTreeMap<IfIndex, Link>,
    by_name: Places,
    by_altname: Places,
    by_parent: Places,
    unread: BTreeMap<IfIndex, String>,
}

/// Where in the list something is: a machine with a thousand VFs has thousands of links, which are looked for thousands of times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Places(HashMap<String, BTreeSet<IfIndex>>);

impl Places {
    fn insert(&mut self, key: &str, index: IfIndex) {
        self.0.entry(key.to_owned()).or_default().insert(index);
    }

    fn remove(&mut self, key: &str, index: IfIndex) {
        let Some(places) = self.0.get_mut(key) else { return };
        places.remove(&index);
        if places.is_empty() {
            self.0.remove(key);
        }
    }

    /// By index.
    fn get(&self, key: &str) -> impl Iterator<Item = IfIndex> + use<'_> {
        self.0.get(key).into_iter().flatten().copied()
    }
}

/// The recorded links of a tree could not be had.
#[derive(Debug, thiserror::Error)]
pub enum RecordedLinksError {
    /// The tree holds none.
    #[error(
        "{} does not exist: netlink speaks of the running kernel only, and another tree needs a recording", path.display()
    )]
    Absent {
        /// Where they were looked for.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Read(ReadError),
    /// The file is no list of links.
    #[error("{} is not a list of links", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// The recording of a tree, as one of what can be read of it.
pub(crate) fn recording<T: serde::de::DeserializeOwned>(host: &Host) -> Result<T, RecordedLinksError> {
    let path = Path::new("/netlink/links.json");
    let text = host
        .read_if_exists(path)
        .map_err(RecordedLinksError::Read)?
        .ok_or_else(|| RecordedLinksError::Absent { path: host.path(path) })?;
    serde_json::from_str(&text).map_err(|source| RecordedLinksError::Parse { path: host.path(path), source })
}

impl Links {
    /// A collection of links; of two with the same index, the later.
    #[must_use]
    pub fn new(links: impl IntoIterator<Item = Link>) -> Self {
        let mut all = Self::default();
        links.into_iter().for_each(|link| all.update(link));
        all
    }

    /// What was recorded in a tree that stands for a machine: its `/netlink/links.json`.
    ///
    /// The file is what serde writes for [`Links`], with the VFs of each link in it ([`VfList::recorded`](crate::VfList::recorded)); the
    /// example `links` of this crate prints one with `--json`.
    pub fn recorded(host: &Host) -> Result<Self, RecordedLinksError> {
        recording(host)
    }

    /// Fills in the parent device and its bus from sysfs where the kernel did not say them over netlink, which it does
    /// since 5.14. Links of another namespace than sysfs shows stay as they are.
    pub fn fill_in_parents(&mut self, host: &Host) -> Result<(), ReadError> {
        let without: Vec<Link> = self.iter().filter(|link| link.parent_device.is_none()).cloned().collect();
        for mut link in without {
            let folder = Path::new("/sys/class/net").join(link.name.as_str());
            let device = host.link_name(folder.join("device"))?;
            let bus = host.link_name(folder.join("device/subsystem"))?;
            // Read last: the folder goes by the name, and another link may have it by now.
            let index = host.attribute(folder.join("ifindex"))?;
            if index.is_some_and(|index| index.parse() == Ok(link.index)) {
                link.parent_device = device;
                link.parent_bus = bus;
                self.update(link);
            }
        }
        Ok(())
    }

    /// The link with this index.
    #[must_use]
    pub fn get(&self, index: IfIndex) -> Option<&Link> {
        self.by_index.get(&index)
    }

    /// The link with this name, or with this alternative name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        let index = self.by_name.get(name).chain(self.by_altname.get(name)).next()?;
        self.get(index)
    }

    /// The links that sit on the PCI device with this address (`0000:01:00.0`), by index.
    ///
    /// There can be many: in switchdev mode the representors of a PF sit on the PF's own device.
    pub fn on_pci_device<'a>(&'a self, address: &'a str) -> impl Iterator<Item = &'a Link> {
        self.on_device(address).filter(move |link| link.pci_address() == Some(address))
    }

    /// The links whose parent is the device of this name, on whichever bus, by index.
    pub fn on_device(&self, device: &str) -> impl Iterator<Item = &Link> + use<'_> {
        self.by_parent.get(device).filter_map(|index| self.get(index))
    }

    /// All links, by index.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.by_index.values()
    }

    /// Why the link with this index is not among them although it is there: what the kernel said of it could not be read.
    #[must_use]
    pub fn unread(&self, index: IfIndex) -> Option<&str> {
        self.unread.get(&index).map(String::as_str)
    }

    /// Whether there are links of which what the kernel said could not be read.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Notes a link that is there, and of which nothing more is known.
    pub fn set_unread(&mut self, index: IfIndex, why: String) {
        self.remove(index);
        self.unread.insert(index, why);
    }

    /// How many are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_index.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_index.is_empty()
    }

    /// Puts a link in, in place of the one with the same index. So an event keeps a list up to date.
    pub fn update(&mut self, link: Link) {
        self.remove(link.index);
        self.unread.remove(&link.index);
        self.by_name.insert(link.name.as_str(), link.index);
        link.altnames.iter().for_each(|altname| self.by_altname.insert(altname, link.index));
        link.parent_device.iter().for_each(|device| self.by_parent.insert(device, link.index));
        self.by_index.insert(link.index, link);
    }

    /// Takes a link out.
    pub fn remove(&mut self, index: IfIndex) -> Option<Link> {
        let link = self.by_index.remove(&index)?;
        self.by_name.remove(link.name.as_str(), index);
        link.altnames.iter().for_each(|altname| self.by_altname.remove(altname, index));
        link.parent_device.iter().for_each(|device| self.by_parent.remove(device, index));
        Some(link)
    }
}

impl From<Vec<Link>> for Links {
    fn from(links: Vec<Link>) -> Self {
        Self::new(links)
    }
}

impl From<Links> for Vec<Link> {
    fn from(links: Links) -> Self {
        links.by_index.into_values().collect()
    }
}

impl IntoIterator for Links {
    type Item = Link;
    type IntoIter = std::collections::btree_map::IntoValues<IfIndex, Link>;

    fn into_iter(self) -> Self::IntoIter {
        self.by_index.into_values()
    }
}

impl FromIterator<Link> for Links {
    fn from_iter<I: IntoIterator<Item = Link>>(links: I) -> Self {
        Self::new(links)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            altnames: vec![format!("{name}-by-another-name")],
            ..Link::new(IfIndex(index), name.parse().unwrap())
        }
    }

    fn on_pci(index: u32, name: &str, address: &str) -> Link {
        Link {
            parent_device: Some(address.to_owned()),
            parent_bus: Some("pci".to_owned()),
            ..link(index, name)
        }
    }

    #[test]
    fn links_are_found_by_index_name_and_device() {
        let on_another_bus =
            Link { parent_bus: Some("auxiliary".to_owned()), ..on_pci(9, "sf0", "0000:01:00.0") };
        let links = Links::new([
            on_pci(7, "pf0vf0", "0000:01:00.0"),
            on_pci(3, "uplink", "0000:01:00.0"),
            on_another_bus,
            on_pci(4, "other", "0000:01:00.1"),
        ]);
        let names = |links: &mut dyn Iterator<Item = &Link>| {
            links.map(|link| link.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&mut links.iter()), ["uplink", "other", "pf0vf0", "sf0"]);
        assert_eq!(names(&mut links.on_pci_device("0000:01:00.0")), ["uplink", "pf0vf0"]);
        assert_eq!(links.by_name("other").map(|link| link.index), Some(IfIndex(4)));
        assert_eq!(links.by_name("other-by-another-name").map(|link| link.index), Some(IfIndex(4)));
        assert_eq!((links.by_name("oth"), links.get(IfIndex(5))), (None, None));
    }

    #[test]
    fn an_event_takes_the_place_of_what_was_known() {
        let mut links = Links::new([link(3, "eth0")]);
        links.update(link(3, "enp1s0"));
        assert_eq!(links.get(IfIndex(3)), Some(&link(3, "enp1s0")));
        assert_eq!((links.by_name("eth0"), links.by_name("eth0-by-another-name")), (None, None));
        assert_eq!(links.by_name("enp1s0").map(|link| link.index), Some(IfIndex(3)));
        links.update(link(4, "new"));
        assert_eq!((links.len(), links.remove(IfIndex(3)).is_some(), links.len()), (2, true, 1));
    }

    #[test]
    fn a_recording_is_what_serde_writes() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let error = Links::recorded(&host).unwrap_err();
        assert!(matches!(error, RecordedLinksError::Absent { .. }), "{error}");
        assert!(error.to_string().contains("netlink/links.json does not exist"), "{error}");

        let links = Links::new([on_pci(3, "eth0", "0000:01:00.0"), link(1, "lo")]);
        fs::create_dir(dir.path().join("netlink")).unwrap();
        let file = dir.path().join("netlink/links.json");
        fs::write(&file, serde_json::to_string_pretty(&links).unwrap()).unwrap();
        assert_eq!(Links::recorded(&host).unwrap(), links);

        fs::write(&file, "{}").unwrap();
        assert!(matches!(Links::recorded(&host), Err(RecordedLinksError::Parse { .. })));
    }

    #[test]
    fn parents_come_from_sysfs_where_netlink_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let device = dir.path().join("sys/devices/pci0000:00/0000:01:00.0");
        let net = dir.path().join("sys/class/net");
        fs::create_dir_all(&device).unwrap();
        symlink("../../../bus/pci", device.join("subsystem")).unwrap();
        for (name, index) in [("eth0", "3\n"), ("eth1", "5\n")] {
            fs::create_dir_all(net.join(name)).unwrap();
            fs::write(net.join(name).join("ifindex"), index).unwrap();
            symlink(&device, net.join(name).join("device")).unwrap();
        }
        let mut links = Links::new([link(3, "eth0"), link(4, "eth1"), link(6, "veth0")]);
        links.fill_in_parents(&host).unwrap();
        assert_eq!(links.get(IfIndex(3)).unwrap().pci_address(), Some("0000:01:00.0"));
        assert_eq!(links.on_device("0000:01:00.0").count(), 1);
        assert_eq!(links.get(IfIndex(4)).unwrap().parent_device, None, "the name is another link's by now");
        assert_eq!(links.get(IfIndex(6)).unwrap().parent_device, None);
    }
}
