use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::identity::{ParseIdentityError, serde_as_text};

/// A port's name within its NIC (`phys_port_name`), as the kernel's devlink forms it
/// (`__devlink_port_phys_port_name_get` in `net/devlink/port.c`).
///
/// `cK` names the host controller on NICs that serve more than one host (SmartNICs), and is there for the ports of
/// other hosts only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PhysPortName {
    /// The `K` of `cK`.
    pub controller: Option<u32>,
    /// What the port is.
    pub port: PhysPort,
}

/// What a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PhysPort {
    /// `pN[sM]`: a plug on the card, the uplink. `split` is its part, where a cable splits it.
    Uplink {
        /// The plug's number.
        port: u32,
        /// The number of the part, on a split port.
        split: Option<u32>,
    },
    /// `pfN`: the representor of a physical function.
    Pf {
        /// The PF's number.
        pf: u32,
    },
    /// `pfNvfM`: the representor of a virtual function.
    Vf {
        /// The PF's number.
        pf: u32,
        /// The VF's number.
        vf: u32,
    },
    /// `pfNsfM`: the representor of a sub-function.
    Sf {
        /// The PF's number.
        pf: u32,
        /// The sub-function's number.
        sf: u32,
    },
}

impl PhysPortName {
    /// Whether the port is an uplink, in contrast to a representor.
    #[must_use]
    pub fn is_uplink(&self) -> bool {
        matches!(self.port, PhysPort::Uplink { .. })
    }
}

impl FromStr for PhysPortName {
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text)
            .ok_or_else(|| ParseIdentityError::new(text, "a port name, such as p0, pf0, pf0vf3 or c1pf0sf88"))
    }
}

fn parse(text: &str) -> Option<PhysPortName> {
    let (controller, rest) = match tagged(text, "c") {
        Some((controller, rest)) => (Some(controller), rest),
        None => (None, text),
    };
    let port = if let Some((pf, rest)) = tagged(rest, "pf") {
        if rest.is_empty() {
            PhysPort::Pf { pf }
        } else if let Some((vf, "")) = tagged(rest, "vf") {
            PhysPort::Vf { pf, vf }
        } else if let Some((sf, "")) = tagged(rest, "sf") {
            PhysPort::Sf { pf, sf }
        } else {
            return None;
        }
    } else {
        let (port, rest) = tagged(rest, "p")?;
        if rest.is_empty() {
            PhysPort::Uplink { port, split: None }
        } else {
            let (split, "") = tagged(rest, "s")? else { return None };
            PhysPort::Uplink { port, split: Some(split) }
        }
    };
    Some(PhysPortName { controller, port })
}

/// The number after `tag` at the start of `text`, and what follows it.
fn tagged<'t>(text: &'t str, tag: &str) -> Option<(u32, &'t str)> {
    let rest = text.strip_prefix(tag)?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = rest.split_at_checked(digits)?;
    Some((number.parse().ok()?, rest))
}

impl fmt::Display for PhysPortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(controller) = self.controller {
            write!(f, "c{controller}")?;
        }
        match self.port {
            PhysPort::Uplink { port, split: None } => write!(f, "p{port}"),
            PhysPort::Uplink { port, split: Some(split) } => write!(f, "p{port}s{split}"),
            PhysPort::Pf { pf } => write!(f, "pf{pf}"),
            PhysPort::Vf { pf, vf } => write!(f, "pf{pf}vf{vf}"),
            PhysPort::Sf { pf, sf } => write!(f, "pf{pf}sf{sf}"),
        }
    }
}

serde_as_text!(PhysPortName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_told_apart_and_shown_as_it_was() {
        let cases = [
            ("p0", None, PhysPort::Uplink { port: 0, split: None }),
            ("p1s3", None, PhysPort::Uplink { port: 1, split: Some(3) }),
            ("c1p0", Some(1), PhysPort::Uplink { port: 0, split: None }),
            ("pf0", None, PhysPort::Pf { pf: 0 }),
            ("c1pf0", Some(1), PhysPort::Pf { pf: 0 }),
            ("pf0vf12", None, PhysPort::Vf { pf: 0, vf: 12 }),
            ("c2pf1vf3", Some(2), PhysPort::Vf { pf: 1, vf: 3 }),
            ("pf0sf88", None, PhysPort::Sf { pf: 0, sf: 88 }),
            ("c1pf0sf4294967295", Some(1), PhysPort::Sf { pf: 0, sf: u32::MAX }),
        ];
        for (text, controller, port) in cases {
            let name: PhysPortName = text.parse().unwrap();
            assert_eq!(name, PhysPortName { controller, port }, "{text}");
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn what_is_of_no_known_form_is_refused() {
        for text in [
            "",
            "p",
            "pf",
            "0",
            "c1",
            "cp0",
            "pf0vf",
            "pf0vf1x",
            "pf0vf1sf2",
            "p0vf1",
            "p0s",
            "P0",
            "p-1",
            "p4294967296",
        ] {
            assert!(text.parse::<PhysPortName>().is_err(), "{text:?}");
        }
    }
}
