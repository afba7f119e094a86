//! What a link's driver says of itself. ethtool's netlink family has no message for it, so this is the one question
//! that is asked by ioctl.
#![expect(
    unsafe_code,
    reason = "SIOCETHTOOL takes a pointer in its argument, for which rustix has no safe wrapper"
)]

use std::ffi::c_void;
use std::io;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
use serde::{Deserialize, Serialize};

use crate::{IfIndex, LinkName};

/// What a driver says of itself, as `ethtool -i` prints it.
///
/// A driver that declares no version has that of the kernel (`ethtool_get_drvinfo` in `net/ethtool/ioctl.c`, since 5.8),
/// so that the drivers of the kernel's own tree mostly report its release, and those of vendors their own version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverInfo {
    /// The driver's name. Not always that of its module: IPoIB's netdevs say `mlx5_core[ib_ipoib]`.
    pub driver: String,
    /// The driver's version, such as `24.10-1.1.4`, or the kernel's for a driver without one.
    pub version: String,
    /// The firmware's version; empty where the driver reports none.
    pub firmware_version: String,
}

/// A driver that does not answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot ask the driver of {link} for its version")]
pub struct DriverInfoError {
    /// The link.
    pub link: IfIndex,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl DriverInfo {
    /// Asks the driver of a link of this network namespace; `None` for a link without one.
    ///
    /// The kernel takes a name and no index here. The name is read right before, and when the link has another one by
    /// then, the answer is of no link or of another one: good enough to be shown, not to decide on.
    pub fn read(link: IfIndex) -> Result<Option<Self>, DriverInfoError> {
        match Self::ask(link) {
            Ok(info) => Ok(Some(info)),
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(DriverInfoError { link, source: error.into() }),
        }
    }

    fn ask(link: IfIndex) -> rustix::io::Result<Self> {
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let name = netdevice::index_to_name(&socket, link.0)?;
        let name: LinkName = name.parse().map_err(|_| rustix::io::Errno::INVAL)?;
        // SAFETY: `Request` says what the kernel reads and writes for this command.
        unsafe { ioctl(&socket, Request::new(&name)) }
    }
}

/// `struct ethtool_drvinfo` of `linux/ethtool.h`.
#[repr(C)]
struct DrvInfo {
    command: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware_version: [u8; 32],
    bus_info: [u8; 32],
    expansion_rom_version: [u8; 32],
    reserved: [u8; 12],
    counts: [u32; 5],
}

/// `struct ifreq` of `linux/if.h`, with the pointer that this command takes.
#[repr(C)]
struct IfReq {
    name: [u8; 16],
    data: *mut DrvInfo,
    /// The other members of the union are longer than a pointer.
    rest: [u8; 24 - size_of::<*mut c_void>()],
}

/// The whole of a question: the kernel finds the second part through the first.
struct Request {
    interface: IfReq,
    answer: Box<DrvInfo>,
}

impl Request {
    fn new(name: &LinkName) -> Self {
        const ETHTOOL_GDRVINFO: u32 = 0x3;
        let mut interface =
            IfReq { name: [0; 16], data: std::ptr::null_mut(), rest: [0; 24 - size_of::<*mut c_void>()] };
        // A link's name has at most 15 bytes: a zero stays behind it.
        for (to, from) in interface.name.iter_mut().zip(name.as_str().bytes()) {
            *to = from;
        }
        let answer = DrvInfo {
            command: ETHTOOL_GDRVINFO,
            driver: [0; 32],
            version: [0; 32],
            firmware_version: [0; 32],
            bus_info: [0; 32],
            expansion_rom_version: [0; 32],
            reserved: [0; 12],
            counts: [0; 5],
        };
        Self { interface, answer: Box::new(answer) }
    }
}

// SAFETY: SIOCETHTOOL (`dev_ethtool` in `net/ethtool/ioctl.c`) reads a `struct ifreq`, and for ETHTOOL_GDRVINFO it
// copies one `struct ethtool_drvinfo` to where that points: into `answer`, which lives as long as the request.
unsafe impl Ioctl for Request {
    type Output = DriverInfo;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        const SIOCETHTOOL: Opcode = 0x8946;
        SIOCETHTOOL
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.interface.data = &raw mut *self.answer;
        (&raw mut self.interface).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, interface: *mut c_void) -> rustix::io::Result<DriverInfo> {
        // SAFETY: it is the pointer that `as_ptr` returned, and the request still lives (`rustix::ioctl::ioctl`).
        let info = unsafe { &*(*interface.cast::<IfReq>()).data };
        Ok(DriverInfo {
            driver: text(&info.driver),
            version: text(&info.version),
            firmware_version: text(&info.firmware_version),
        })
    }
}

/// A text up to its zero. Some drivers fill the whole field.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_structures() {
        // As the C compiler lays them out.
        assert_eq!((size_of::<DrvInfo>(), size_of::<IfReq>()), (196, 40));
        assert_eq!(text(b"igb\0junk"), "igb");
        assert_eq!(text(&[b'x'; 32]), "x".repeat(32));
    }

    #[test]
    fn a_link_without_a_driver_and_one_that_is_not_there() {
        // The loopback device has no ethtool operations of a driver's.
        let loopback = DriverInfo::read(IfIndex(1)).unwrap();
        assert!(loopback.is_none_or(|info| info.driver.is_empty() || info.driver == "loopback"));
        let error = DriverInfo::read(IfIndex(u32::MAX >> 1)).unwrap_err();
        assert!(error.to_string().starts_with("cannot ask the driver of "), "{error}");
        assert_eq!(error.source.raw_os_error(), Some(rustix::io::Errno::NODEV.raw_os_error()));
    }
}
