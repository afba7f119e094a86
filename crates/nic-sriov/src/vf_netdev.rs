//! Reading a VF's netdev. What serde derives for a tag among an object's fields takes all of them in first, and then no longer knows which
//! one is wrong: a snapshot's reader wants it named.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, IntoDeserializer as _, MapAccess, Visitor};

use crate::{NetdevState, VfNetdev};

const TAG: &str = "presence";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Presence {
    Here,
    Unbound,
    OtherDriver,
    InNamespace,
    #[serde(rename = "away")]
    NotVisible,
}

impl<'de> Deserialize<'de> for VfNetdev {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NetdevVisitor)
    }
}

struct NetdevVisitor;

impl<'de> Visitor<'de> for NetdevVisitor {
    type Value = VfNetdev;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a VF's netdev, or why there is none")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<VfNetdev, A::Error> {
        let mut fields = Untagged { map, next: None, presence: None };
        // The tag comes first where this program has written it; then nothing else need come.
        fields.next = fields.next_key()?;
        let absent = match fields.presence {
            Some(Presence::Unbound) => VfNetdev::Unbound,
            Some(Presence::OtherDriver) => VfNetdev::OtherDriver,
            Some(Presence::InNamespace) => VfNetdev::InNamespace,
            Some(Presence::NotVisible) => VfNetdev::NotVisible,
            None | Some(Presence::Here) => {
                let netdev = NetdevState::deserialize(MapAccessDeserializer::new(&mut fields))?;
                return match fields.presence {
                    Some(Presence::Here) => Ok(VfNetdev::Here(netdev)),
                    Some(_) => Err(A::Error::custom(
                        "a netdev that is not here has no other fields than its presence",
                    )),
                    None => Err(A::Error::missing_field(TAG)),
                };
            }
        };
        match fields.next {
            None => Ok(absent),
            Some(field) => Err(A::Error::unknown_field(&field, &[TAG])),
        }
    }
}

/// An object's fields without the tag, which is kept apart.
struct Untagged<A> {
    map: A,
    /// The next field, where that was looked at already.
    next: Option<String>,
    presence: Option<Presence>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Untagged<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        loop {
            let Some(field) = self.next.take().map_or_else(|| self.map.next_key(), |next| Ok(Some(next)))?
            else {
                return Ok(None);
            };
            if field != TAG {
                return seed.deserialize(field.into_deserializer()).map(Some);
            }
            if self.presence.is_some() {
                return Err(A::Error::duplicate_field(TAG));
            }
            self.presence = Some(self.map.next_value()?);
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str =
        r#"{"presence":"here","index":7,"name":"eth7","address":"02:00:00:00:00:07","mtu":1500,"up":true"#;

    fn read(text: &str) -> Result<VfNetdev, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn trial_w11_a_netdev_is_read_with_its_tag_anywhere() {
        for netdev in [VfNetdev::Unbound, VfNetdev::OtherDriver, VfNetdev::InNamespace, VfNetdev::NotVisible]
        {
            let text = serde_json::to_string(&netdev).unwrap();
            let again = serde_json::to_string(&read(&text).unwrap()).unwrap();
            assert_eq!(again, text);
            let more = text.replace('}', r#","mtu":1500}"#);
            assert!(read(&more).unwrap_err().contains("unknown field `mtu`"), "{more}");
        }
        assert!(read("{}").unwrap_err().contains("missing field"));
        assert!(read(r#"{"presence":"here"}"#).unwrap_err().contains("missing field"));
        assert!(read(r#"{"presence":"gone"}"#).unwrap_err().contains("unknown variant `gone`"));
        assert!(read(r#"{"presence":"unbound","presence":"away"}"#).unwrap_err().contains("duplicate field"));
        assert!(read(&format!("{HERE},\"speed\":1}}")).unwrap_err().contains("unknown field `speed`"));
    }
}
