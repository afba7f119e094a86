//! What a scenario sees of the NICs: sysfs, and what iproute2 says. Nothing of this project is used to look, so that a
//! mistake in it cannot hide itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use serde_json::Value;

use crate::command::run;
use crate::read;

const PCI_DEVICES: &str = "/sys/bus/pci/devices";
/// PCI ids of the emulated 82576, "vendor:device".
const IGB_PF: (&str, &str) = ("0x8086", "0x10c9");

/// Everything a driver swap must give back, by PCI address and attribute.
///
/// A flat map keeps comparison and report honest: whatever was seen is compared, and each difference has a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Nics(BTreeMap<String, BTreeMap<String, String>>);

/// Differences between two observations, one per attribute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Differences(Vec<String>);

impl Nics {
    /// Observes all igb PFs and their VFs.
    pub(crate) fn observe() -> anyhow::Result<Self> {
        let links = links()?;
        let mut nics = BTreeMap::new();
        for pf in igb_pfs()? {
            let device = Path::new(PCI_DEVICES).join(&pf);
            let mut seen = function(&device, &links)?;
            for attribute in ["sriov_numvfs", "sriov_drivers_autoprobe"] {
                seen.insert(attribute.to_owned(), read(device.join(attribute))?);
            }
            let admin =
                netdev(&device)?.and_then(|name| links.get(&name)).and_then(|link| link.get("vfinfo_list"));
            nics.insert(pf.clone(), seen);
            for (index, vf) in vfs_of(&pf)? {
                let mut seen = function(&Path::new(PCI_DEVICES).join(&vf), &links)?;
                seen.insert("vf".to_owned(), format!("{index} of {pf}"));
                let info = admin.and_then(Value::as_array).and_then(|list| {
                    list.iter().find(|info| info.get("vf").and_then(Value::as_u64) == Some(u64::from(index)))
                });
                match info {
                    Some(info) => flatten("admin", info, &mut seen),
                    None => drop(seen.insert("admin".to_owned(), "not reported".to_owned())),
                }
                nics.insert(vf, seen);
            }
        }
        Ok(Self(nics))
    }

    /// The same with these functions alone.
    pub(crate) fn only(mut self, addresses: &BTreeSet<String>) -> Self {
        self.0.retain(|address, _| addresses.contains(address));
        self
    }

    /// The same without those attributes of one function that `which` picks: they cannot come back.
    pub(crate) fn without(mut self, address: &str, which: impl Fn(&str) -> bool) -> Self {
        if let Some(attributes) = self.0.get_mut(address) {
            attributes.retain(|attribute, _| !which(attribute));
        }
        self
    }

    /// An observation made elsewhere: attributes by thing.
    pub(crate) fn of(things: BTreeMap<String, BTreeMap<String, String>>) -> Self {
        Self(things)
    }

    /// What is different in `now`, seen from `self`.
    pub(crate) fn differences(&self, now: &Self) -> Differences {
        let mut differences = Vec::new();
        for (address, was) in &self.0 {
            let Some(is) = now.0.get(address) else {
                differences.push(format!("{address} is gone"));
                continue;
            };
            for (attribute, was) in was {
                match is.get(attribute) {
                    Some(is) if is == was => {}
                    Some(is) => differences.push(format!("{address} {attribute} was {was}, is {is}")),
                    None => differences.push(format!("{address} {attribute} was {was}, is not there")),
                }
            }
            for (attribute, is) in is.iter().filter(|(attribute, _)| !was.contains_key(*attribute)) {
                differences.push(format!("{address} {attribute} was not there, is {is}"));
            }
        }
        differences.extend(
            now.0
                .keys()
                .filter(|address| !self.0.contains_key(*address))
                .map(|address| format!("{address} is new")),
        );
        Differences(differences)
    }

    /// An error that names what is different now.
    pub(crate) fn expect_unchanged(&self) -> anyhow::Result<()> {
        let differences = self.differences(&Self::observe()?);
        ensure!(differences.is_empty(), "{differences}");
        Ok(())
    }

    /// The number of VFs in it.
    pub(crate) fn vf_count(&self) -> usize {
        self.0.values().filter(|attributes| attributes.contains_key("vf")).count()
    }

    /// One attribute of one function.
    pub(crate) fn attribute(&self, address: &str, attribute: &str) -> Option<&str> {
        self.0.get(address)?.get(attribute).map(String::as_str)
    }

    /// The interface index of every function that has a netdev. A new index means that a netdev was removed and made
    /// anew, so equal indices prove that a function was left alone.
    pub(crate) fn interface_indices() -> anyhow::Result<BTreeMap<String, String>> {
        let mut indices = BTreeMap::new();
        for pf in igb_pfs()? {
            for address in vfs_of(&pf)?.into_iter().map(|(_, vf)| vf).chain([pf]) {
                let device = Path::new(PCI_DEVICES).join(&address);
                if let Some(name) = netdev(&device)? {
                    indices.insert(address, read(device.join("net").join(name).join("ifindex"))?);
                }
            }
        }
        Ok(indices)
    }
}

impl Differences {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("; "))
    }
}

/// The PCI addresses of the emulated 82576 PFs, in order.
pub(crate) fn igb_pfs() -> anyhow::Result<Vec<String>> {
    let mut pfs = Vec::new();
    for entry in fs::read_dir(PCI_DEVICES).context("cannot list PCI devices")? {
        let entry = entry.context("cannot list PCI devices")?;
        if (read(entry.path().join("vendor"))?.as_str(), read(entry.path().join("device"))?.as_str())
            == IGB_PF
        {
            pfs.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    pfs.sort_unstable();
    Ok(pfs)
}

/// The VFs of a PF, with their indices: the `virtfnN` links.
pub(crate) fn vfs_of(pf: &str) -> anyhow::Result<Vec<(u32, String)>> {
    let device = Path::new(PCI_DEVICES).join(pf);
    let mut vfs = Vec::new();
    for entry in fs::read_dir(&device).with_context(|| format!("cannot list {}", device.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", device.display()))?;
        let name = entry.file_name();
        let Some(index) = name.to_str().and_then(|name| name.strip_prefix("virtfn")) else { continue };
        let index = index.parse().with_context(|| format!("{} has an odd virtfn link", device.display()))?;
        vfs.push((index, link_target(&entry.path())?.context("a virtfn link leads nowhere")?));
    }
    vfs.sort_unstable();
    Ok(vfs)
}

/// The name of the netdev of a PCI device, if it has one.
pub(crate) fn netdev(device: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_dir(device.join("net")) {
        Ok(mut entries) => match entries.next() {
            Some(entry) => {
                Ok(Some(entry.context("cannot list netdevs")?.file_name().to_string_lossy().into_owned()))
            }
            None => Ok(None),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow!(error).context(format!("cannot list {}/net", device.display()))),
    }
}

/// The netdev of the PCI function at `address`; an error when it has none.
pub(crate) fn netdev_of(address: &str) -> anyhow::Result<String> {
    netdev(&Path::new(PCI_DEVICES).join(address))?.with_context(|| format!("{address} has no netdev"))
}

/// The folder of a PCI function in sysfs.
pub(crate) fn pci_device(address: &str) -> PathBuf {
    Path::new(PCI_DEVICES).join(address)
}

/// The netdev with this MAC address, in the guest's own namespace.
pub(crate) fn netdev_by_mac(mac: &str) -> anyhow::Result<String> {
    links()?
        .into_iter()
        .find(|(_, link)| link.get("address").and_then(Value::as_str) == Some(mac))
        .map(|(name, _)| name)
        .with_context(|| format!("no netdev has the MAC address {mac}"))
}

/// `ip -j -d link`, by name.
pub(crate) fn links() -> anyhow::Result<BTreeMap<String, Value>> {
    let list: Vec<Value> = serde_json::from_str(&run("ip", ["-j", "-d", "link", "show"])?)
        .context("`ip -j -d link show` wrote no JSON list")?;
    Ok(list
        .into_iter()
        .filter_map(|link| {
            link.get("ifname").and_then(Value::as_str).map(ToOwned::to_owned).map(|name| (name, link))
        })
        .collect())
}

/// What a PF and a VF have alike.
fn function(device: &Path, links: &BTreeMap<String, Value>) -> anyhow::Result<BTreeMap<String, String>> {
    let mut seen = BTreeMap::new();
    seen.insert(
        "driver".to_owned(),
        link_target(&device.join("driver"))?.unwrap_or_else(|| "none".to_owned()),
    );
    seen.insert("driver_override".to_owned(), read(device.join("driver_override"))?);
    let Some(name) = netdev(device)? else {
        seen.insert("name".to_owned(), "no netdev".to_owned());
        return Ok(seen);
    };
    // A rename between the two looks leaves the list without this name; that is a difference worth reporting.
    if let Some(link) = links.get(&name) {
        seen.extend(settings(link));
    }
    seen.insert("name".to_owned(), name);
    Ok(seen)
}

/// What an administrator can set on a netdev, except its name.
pub(crate) fn settings(link: &Value) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for (attribute, key) in [
        ("mac", "address"),
        ("mtu", "mtu"),
        ("txqlen", "txqlen"),
        ("alias", "ifalias"),
        ("group", "group"),
        ("master", "master"),
    ] {
        seen.insert(attribute.to_owned(), link.get(key).map_or_else(|| "none".to_owned(), plain));
    }
    let words = |key| {
        let list = link.get(key).and_then(Value::as_array);
        let mut words: Vec<_> = list.into_iter().flatten().map(plain).collect();
        words.sort_unstable();
        words
    };
    let altnames = words("altnames");
    seen.insert(
        "altnames".to_owned(),
        if altnames.is_empty() { "none".to_owned() } else { altnames.join(" ") },
    );
    let flags = words("flags");
    for (attribute, flag) in [("up", "UP"), ("promiscuous", "PROMISC"), ("all_multicast", "ALLMULTI")] {
        seen.insert(attribute.to_owned(), flags.iter().any(|set| set == flag).to_string());
    }
    seen
}

fn link_target(link: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_link(link) {
        Ok(target) => Ok(target.file_name().map(|name| name.to_string_lossy().into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow!(error).context(format!("cannot read the link {}", link.display()))),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// Turns nested JSON into `prefix.key.0.key = value`.
pub(crate) fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| flatten(&format!("{prefix}.{key}"), value, into));
        }
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(index, value)| flatten(&format!("{prefix}.{index}"), value, into)),
        _ => drop(into.insert(prefix.to_owned(), plain(value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nics(entries: &[(&str, &str, &str)]) -> Nics {
        let mut nics = Nics::default();
        for (address, attribute, value) in entries {
            nics.0
                .entry((*address).to_owned())
                .or_default()
                .insert((*attribute).to_owned(), (*value).to_owned());
        }
        nics
    }

    #[test]
    fn equal_observations_differ_in_nothing() {
        let seen = nics(&[("0000:01:10.0", "mtu", "1400")]);
        assert!(seen.differences(&seen).is_empty());
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        let was = nics(&[("a", "mtu", "1400"), ("a", "name", "eth0"), ("b", "mtu", "1500")]);
        let is = nics(&[("a", "mtu", "1500"), ("a", "state", "up"), ("c", "mtu", "1500")]);
        assert_eq!(
            was.differences(&is).to_string(),
            "a mtu was 1400, is 1500; a name was eth0, is not there; a state was not there, is up; b is gone; c is new"
        );
    }

    #[test]
    fn nested_json_becomes_flat() {
        let mut flat = BTreeMap::new();
        flatten(
            "admin",
            &serde_json::json!({"vf": 1, "vlan_list": [{"vlan": 100}], "trust": false}),
            &mut flat,
        );
        let expected = [("admin.trust", "false"), ("admin.vf", "1"), ("admin.vlan_list.0.vlan", "100")];
        assert_eq!(flat, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }
}
