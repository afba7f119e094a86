use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nic_host::{Host, ReadError};
use serde::{Deserialize, Serialize};

use crate::{IfIndex, Link};

/// The links of one network namespace at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Link>", into = "Vec<Link>")]
pub struct Links {
    by_index: BTreeMap<IfIndex, Link>,
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

impl Links {
    /// A collection of links; of two with the same index, the later.
    #[must_use]
    pub fn new(links: impl IntoIterator<Item = Link>) -> Self {
        Self { by_index: links.into_iter().map(|link| (link.index, link)).collect() }
    }

    /// What was recorded in a tree that stands for a machine: its `/netlink/links.json`.
    ///
    /// The file is what serde writes for [`Links`]; the example `links` of this crate prints one with `--json`.
    pub fn recorded(host: &Host) -> Result<Self, RecordedLinksError> {
        let path = Path::new("/netlink/links.json");
        let text = host
            .read_if_exists(path)
            .map_err(RecordedLinksError::Read)?
            .ok_or_else(|| RecordedLinksError::Absent { path: host.path(path) })?;
        serde_json::from_str(&text)
            .map_err(|source| RecordedLinksError::Parse { path: host.path(path), source })
    }

    /// The link with this index.
    #[must_use]
    pub fn get(&self, index: IfIndex) -> Option<&Link> {
        self.by_index.get(&index)
    }

    /// The link with this name, or with this alternative name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.iter()
            .find(|link| link.name == *name)
            .or_else(|| self.iter().find(|link| link.altnames.iter().any(|other| other == name)))
    }

    /// The links that sit on the PCI device with this address (`0000:01:00.0`), by index.
    ///
    /// There can be many: in switchdev mode the representors of a PF sit on the PF's own device.
    pub fn on_pci_device<'a>(&'a self, address: &'a str) -> impl Iterator<Item = &'a Link> {
        self.iter().filter(move |link| link.pci_address() == Some(address))
    }

    /// All links, by index.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.by_index.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_index.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_index.is_empty()
    }

    /// Puts a link in, in place of the one with the same index. So an event keeps a list up to date; it brings no VF
    /// attributes, and those of the old entry stay.
    pub fn update(&mut self, mut link: Link) {
        if let Some(old) = self.by_index.remove(&link.index)
            && link.num_vf == 0
            && link.vfs.is_empty()
        {
            link.num_vf = old.num_vf;
            link.vfs = old.vfs;
            link.vfs_truncated = old.vfs_truncated;
        }
        self.by_index.insert(link.index, link);
    }

    /// Takes a link out.
    pub fn remove(&mut self, index: IfIndex) -> Option<Link> {
        self.by_index.remove(&index)
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
