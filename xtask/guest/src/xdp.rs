//! A socket of AF_XDP on a netdev, and a process that has it.

use std::path::Path;

use anyhow::Context as _;
use rustix::net::sockopt::{
    set_xdp_rx_ring_size, set_xdp_umem_completion_ring_size, set_xdp_umem_fill_ring_size, set_xdp_umem_reg,
};
use rustix::net::xdp::{SocketAddrXdp, SocketAddrXdpFlags, XdpUmemReg, XdpUmemRegFlags};
use rustix::net::{AddressFamily, SocketType, bind, socket};

use crate::read;
use crate::vfio::{Opened, hold};

/// The size of a page and of a packet's place.
const CHUNK: u32 = 4096;
const CHUNKS: u32 = 4;
const RING: u32 = 64;

/// A process that has such a socket.
pub(crate) struct XdpUser {
    process: Opened,
    /// What the kernel would put packets into, if a program sent it some.
    _memory: Vec<u8>,
}

/// Binds a socket to the first queue of a netdev, without the driver's help, as any netdev can be had.
pub(crate) fn open_xdp(netdev: &str) -> anyhow::Result<XdpUser> {
    let interface = read(Path::new("/sys/class/net").join(netdev).join("ifindex"))?;
    let interface = interface.parse().with_context(|| format!("{interface:?} is no ifindex"))?;
    let memory = vec![0; usize::try_from(CHUNK * (CHUNKS + 1))?];
    // At the beginning of a page.
    let addr = u64::try_from(memory.as_ptr().addr())?.next_multiple_of(CHUNK.into());
    let umem = XdpUmemReg {
        addr,
        len: (CHUNK * CHUNKS).into(),
        chunk_size: CHUNK,
        headroom: 0,
        flags: XdpUmemRegFlags::empty(),
        tx_metadata_len: 0,
    };
    let open = || {
        let socket = socket(AddressFamily::XDP, SocketType::RAW, None)?;
        set_xdp_umem_reg(&socket, umem)?;
        set_xdp_umem_fill_ring_size(&socket, RING)?;
        set_xdp_umem_completion_ring_size(&socket, RING)?;
        set_xdp_rx_ring_size(&socket, RING)?;
        bind(&socket, &SocketAddrXdp::new(SocketAddrXdpFlags::XDP_COPY, interface, 0))?;
        rustix::io::Result::Ok(socket)
    };
    let socket = open().with_context(|| format!("cannot open a socket of AF_XDP on {netdev}"))?;
    let process = hold(socket, Path::new("a socket of AF_XDP"))?;
    Ok(XdpUser { process, _memory: memory })
}

impl XdpUser {
    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Closes it; an error when the process has not lived until now.
    pub(crate) fn let_go(self) -> anyhow::Result<()> {
        self.process.let_go()
    }
}
