//! What a Linux NIC stack says over netlink.
//!
//! - [`Netlink`] reads links ([`Link`]) and what PFs' drivers say of their SR-IOV virtual functions ([`VfList`], [`VfAttributes`]), and
//!   changes them ([`LinkChange`], [`VfChange`]);
//! - it also reads what stands on links and adds to it ([`NetworkChange`]): IP addresses, routes, rules, permanent
//!   neighbours, and links on links ([`StackedLink`]);
//! - [`LinkEvents`] tells what happens to links, [`UdevMonitor`] what udev has done with them, [`Changes`] both;
//! - [`udev_state`] tells whether udev is done with a link, its renaming included;
//! - [`Devlink`] reads and changes the eswitch, and lists devices and ports;
//! - [`Ethtool`] reads and changes what drivers let one set of a device: offloads, channels, rings, FEC and the like;
//! - [`DriverInfo`] is what a link's driver says of itself. Netlink has no message for that: it is asked by ioctl.
//!
//! No external program is started. Links are identified by [`IfIndex`], which outlives renames.
//!
//! What it is not: it knows neither sysfs nor PCI, creates no virtual functions and decides nothing.
//!
//! Netlink speaks of the running kernel, in the network namespace of the thread that connects. A tree that stands for
//! another machine has its links recorded in a file: [`Links::recorded`].
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use nic_netlink::{MacAddress, Netlink, VfChange};
//!
//! let netlink = Netlink::connect()?;
//! for pf in netlink.links().await?.iter() {
//!     let Some(vfs) = netlink.vfs(pf.index).await? else { continue };
//!     for vf in vfs.iter().filter(|vf| vf.mac.as_set().is_none()) {
//!         let mac = MacAddress([0x02, 0, 0, 0, 0, u8::try_from(vf.index)?]);
//!         netlink.change_vf(pf.index, vf.index, &VfChange::Mac(mac)).await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Start reading at [`Netlink`] and [`Link`].

mod netlink;

mod rdma;
mod setting;

mod ipoib;
mod link;
mod link_limits;
mod links;
mod vf;
mod vf_list;
mod xdp_sockets;

mod change;

mod identity;
mod phys_port;

mod namespaces;
mod network;

mod changes;
mod events;
mod udev_monitor;
mod udev_state;

mod devlink;

mod driver_info;
mod ethtool;

mod generic;

mod connection;

mod attached;
mod attributes;
mod body;
mod decode;
mod decode_vf;

pub use attached::{Attached, AttachedError};
pub use attributes::MalformedError;
pub use change::{LinkChange, VfChange};
pub use changes::{Change, Changes, SubscribeError};
pub use connection::{ConnectError, RequestError};
pub use devlink::{
    Devlink, DevlinkError, DevlinkHandle, DevlinkPort, EncapMode, Eswitch, EswitchChange, EswitchError,
    EswitchMode, InlineMode, PortFlavour, PortType,
};
pub use driver_info::{DriverInfo, DriverInfoError};
pub use ethtool::{Ethtool, EthtoolError, EthtoolGroup, EthtoolSettings, EthtoolValue};
pub use events::{EventsEnded, LinkEvent, LinkEvents};
pub use identity::{Guid, IfIndex, LinkAddress, LinkName, MacAddress, ParseIdentityError, PhysSwitchId};
pub use ipoib::{Ipoib, IpoibMode};
pub use link::{Link, LinkLayer, OperState};
pub use link_limits::{HIGHEST_INT, ensure_address_fits, ensure_alias_fits, is_altname};
pub use links::{Links, RecordedLinksError};
pub use namespaces::{Elsewhere, LinkElsewhere};
pub use netlink::{ChangeError, LinkError, LinksError, Netlink, VfChangeError};
pub use network::{
    About, Address, AddressFlags, ChildKind, Encapsulation, ForwardingEntry, HexBytes, IpVersion, Listed,
    Neighbour, NetworkChange, NetworkChangeError, NetworkEvents, NetworkReadError, NewChild, NextHop, Port,
    Prefix, QosMapping, RawAttribute, Rebinding, Route, Rule, StackedLink, Standing, Tunnel, UnreadEntry,
};
pub use phys_port::{PhysPort, PhysPortName};
pub use rdma::{Rdma, RdmaError};
pub use setting::{Agreement, Setting, Unread};
pub use udev_monitor::{UdevEvent, UdevMonitor, UdevMonitorError};
pub use udev_state::{UdevEntry, UdevState, UdevStateError, udev_is_hidden, udev_queue_is_empty, udev_state};
pub use vf::{VfAttributes, VfLinkState, VlanProtocol, VlanTag};
pub use vf_list::{UnreadVf, VfList};
pub use xdp_sockets::{XdpSocket, XdpSocketsError};
