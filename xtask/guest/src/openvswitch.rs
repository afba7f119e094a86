//! A datapath of Open vSwitch, made as its daemon makes it: its netdev takes a port from that daemon alone, and not from whoever
//! sets the port's master (`do_set_master` in net/core/rtnetlink.c asks for `ndo_add_slave`, which
//! net/openvswitch/vport-internal_dev.c does not have).

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, socket_with};

use crate::command::run;
use crate::read;

// include/uapi/linux/netlink.h, genetlink.h, openvswitch.h
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST_AND_ACK: u16 = 1 | 4;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const OVS_DP_CMD_NEW: u8 = 1;
const OVS_DP_ATTR_NAME: u16 = 1;
const OVS_DP_ATTR_UPCALL_PID: u16 = 2;
const OVS_VPORT_CMD_NEW: u8 = 1;
const OVS_VPORT_ATTR_TYPE: u16 = 2;
const OVS_VPORT_ATTR_NAME: u16 = 3;
const OVS_VPORT_ATTR_UPCALL_PID: u16 = 5;
const OVS_VPORT_TYPE_NETDEV: u32 = 1;

/// Headers of netlink and of generic netlink.
const HEADERS: usize = 20;

/// A datapath without flows: what comes in on its ports is dropped.
#[derive(Debug)]
pub(crate) struct Datapath {
    socket: OwnedFd,
    ports: u16,
    index: u32,
}

impl Datapath {
    /// Makes one, whose own netdev has this name.
    pub(crate) fn make(name: &str) -> anyhow::Result<Self> {
        run("modprobe", ["openvswitch"])?;
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::GENERIC),
        )
        .context("cannot make a socket of generic netlink")?;
        let family = |name: &str| family(&socket, name);
        let (datapaths, ports) = (family("ovs_datapath")?, family("ovs_vport")?);
        // No datapath yet; nobody is told of frames without a flow.
        let payload = [
            0_u32.to_ne_bytes().to_vec(),
            attribute(OVS_DP_ATTR_NAME, &text(name)),
            attribute(OVS_DP_ATTR_UPCALL_PID, &0_u32.to_ne_bytes()),
        ];
        request(&socket, datapaths, OVS_DP_CMD_NEW, &payload.concat())
            .with_context(|| format!("cannot make the datapath {name}"))?;
        let index = read(PathBuf::from("/sys/class/net").join(name).join("ifindex"))?;
        Ok(Self { socket, ports, index: index.parse().context("an ifindex is a number")? })
    }

    /// Makes a netdev its port.
    pub(crate) fn add_port(&self, netdev: &str) -> anyhow::Result<()> {
        let payload = [
            self.index.to_ne_bytes().to_vec(),
            attribute(OVS_VPORT_ATTR_TYPE, &OVS_VPORT_TYPE_NETDEV.to_ne_bytes()),
            attribute(OVS_VPORT_ATTR_NAME, &text(netdev)),
            attribute(OVS_VPORT_ATTR_UPCALL_PID, &0_u32.to_ne_bytes()),
        ];
        request(&self.socket, self.ports, OVS_VPORT_CMD_NEW, &payload.concat())
            .map(drop)
            .with_context(|| format!("cannot make {netdev} a port of the datapath"))
    }
}

/// The number of a family of generic netlink.
fn family(socket: &OwnedFd, name: &str) -> anyhow::Result<u16> {
    let asked = attribute(CTRL_ATTR_FAMILY_NAME, &text(name));
    let answer = request(socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &asked)
        .with_context(|| format!("the kernel has no {name}"))?;
    let id = find_attribute(&answer, CTRL_ATTR_FAMILY_ID);
    let id = id.and_then(|id| id.first_chunk()).with_context(|| format!("{name} has no number"))?;
    Ok(u16::from_ne_bytes(*id))
}

/// Asks, waits for the acknowledgement, and returns the payload of the answer before it, where there is one.
fn request(socket: &OwnedFd, kind: u16, command: u8, payload: &[u8]) -> anyhow::Result<Vec<u8>> {
    let length = u32::try_from(HEADERS + payload.len())?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(NLM_F_REQUEST_AND_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(payload);
    rustix::net::send(socket, &message, SendFlags::empty())?;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let (received, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = buffer.get(..received).unwrap_or_default();
        while !rest.is_empty() {
            let length = rest.first_chunk().map_or(0, |length| u32::from_ne_bytes(*length));
            let length = usize::try_from(length)?;
            ensure!(length >= HEADERS, "the kernel has sent a message of {length} bytes");
            let message = rest.get(..length).context("the kernel has sent less than it says")?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            if message.get(4..6) != Some(&NLMSG_ERROR.to_ne_bytes()) {
                answer = message.get(HEADERS..).unwrap_or_default().to_vec();
                continue;
            }
            let errno = message.get(16..20).and_then(|errno| errno.first_chunk());
            match errno.map(|errno| i32::from_ne_bytes(*errno)) {
                Some(0) => return Ok(answer),
                Some(errno) => bail!(Errno::from_raw_os_error(-errno)),
                None => bail!("the kernel's acknowledgement is cut off"),
            }
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), number.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn find_attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let [length_low, length_high, low, high, ..] = bytes {
        let length = usize::from(u16::from_ne_bytes([*length_low, *length_high]));
        let value = bytes.get(4..length)?;
        if u16::from_ne_bytes([*low, *high]) == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_found_behind_others() {
        let bytes = [attribute(2, &text("ovs_vport")), attribute(1, &33_u16.to_ne_bytes())].concat();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(find_attribute(&bytes, 1), Some(&33_u16.to_ne_bytes()[..]));
        assert_eq!(find_attribute(&bytes, 2), Some(&b"ovs_vport\0"[..]));
        assert_eq!(find_attribute(&bytes, 3), None);
        assert_eq!(find_attribute(&bytes[..10], 1), None, "cut off");
    }
}
