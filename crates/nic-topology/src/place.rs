//! Reading what becomes of a link. What serde derives for a tag among an object's fields takes all of them in first, and then no longer knows
//! which one is wrong: a snapshot's reader wants it named.

use nic_netlink::{ChildKind, IfIndex, Tunnel};
use serde::Deserialize;
use serde::de::Error;

use crate::Place;

/// All fields of all kinds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    place: Kind,
    lower: Option<IfIndex>,
    child: Option<ChildKind>,
    tunnel: Option<Tunnel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Device,
    Child,
    LostChild,
    Stays,
    Bound,
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Fields { place, lower, child, tunnel } = Fields::deserialize(deserializer)?;
        let has_child = child.is_some();
        let needed = |lower: Option<IfIndex>| lower.ok_or_else(|| D::Error::missing_field("lower"));
        let read = match place {
            Kind::Device if lower.is_some() => {
                return Err(D::Error::custom("lower: a device stands on no link"));
            }
            Kind::Device => Self::Device,
            Kind::Child => {
                let child = child.ok_or_else(|| D::Error::missing_field("child"))?;
                Self::Child { lower: needed(lower)?, child }
            }
            Kind::LostChild => Self::LostChild { lower: needed(lower)? },
            Kind::Stays => Self::Stays { lower },
            Kind::Bound => return Self::bound(needed(lower)?, has_child, tunnel).map_err(D::Error::custom),
        };
        if tunnel.is_some() {
            return Err(D::Error::custom("tunnel: only a link that is bound has one"));
        }
        if has_child && !matches!(read, Self::Child { .. }) {
            return Err(D::Error::custom("child: only a child has one"));
        }
        Ok(read)
    }
}

impl Place {
    fn bound(lower: IfIndex, has_child: bool, tunnel: Option<Tunnel>) -> Result<Self, &'static str> {
        if has_child { Err("child: only a child has one") } else { Ok(Self::Bound { lower, tunnel }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trial_w11_a_place_is_read_and_what_does_not_belong_is_named() {
        let lower = IfIndex(3);
        for place in [
            Place::Device,
            Place::LostChild { lower },
            Place::Stays { lower: None },
            Place::Stays { lower: Some(lower) },
            Place::Bound { lower, tunnel: None },
            Place::Child { lower, child: ChildKind::Ipoib { pkey: 1, mode: 1, user_multicast: 0 } },
        ] {
            let text = serde_json::to_string(&place).unwrap();
            assert_eq!(serde_json::from_str::<Place>(&text).unwrap(), place, "{text}");
        }
        for (text, told) in [
            (r#"{"place":"device","lower":3}"#, "lower"),
            (r#"{"place":"lost_child"}"#, "lower"),
            (r#"{"place":"child","lower":3}"#, "child"),
            (r#"{"place":"stays","child":{"kind":"ipoib","pkey":1,"mode":1,"user_multicast":0}}"#, "child"),
            (r#"{"place":"bound","lower":3,"more":1}"#, "more"),
            (r#"{"place":"elsewhere"}"#, "elsewhere"),
        ] {
            let error = serde_json::from_str::<Place>(text).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
