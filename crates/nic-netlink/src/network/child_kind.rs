//! Reading a child's kind. What serde derives for a tag among an object's fields takes all of them in first, and then no longer knows which one
//! is wrong: a snapshot's reader wants it named.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::raw::RawAttribute;
use super::stacked::{ChildKind, QosMapping};
use crate::{MacAddress, VlanProtocol};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Vlan,
    Macvlan,
    Ipvlan,
    Ipoib,
    Vxlan,
}

/// All fields of all kinds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    kind: Kind,
    id: Option<u16>,
    protocol: Option<VlanProtocol>,
    flags: Option<u32>,
    ingress_qos: Option<Vec<QosMapping>>,
    egress_qos: Option<Vec<QosMapping>>,
    tap: Option<bool>,
    mode: Option<u32>,
    sources: Option<Vec<MacAddress>>,
    broadcast_queue: Option<u32>,
    pkey: Option<u16>,
    user_multicast: Option<u16>,
    attributes: Option<Vec<RawAttribute>>,
}

impl Fields {
    /// The names of the fields that are there, but for the kind.
    fn present(&self) -> Vec<&'static str> {
        let there = [
            ("id", self.id.is_some()),
            ("protocol", self.protocol.is_some()),
            ("flags", self.flags.is_some()),
            ("ingress_qos", self.ingress_qos.is_some()),
            ("egress_qos", self.egress_qos.is_some()),
            ("tap", self.tap.is_some()),
            ("mode", self.mode.is_some()),
            ("sources", self.sources.is_some()),
            ("broadcast_queue", self.broadcast_queue.is_some()),
            ("pkey", self.pkey.is_some()),
            ("user_multicast", self.user_multicast.is_some()),
            ("attributes", self.attributes.is_some()),
        ];
        there.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
    }
}

fn fields_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Vlan => &["id", "protocol", "flags", "ingress_qos", "egress_qos"],
        Kind::Macvlan => &["tap", "mode", "flags", "sources", "broadcast_queue"],
        Kind::Ipvlan => &["tap", "mode", "flags"],
        Kind::Ipoib => &["pkey", "mode", "user_multicast"],
        Kind::Vxlan => &["attributes"],
    }
}

fn needed<T, E: Error>(name: &'static str, value: Option<T>) -> Result<T, E> {
    value.ok_or_else(|| E::missing_field(name))
}

fn short<E: Error>(name: &'static str, value: Option<u32>) -> Result<u16, E> {
    let value = needed(name, value)?;
    u16::try_from(value).map_err(|_| E::custom(format_args!("{name}: {value} is above {}", u16::MAX)))
}

impl<'de> Deserialize<'de> for ChildKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Fields::deserialize(deserializer)?;
        let own = fields_of(fields.kind);
        if let Some(other) = fields.present().into_iter().find(|name| !own.contains(name)) {
            return Err(D::Error::unknown_field(other, own));
        }
        Ok(match fields.kind {
            Kind::Vlan => Self::Vlan {
                id: needed("id", fields.id)?,
                protocol: needed("protocol", fields.protocol)?,
                flags: needed("flags", fields.flags)?,
                ingress_qos: fields.ingress_qos.unwrap_or_default(),
                egress_qos: fields.egress_qos.unwrap_or_default(),
            },
            Kind::Macvlan => Self::Macvlan {
                tap: needed("tap", fields.tap)?,
                mode: needed("mode", fields.mode)?,
                flags: short("flags", fields.flags)?,
                sources: fields.sources.unwrap_or_default(),
                broadcast_queue: fields.broadcast_queue,
            },
            Kind::Ipvlan => Self::Ipvlan {
                tap: needed("tap", fields.tap)?,
                mode: short("mode", fields.mode)?,
                flags: short("flags", fields.flags)?,
            },
            Kind::Ipoib => Self::Ipoib {
                pkey: needed("pkey", fields.pkey)?,
                mode: short("mode", fields.mode)?,
                user_multicast: needed("user_multicast", fields.user_multicast)?,
            },
            Kind::Vxlan => Self::Vxlan { attributes: needed("attributes", fields.attributes)? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HexBytes;

    #[test]
    fn trial_w11_a_childs_kind_is_read_and_a_wrong_field_of_it_is_named() {
        let qos = vec![QosMapping { from: 1, to: 3 }];
        let attributes = vec![RawAttribute { number: 1, value: HexBytes(vec![9, 0, 0, 0]) }];
        let protocol = VlanProtocol::Ieee8021Q;
        for kind in [
            ChildKind::Vlan { id: 5, protocol, flags: 1, ingress_qos: Vec::new(), egress_qos: qos },
            ChildKind::Macvlan { tap: true, mode: 4, flags: 1, sources: Vec::new(), broadcast_queue: None },
            ChildKind::Ipvlan { tap: false, mode: 2, flags: 1 },
            ChildKind::Ipoib { pkey: 0x8001, mode: 1, user_multicast: 0 },
            ChildKind::Vxlan { attributes },
        ] {
            let text = serde_json::to_string(&kind).unwrap();
            assert_eq!(serde_json::from_str::<ChildKind>(&text).unwrap(), kind, "{text}");
        }
        // A wrong type is refused where it stands, so that its place in the text is known.
        let text = "{\"kind\":\"vlan\",\"id\":70000,\n\"protocol\":\"802.1q\",\"flags\":1}";
        let error = serde_json::from_str::<ChildKind>(text).unwrap_err();
        assert!(error.line() == 1 && error.column() > 0, "{error}");
        for (text, told) in [
            (r#"{"kind":"vlan","id":5,"protocol":"802.1q","flags":1,"pkey":1}"#, "unknown field `pkey`"),
            (r#"{"kind":"vlan","id":5,"flags":1}"#, "missing field `protocol`"),
            (r#"{"kind":"ipvlan","tap":false,"mode":70000,"flags":1}"#, "mode: 70000"),
            (r#"{"kind":"wlan"}"#, "unknown variant `wlan`"),
            (r#"{"id":5}"#, "missing field `kind`"),
        ] {
            let error = serde_json::from_str::<ChildKind>(text).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
