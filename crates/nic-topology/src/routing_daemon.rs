//! Whose a route is, by the protocol that it was made with.

use std::borrow::Cow;

/// Who makes a route of this protocol again, where that is a routing daemon; `None` where nobody does: an administrator has made it, a
/// DHCP client that looks after its lease alone, or the kernel (`RTPROT_*` in include/uapi/linux/rtnetlink.h).
///
/// A number that is in no list belongs to some program, too: what an administrator makes is `boot` or `static`.
pub(crate) fn routing_daemon(protocol: u8) -> Option<Cow<'static, str>> {
    let name = match protocol {
        // unspec, redirect, kernel, boot, static, dhcp
        0..=4 | 16 => return None,
        8 => "gated",
        9 => "the router that advertised it",
        10 => "mrt",
        11 => "zebra",
        12 => "bird",
        13 => "dnrouted",
        14 => "xorp",
        15 => "ntk",
        17 => "mrouted",
        18 => "keepalived",
        42 => "babeld",
        84 => "ovn",
        99 => "openr",
        186 => "bgpd",
        187 => "isisd",
        188 => "ospfd",
        189 => "ripd",
        192 => "eigrpd",
        other => return Some(Cow::Owned(format!("whoever makes routes of protocol {other}"))),
    };
    Some(Cow::Borrowed(name))
}
