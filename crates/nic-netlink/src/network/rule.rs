//! Rules that choose a routing table (`RTM_NEWRULE`).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ip::{self, IpVersion, Prefix, octets};
use super::raw::RawAttribute;
use crate::attributes::{Attributes, MalformedError};
use crate::body::Body;

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// IPv4 or IPv6.
    pub version: IpVersion,
    /// Its place: lower ones are asked first.
    pub priority: u32,
    /// From where; `None` for everywhere.
    pub source: Option<Prefix>,
    /// To where; `None` for everywhere.
    pub destination: Option<Prefix>,
    /// The interface that the packet came in by.
    pub input_interface: Option<String>,
    /// The interface that the socket is bound to.
    pub output_interface: Option<String>,
    /// Type of service.
    pub tos: u8,
    /// `FR_ACT_*` of `include/uapi/linux/fib_rules.h`: 1 look up the table.
    pub action: u8,
    /// Whether it is for what does not match.
    pub inverted: bool,
    /// The table.
    pub table: u32,
    /// All else (mark, user ids, ports, suppressed routes…), as the kernel said it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<RawAttribute>,
}

/// In the words of `ip rule`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.version == IpVersion::V6 {
            f.write_str("-6 ")?;
        }
        write!(f, "priority {}", self.priority)?;
        if self.inverted {
            f.write_str(" not")?;
        }
        for (word, prefix) in [("from", self.source), ("to", self.destination)] {
            if let Some(prefix) = prefix {
                write!(f, " {word} {prefix}")?;
            }
        }
        for (word, interface) in [("iif", &self.input_interface), ("oif", &self.output_interface)] {
            if let Some(interface) = interface {
                write!(f, " {word} {interface}")?;
            }
        }
        write!(f, " table {}", self.table)
    }
}

const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
pub(super) const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
pub(super) const FRA_OIFNAME: u16 = 17;
const FRA_PAD: u16 = 18;
const FIB_RULE_INVERT: u32 = 2;

/// `None` for a rule of another family than IPv4 and IPv6, such as those for multicast routing.
pub(super) fn decode(body: &[u8]) -> Result<Option<Rule>, MalformedError> {
    let Some((header, attributes)) = body.split_first_chunk::<12>() else {
        return Err(MalformedError(format!("a rule of {} bytes", body.len())));
    };
    let [family, destination_length, source_length, tos, table, _, _, action, flags @ ..] = *header;
    let Some(version) = IpVersion::of_family(family) else { return Ok(None) };
    let mut rule = Rule {
        version,
        priority: 0,
        source: None,
        destination: None,
        input_interface: None,
        output_interface: None,
        tos,
        action,
        inverted: u32::from_ne_bytes(flags) & FIB_RULE_INVERT != 0,
        table: table.into(),
        others: Vec::new(),
    };
    for attribute in Attributes::new(attributes) {
        let attribute = attribute?;
        match attribute.kind {
            FRA_DST => {
                rule.destination =
                    Some(Prefix { address: ip::decode(&attribute)?, length: destination_length });
            }
            FRA_SRC => rule.source = Some(Prefix { address: ip::decode(&attribute)?, length: source_length }),
            FRA_IIFNAME => rule.input_interface = Some(attribute.text()),
            FRA_OIFNAME => rule.output_interface = Some(attribute.text()),
            FRA_PRIORITY => rule.priority = attribute.u32()?,
            FRA_TABLE => rule.table = attribute.u32()?,
            FRA_PAD => {}
            _ => rule.others.push(RawAttribute::of(&attribute)),
        }
    }
    Ok(Some(rule))
}

pub(super) fn encode(rule: &Rule) -> Vec<u8> {
    let length = |prefix: Option<Prefix>| prefix.map_or(0, |prefix| prefix.length);
    let table = u8::try_from(rule.table).unwrap_or_default();
    let family = rule.version.family();
    let header = [family, length(rule.destination), length(rule.source), rule.tos, table, 0, 0, rule.action];
    let flags = if rule.inverted { FIB_RULE_INVERT } else { 0 };
    let mut body = Body::new(&[&header[..], &flags.to_ne_bytes()].concat());
    for (number, prefix) in [(FRA_DST, rule.destination), (FRA_SRC, rule.source)] {
        if let Some(prefix) = prefix {
            body.bytes(number, &octets(prefix.address));
        }
    }
    for (number, interface) in [(FRA_IIFNAME, &rule.input_interface), (FRA_OIFNAME, &rule.output_interface)] {
        if let Some(interface) = interface {
            body.text(number, interface);
        }
    }
    body.u32(FRA_PRIORITY, rule.priority).u32(FRA_TABLE, rule.table).raw(&rule.others);
    body.finish()
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{Emitable as _, Parseable as _};
    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

    use super::*;

    #[test]
    fn a_rule_is_read_and_asked_for_again() {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.src_len = 24;
        message.header.action = RuleAction::ToTable;
        message.header.flags = RuleFlags::Invert | RuleFlags::IifDetached;
        message.attributes = vec![
            RuleAttribute::Source("192.0.2.0".parse().unwrap()),
            RuleAttribute::Iifname("bond0.5".to_owned()),
            RuleAttribute::Priority(100),
            RuleAttribute::Table(1000),
            RuleAttribute::FwMark(7),
        ];
        let mut body = vec![0; message.buffer_len()];
        message.emit(&mut body);
        let rule = decode(&body).unwrap().unwrap();
        assert_eq!(rule.to_string(), "priority 100 not from 192.0.2.0/24 iif bond0.5 table 1000");
        let others: Vec<_> = rule.others.iter().map(|other| (other.number, other.value.0.clone())).collect();
        assert_eq!(others, [(10, 7_u32.to_ne_bytes().to_vec())]);

        let written = RuleMessage::parse(&encode(&rule)[..]).unwrap();
        assert_eq!(
            written.header.flags,
            RuleFlags::Invert,
            "whether the interface is there is for the kernel"
        );
        assert_eq!((written.header.src_len, written.header.action), (24, RuleAction::ToTable));
        for attribute in message.attributes {
            assert!(written.attributes.contains(&attribute), "{attribute:?}");
        }
        assert_eq!(decode(&encode(&rule)), Ok(Some(rule)));
    }

    #[test]
    fn other_families_are_left_out() {
        const RTNL_FAMILY_IPMR: u8 = 128;
        let mut body = [0; 12];
        body[0] = RTNL_FAMILY_IPMR;
        assert_eq!(decode(&body), Ok(None));
        assert!(decode(&body[..11]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_rule_or_an_error(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..128)) {
            let _ = decode(&bytes);
        }
    }
}
