//! Lists of the kernel's of which one message cannot be read: that one is not known, and the others are.

use crate::attributes::{Attributes, MalformedError};
use crate::connection::RawMessage;
use crate::network::route::RTA_OIF;
use crate::network::rule::{FRA_IIFNAME, FRA_OIFNAME};
use crate::{IfIndex, Unread};

/// A list of the kernel's, as far as it can be read.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// What was read.
    pub entries: Vec<T>,
    /// What could not be.
    pub unread: Vec<UnreadEntry>,
}

/// An entry of a list of the kernel's that could not be read.
#[derive(Debug, Clone)]
pub struct UnreadEntry {
    /// What it is one of: `IP addresses`, `routes`…
    pub list: &'static str,
    /// What it is about.
    pub about: About,
    /// Why it could not be read.
    pub unread: Unread,
}

/// What an entry is about that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// A link.
    Link(IfIndex),
    /// The links of these names, which may be none.
    Links(Vec<String>),
    /// That could not be read either: it may be any link.
    NotKnown,
}

/// How to tell what a message is about of which the rest cannot be read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject {
    /// The header has the link's index, as those of links, addresses and neighbours have (`struct ifinfomsg`, `ifaddrmsg`, `ndmsg`).
    InHeader,
    /// The way out, in an attribute of its own. Of several ways each has one elsewhere.
    OutOfRoute,
    /// The links that a rule names.
    NamesOfRule,
}

const INDEX_IN_HEADER: usize = 4;
/// `struct rtmsg` and `struct fib_rule_hdr`.
const ROUTE_HEADER: usize = 12;

impl Subject {
    fn of(self, body: &[u8]) -> About {
        let known = match self {
            Self::InHeader => {
                let index = body.get(INDEX_IN_HEADER..).and_then(<[u8]>::first_chunk);
                index.map(|index| About::Link(IfIndex(u32::from_ne_bytes(*index))))
            }
            Self::OutOfRoute => {
                let index = attributes(body).find(RTA_OIF).ok().flatten();
                index.and_then(|index| Some(About::Link(IfIndex(index.u32().ok()?))))
            }
            Self::NamesOfRule => {
                let name = |number| attributes(body).find(number).ok();
                let names = [FRA_IIFNAME, FRA_OIFNAME].map(name).into_iter().collect::<Option<Vec<_>>>();
                names.map(|names| About::Links(names.into_iter().flatten().map(|name| name.text()).collect()))
            }
        };
        known.unwrap_or(About::NotKnown)
    }
}

fn attributes(body: &[u8]) -> Attributes<'_> {
    Attributes::new(body.get(ROUTE_HEADER..).unwrap_or_default())
}

/// The entries in these messages, each by itself.
pub(super) fn decode_each<'a, T>(
    list: &'static str,
    subject: Subject,
    messages: impl Iterator<Item = &'a RawMessage>,
    decode: impl Fn(&[u8]) -> Result<Option<T>, MalformedError>,
) -> Listed<T> {
    let mut listed = Listed { entries: Vec::new(), unread: Vec::new() };
    for message in messages {
        match decode(&message.body) {
            Ok(entry) => listed.entries.extend(entry),
            Err(malformed) => {
                let about = subject.of(&message.body);
                tracing::warn!(list, ?about, error = %malformed, "an entry of a list is not known: what the kernel says of it cannot be read");
                listed.unread.push(UnreadEntry { list, about, unread: Unread::of(&malformed) });
            }
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Body;
    use crate::network::{address, route, rule};

    fn message(header: &[u8], attributes: &[(u16, &[u8])]) -> RawMessage {
        let mut body = Body::new(header);
        for (number, value) in attributes {
            body.bytes(*number, value);
        }
        RawMessage { kind: 0, body: body.finish() }
    }

    #[test]
    fn fault_2_an_address_that_cannot_be_read_is_its_links_and_the_others_are_known() {
        const IFA_ADDRESS: u16 = 1;
        const AF_INET: u8 = 2;
        let of = |index: u8, address: &[u8]| {
            message(&[AF_INET, 24, 0, 0, index, 0, 0, 0], &[(IFA_ADDRESS, address), (2, address)])
        };
        let messages = [of(2, &[192, 0, 2, 1]), of(3, &[192, 0]), of(4, &[192, 0, 2, 3])];
        let listed = decode_each("IP addresses", Subject::InHeader, messages.iter(), address::decode);
        let known: Vec<u32> = listed.entries.iter().map(|address| address.index.0).collect();
        assert_eq!(known, [2, 4]);
        let [unread] = &listed.unread[..] else { panic!("{:?}", listed.unread) };
        assert_eq!((&unread.about, unread.list), (&About::Link(IfIndex(3)), "IP addresses"));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn fault_2_what_a_route_or_a_rule_is_about_is_read_by_itself() {
        const AF_INET: u8 = 2;
        const RTA_DST: u16 = 1;
        let header = [AF_INET, 32, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
        let cut: (u16, &[u8]) = (RTA_DST, &[10, 0]);
        let through = message(&header, &[(RTA_OIF, &[7, 0, 0, 0]), cut]);
        let listed = decode_each(
            "routes",
            Subject::OutOfRoute,
            [through, message(&header, &[cut])].iter(),
            route::decode,
        );
        let about: Vec<&About> = listed.unread.iter().map(|unread| &unread.about).collect();
        assert_eq!(about, [&About::Link(IfIndex(7)), &About::NotKnown]);
        let named = message(&header, &[(FRA_IIFNAME, b"pf0\0"), cut]);
        let nobody = message(&header, &[cut]);
        let broken = RawMessage { kind: 0, body: [&header[..], &[2, 0, 1, 0]].concat() };
        let listed = decode_each("rules", Subject::NamesOfRule, [named, nobody, broken].iter(), rule::decode);
        let about: Vec<&About> = listed.unread.iter().map(|unread| &unread.about).collect();
        assert_eq!(
            about,
            [&About::Links(vec!["pf0".to_owned()]), &About::Links(Vec::new()), &About::NotKnown]
        );
    }
}
