//! What a link has to do with the one below it, by the rules of its kind. The only place that knows kinds by name for it.

use serde::{Deserialize, Serialize};

use super::raw::RawAttribute;
use crate::attributes::{Attributes, MalformedError};
use crate::body::Body;
use crate::change::RTM_NEWLINK;
use crate::connection::RawMessage;
use crate::decode::{IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU};
use crate::{IfIndex, Link};

/// What becomes of a link when the one below it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Standing {
    /// It says that it stands on none, or on one in another network namespace.
    #[default]
    Alone,
    /// The kernel removes it with the last of these.
    GoesWith(Vec<IfIndex>),
    /// The kernel keeps it, bound to the index of an interface that is gone.
    BoundTo {
        /// The interface that it sends through.
        lower: IfIndex,
        /// What it is bound to another one with; `None` for a kind that the kernel binds but once.
        tunnel: Option<Tunnel>,
    },
    /// It names this one, and nothing here knows what the kernel does then.
    NotKnown(IfIndex),
}

impl Standing {
    /// The links below it.
    #[must_use]
    pub fn lowers(&self) -> &[IfIndex] {
        match self {
            Self::Alone => &[],
            Self::GoesWith(lowers) => lowers,
            Self::BoundTo { lower, .. } | Self::NotKnown(lower) => std::slice::from_ref(lower),
        }
    }
}

/// All parameters of a tunnel but the interface that it sends through.
///
/// The kernel sets those that a change does not name to zero (`ipgre_netlink_parms` in `net/ipv4/ip_gre.c`, and its like),
/// so that all are given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    /// The kernel's word for its kind, such as `gretap`.
    pub kind: String,
    /// The parameters, as the kernel said them.
    pub parameters: Vec<RawAttribute>,
}

/// A tunnel to be bound to another interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebinding {
    /// The tunnel.
    pub index: IfIndex,
    /// What it is.
    pub tunnel: Tunnel,
    /// The interface that it is to send through.
    pub lower: IfIndex,
    /// Its largest payload in bytes: the kernel would compute another.
    pub mtu: u32,
}

/// `IFLA_GRE_LINK`, `IFLA_IPTUN_LINK` and `IFLA_VTI_LINK` of `include/uapi/linux/if_tunnel.h` have one number.
const IFLA_TUNNEL_LINK: u16 = 1;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_AMT_LINK: u16 = 4;
const IFLA_HSR_SLAVE1: u16 = 1;
const IFLA_HSR_SLAVE2: u16 = 2;

/// By the link's kind and its `IFLA_INFO_DATA`.
pub(super) fn standing(link: &Link, data: Option<Attributes<'_>>) -> Result<Standing, MalformedError> {
    // An index of another namespace says nothing here.
    let here = link.link_netns_id.is_none();
    let named = link.link.filter(|_| here);
    let in_data = |numbers: &[u16]| {
        let mut lowers = Vec::new();
        for number in numbers {
            let found = data.map(|data| data.find(*number)).transpose()?.flatten();
            let lower = found.map(|found| found.u32()).transpose()?.filter(|index| *index != 0 && here);
            lowers.extend(lower.map(IfIndex));
        }
        Ok::<_, MalformedError>(if lowers.is_empty() { Standing::Alone } else { Standing::GoesWith(lowers) })
    };
    let goes =
        |lower: Option<IfIndex>| lower.map_or(Standing::Alone, |lower| Standing::GoesWith(vec![lower]));
    Ok(match link.kind.as_deref() {
        // Both ends of a pair name each other, and neither stands on the other.
        Some("veth" | "netkit" | "vxcan") => Standing::Alone,
        // Each removes its links when NETDEV_UNREGISTER comes from the one below (net/8021q/vlan.c,
        // drivers/net/macvlan.c, drivers/net/ipvlan/ipvlan_main.c, drivers/net/macsec.c, drivers/net/ethernet/qualcomm/rmnet,
        // drivers/net/wireless/virtual/virt_wifi.c, net/ieee802154/6lowpan); an IPoIB child goes with its port's driver.
        Some(
            "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap" | "ipoib" | "macsec" | "rmnet" | "virt_wifi"
            | "lowpan",
        ) => goes(named),
        // No `ndo_get_iflink`, so no IFLA_LINK (`vxlan_handle_lowerdev_unregister` in drivers/net/vxlan/vxlan_core.c,
        // `amt_device_event` in drivers/net/amt.c).
        Some("vxlan") => in_data(&[IFLA_VXLAN_LINK])?,
        Some("amt") => in_data(&[IFLA_AMT_LINK])?,
        // With its last port (`hsr_netdev_notify` in net/hsr/hsr_main.c).
        Some("hsr") => in_data(&[IFLA_HSR_SLAVE1, IFLA_HSR_SLAVE2])?,
        // `ip_tunnel_get_iflink` and `ip6_tnl_get_iflink` answer with a parameter; no notifier looks at it.
        Some(
            kind @ ("gre" | "gretap" | "erspan" | "ip6gre" | "ip6gretap" | "ip6erspan" | "ipip" | "sit"
            | "ip6tnl" | "vti" | "vti6"),
        ) => match named {
            Some(lower) => Standing::BoundTo { lower, tunnel: Some(tunnel(kind, data)?) },
            None => Standing::Alone,
        },
        // `xfrmi_change` refuses another link (net/xfrm/xfrm_interface_core.c).
        Some("xfrm") => named.map_or(Standing::Alone, |lower| Standing::BoundTo { lower, tunnel: None }),
        _ => named.map_or(Standing::Alone, Standing::NotKnown),
    })
}

fn tunnel(kind: &str, data: Option<Attributes<'_>>) -> Result<Tunnel, MalformedError> {
    let mut parameters = Vec::new();
    for attribute in data.into_iter().flatten() {
        let attribute = attribute?;
        if attribute.kind != IFLA_TUNNEL_LINK {
            parameters.push(RawAttribute::of(&attribute));
        }
    }
    Ok(Tunnel { kind: kind.to_owned(), parameters })
}

pub(super) fn rebinding(wanted: &Rebinding) -> RawMessage {
    let index = wanted.index.0.to_ne_bytes();
    let mut body = Body::new(&[[0; 4], index, [0; 4], [0; 4]].concat());
    body.u32(IFLA_MTU, wanted.mtu);
    body.nested(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, &wanted.tunnel.kind);
        info.nested(IFLA_INFO_DATA, |data| {
            data.u32(IFLA_TUNNEL_LINK, wanted.lower.0).raw(&wanted.tunnel.parameters);
        });
    });
    RawMessage { kind: RTM_NEWLINK, body: body.finish() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Body::new(&[]);
        for (number, value) in attributes {
            body.bytes(*number, value);
        }
        body.finish()
    }

    fn link(kind: Option<&str>, lower: Option<u32>) -> Link {
        Link {
            kind: kind.map(str::to_owned),
            link: lower.map(IfIndex),
            ..Link::new(IfIndex(9), "x0".parse().unwrap())
        }
    }

    /// What a kind with a lower link 3, named by `IFLA_LINK` or in its data, is to it.
    #[test]
    fn fault_6_2_what_goes_and_what_stays_is_by_kind() {
        let three = 3_u32.to_ne_bytes();
        let goes = Standing::GoesWith(vec![IfIndex(3)]);
        for kind in [
            "vlan",
            "macvlan",
            "macvtap",
            "ipvlan",
            "ipvtap",
            "ipoib",
            "macsec",
            "rmnet",
            "virt_wifi",
            "lowpan",
        ] {
            assert_eq!(standing(&link(Some(kind), Some(3)), None), Ok(goes.clone()), "{kind}");
            assert_eq!(standing(&link(Some(kind), None), None), Ok(Standing::Alone), "{kind}");
        }
        for (kind, number) in [("vxlan", 3), ("amt", 4), ("hsr", 1), ("hsr", 2)] {
            let data = data(&[(number, &three)]);
            assert_eq!(
                standing(&link(Some(kind), None), Some(Attributes::new(&data))),
                Ok(goes.clone()),
                "{kind}"
            );
            assert_eq!(standing(&link(Some(kind), None), None), Ok(Standing::Alone), "{kind}");
        }
        let ports = data(&[(1, &three), (2, &4_u32.to_ne_bytes())]);
        let both = Standing::GoesWith(vec![IfIndex(3), IfIndex(4)]);
        assert_eq!(standing(&link(Some("hsr"), None), Some(Attributes::new(&ports))), Ok(both));
        for kind in [
            "gre",
            "gretap",
            "erspan",
            "ip6gre",
            "ip6gretap",
            "ip6erspan",
            "ipip",
            "sit",
            "ip6tnl",
            "vti",
            "vti6",
        ] {
            let data = data(&[(1, &three), (4, &[192, 0, 2, 9])]);
            let found = standing(&link(Some(kind), Some(3)), Some(Attributes::new(&data))).unwrap();
            let Standing::BoundTo { lower: IfIndex(3), tunnel: Some(tunnel) } = &found else {
                panic!("{kind}: {found:?}")
            };
            assert_eq!(tunnel.kind, kind);
            assert_eq!(tunnel.parameters.iter().map(|one| one.number).collect::<Vec<_>>(), [4], "{kind}");
        }
        let xfrm = Standing::BoundTo { lower: IfIndex(3), tunnel: None };
        assert_eq!(standing(&link(Some("xfrm"), Some(3)), None), Ok(xfrm));
        for kind in ["veth", "netkit", "vxcan"] {
            assert_eq!(standing(&link(Some(kind), Some(3)), None), Ok(Standing::Alone), "{kind}");
        }
        for kind in [None, Some("newkind")] {
            assert_eq!(standing(&link(kind, Some(3)), None), Ok(Standing::NotKnown(IfIndex(3))), "{kind:?}");
        }
        let elsewhere = Link { link_netns_id: Some(0), ..link(Some("vlan"), Some(3)) };
        assert_eq!(standing(&elsewhere, None), Ok(Standing::Alone));
    }

    #[test]
    fn fault_6_2_a_tunnel_is_bound_anew_with_all_its_parameters() {
        let remote = RawAttribute { number: 7, value: super::super::HexBytes(vec![192, 0, 2, 9]) };
        let tunnel = Tunnel { kind: "gretap".to_owned(), parameters: vec![remote] };
        let message = rebinding(&Rebinding { index: IfIndex(9), tunnel, lower: IfIndex(103), mtu: 1400 });
        let attributes = Attributes::new(&message.body[16..]);
        assert_eq!(message.body[4..8], 9_u32.to_ne_bytes());
        assert_eq!(attributes.find(IFLA_MTU).unwrap().unwrap().u32(), Ok(1400));
        let info = attributes.find(IFLA_LINKINFO).unwrap().unwrap().nested();
        assert_eq!(info.find(IFLA_INFO_KIND).unwrap().unwrap().text(), "gretap");
        let data = info.find(IFLA_INFO_DATA).unwrap().unwrap().nested();
        assert_eq!(data.find(1).unwrap().unwrap().u32(), Ok(103));
        assert_eq!(data.find(7).unwrap().unwrap().value, [192, 0, 2, 9]);
    }
}
