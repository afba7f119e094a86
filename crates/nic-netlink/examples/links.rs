//! Prints the network interfaces with the attributes of their virtual functions.
//!
//! `cargo run -p nic-netlink --example links` for a table, with `-- --json` for the form that
//! [`nic_netlink::Links::recorded`] reads.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write};

use nic_host::Host;
use nic_netlink::{Devlink, Link, LinkLayer, Netlink, Setting, VfAttributes, VfList, udev_state};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let netlink = Netlink::connect()?;
    let links = netlink.links().await?;
    let mut vfs = BTreeMap::new();
    for link in links.iter() {
        vfs.extend(netlink.vfs(link.index).await?.map(|list| (link.index, list)));
    }
    let mut out = io::stdout().lock();
    if std::env::args().nth(1).as_deref() == Some("--json") {
        let mut recording = Vec::new();
        for link in links.iter() {
            let mut recorded = serde_json::to_value(link)?;
            if let (Some(list), Some(fields)) = (vfs.get(&link.index), recorded.as_object_mut()) {
                fields.insert("num_vf".to_owned(), list.count().into());
                fields.insert("vfs".to_owned(), serde_json::to_value(list.iter().collect::<Vec<_>>())?);
            }
            recording.push(recorded);
        }
        serde_json::to_writer_pretty(&mut out, &recording)?;
        writeln!(out)?;
        return Ok(());
    }
    let host = Host::running();
    for link in links.iter() {
        let udev = udev_state(&host, link.index)?;
        show(&mut out, link, vfs.get(&link.index), &format!("{udev:?}"))?;
    }
    let devlink = Devlink::connect()?;
    for device in devlink.devices().await? {
        writeln!(out, "{device}: {:?}", devlink.eswitch(&device).await?)?;
        for port in devlink.ports(Some(&device)).await? {
            let name = port.netdev_name.as_deref().unwrap_or("-");
            writeln!(out, "    port {} {:?} {name}", port.index, port.flavour)?;
        }
    }
    Ok(())
}

fn show(out: &mut impl Write, link: &Link, vfs: Option<&VfList>, udev: &str) -> io::Result<()> {
    let layer = match link.link_layer {
        LinkLayer::Ethernet => "ethernet".to_owned(),
        LinkLayer::InfiniBand => "infiniband".to_owned(),
        LinkLayer::Other(number) => format!("type {number}"),
    };
    let state = if link.up { "up" } else { "down" };
    writeln!(
        out,
        "{}: {} {layer} {} mtu {} {state} udev {udev}",
        link.index, link.name, link.address, link.mtu
    )?;
    if let (Some(bus), Some(device)) = (&link.parent_bus, &link.parent_device) {
        let port = link.phys_port_name.as_deref().unwrap_or("-");
        writeln!(out, "    on {bus}/{device} port {port}, {} VFs", vfs.map_or(0, VfList::count))?;
    }
    vfs.into_iter().flat_map(VfList::iter).try_for_each(|vf| show_vf(out, vf))
}

fn show_vf(out: &mut impl Write, vf: &VfAttributes) -> io::Result<()> {
    let switch = |setting: &Setting<bool>| match setting {
        Setting::Set(true) => "on",
        Setting::Set(false) => "off",
        Setting::NotSet => "not set",
        Setting::NotThere => "unsupported",
        Setting::NotKnown(_) => "not known",
    };
    writeln!(
        out,
        "    vf {}: mac {}, vlan {}, spoofchk {}, trust {}, query_rss {}, state {}, rate {} to {} Mbit/s, GUIDs {} {}",
        vf.index,
        vf.mac,
        vf.vlan,
        switch(&vf.spoof_check),
        switch(&vf.trust),
        switch(&vf.query_rss),
        vf.link_state,
        vf.min_tx_rate,
        vf.max_tx_rate,
        vf.node_guid,
        vf.port_guid,
    )
}
