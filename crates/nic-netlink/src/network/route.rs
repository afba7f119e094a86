//! Routes (`RTM_NEWROUTE`).

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::ip::{self, IpVersion, Prefix, octets};
use super::raw::{HexBytes, RawAttribute};
use crate::IfIndex;
use crate::attributes::{Attribute, Attributes, MalformedError};
use crate::body::Body;

/// A route of one of the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// IPv4 or IPv6.
    pub version: IpVersion,
    /// Where it leads to.
    pub destination: Prefix,
    /// From where, for routes that ask (IPv6 with subtrees).
    pub source: Option<Prefix>,
    /// The table: 254 main, 255 local.
    pub table: u32,
    /// `RTN_*` of `include/uapi/linux/rtnetlink.h`: 1 unicast, 2 local, 6 blackhole, 7 unreachable…
    pub kind: u8,
    /// `RT_SCOPE_*`: 0 global, 253 link, 254 host. IPv6 does not use it.
    pub scope: u8,
    /// `RTPROT_*`: who made it. 2 is the kernel, 3 boot, 4 static, 9 router advertisements, 16 DHCP.
    pub protocol: u8,
    /// Type of service that it is for.
    pub tos: u8,
    /// The metric; 0 is the best.
    pub priority: u32,
    /// Which of the machine's addresses goes out by it.
    pub preferred_source: Option<IpAddr>,
    /// Through which interfaces; more than one is multipath, none a route that leads nowhere.
    pub next_hops: Vec<NextHop>,
    /// `RTAX_*`: MTU, window and so on, as the kernel said them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<RawAttribute>,
    /// For how many seconds it is still there; `None` for ever. IPv6 only.
    pub expires_s: Option<u32>,
    /// Router preference (RFC 4191). IPv6 only.
    pub preference: Option<u8>,
    /// The next hop object that it uses (`ip nexthop`), where it does.
    pub next_hop_object: Option<u32>,
}

/// One way of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NextHop {
    /// The interface.
    pub index: Option<IfIndex>,
    /// The router; `None` for what is reached directly. An IPv4 route may have an IPv6 one.
    pub gateway: Option<IpAddr>,
    /// Its share among several: 1 to 256.
    pub weight: u16,
    /// Whether the router counts as reachable although no route leads to it.
    pub onlink: bool,
    /// The realm (`ip route … realm`); IPv4 only.
    pub realm: Option<u32>,
    /// What packets are wrapped in: the kind and the parameters, as the kernel said them.
    pub encapsulation: Option<Encapsulation>,
}

/// A light-weight tunnel of a next hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Encapsulation {
    /// `LWTUNNEL_ENCAP_*` of `include/uapi/linux/lwtunnel.h`.
    pub kind: u16,
    /// Its attributes.
    pub parameters: HexBytes,
}

impl Route {
    /// `RTN_UNICAST`: a route to somewhere.
    pub const UNICAST: u8 = 1;
    /// `RTPROT_KERNEL`.
    pub const BY_KERNEL: u8 = 2;
    /// `RTPROT_RA`.
    pub const BY_ROUTER_ADVERTISEMENT: u8 = 9;
    /// `RT_TABLE_MAIN`.
    pub const MAIN_TABLE: u32 = 254;

    /// Whether it goes through this interface, among others perhaps.
    #[must_use]
    pub fn goes_through(&self, index: IfIndex) -> bool {
        self.next_hops.iter().any(|hop| hop.index == Some(index))
    }

    /// Whether it needs a router, and so another route that leads there first.
    #[must_use]
    pub fn has_gateway(&self) -> bool {
        self.next_hops.iter().any(|hop| hop.gateway.is_some())
    }
}

/// In the words of `ip route add`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iproute2_text(&|index| index.to_string()))
    }
}

impl Route {
    /// In the words of `ip route add`, with interfaces called as `name` says.
    #[must_use]
    pub fn iproute2_text(&self, name: &dyn Fn(IfIndex) -> String) -> String {
        let mut words = Vec::new();
        if self.version == IpVersion::V6 && self.destination.is_default() {
            words.push("-6".to_owned());
        }
        match self.kind {
            Self::UNICAST => {}
            2 => words.push("local".to_owned()),
            6 => words.push("blackhole".to_owned()),
            7 => words.push("unreachable".to_owned()),
            8 => words.push("prohibit".to_owned()),
            other => words.push(format!("type {other}")),
        }
        words.push(self.destination.to_string());
        for hop in &self.next_hops {
            words.extend((self.next_hops.len() > 1).then(|| "nexthop".to_owned()));
            words.extend(hop.gateway.map(|gateway| format!("via {gateway}")));
            words.extend(hop.index.map(|index| format!("dev {}", name(index))));
        }
        words.extend((self.table != Self::MAIN_TABLE).then(|| format!("table {}", self.table)));
        words.extend((self.priority != 0).then(|| format!("metric {}", self.priority)));
        words.join(" ")
    }
}

const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
pub(super) const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_FLOW: u16 = 11;
const RTA_CACHEINFO: u16 = 12;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_PREF: u16 = 20;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_EXPIRES: u16 = 23;
const RTA_NH_ID: u16 = 30;
const RTM_F_CLONED: u32 = 0x200;
const RTNH_F_ONLINK: u8 = 4;
/// `USER_HZ`: the kernel counts times towards user space in hundredths of a second on every architecture but Alpha.
const CLOCK_TICKS: u32 = 100;

/// `None` for a cached route, and one of another family than IPv4 and IPv6.
pub(super) fn decode(body: &[u8]) -> Result<Option<Route>, MalformedError> {
    let flags = body.get(8..12).and_then(|flags| flags.try_into().ok()).map(u32::from_ne_bytes);
    if flags.is_some_and(|flags| flags & RTM_F_CLONED != 0) { Ok(None) } else { decode_any(body) }
}

/// The same, for the answer to a question about one destination, which the kernel gives as a cached route.
pub(super) fn decode_any(body: &[u8]) -> Result<Option<Route>, MalformedError> {
    let Some((header, attributes)) = body.split_first_chunk::<12>() else {
        return Err(MalformedError(format!("a route of {} bytes", body.len())));
    };
    let [family, destination_length, source_length, tos, table, protocol, scope, kind, flags @ ..] = *header;
    let flags = u32::from_ne_bytes(flags);
    let Some(version) = IpVersion::of_family(family) else { return Ok(None) };
    let mut route = Route {
        version,
        destination: Prefix { address: ip::unspecified(family), length: destination_length },
        source: None,
        table: table.into(),
        kind,
        scope,
        protocol,
        tos,
        priority: 0,
        preferred_source: None,
        next_hops: Vec::new(),
        metrics: Vec::new(),
        expires_s: None,
        preference: None,
        next_hop_object: None,
    };
    let [low_flags, ..] = flags.to_le_bytes();
    let mut only = HopReader::new(None, low_flags, 0);
    for attribute in Attributes::new(attributes) {
        let attribute = attribute?;
        match attribute.kind {
            RTA_DST => route.destination.address = ip::decode(&attribute)?,
            RTA_SRC => {
                route.source = Some(Prefix { address: ip::decode(&attribute)?, length: source_length });
            }
            RTA_PRIORITY => route.priority = attribute.u32()?,
            RTA_PREFSRC => route.preferred_source = Some(ip::decode(&attribute)?),
            RTA_TABLE => route.table = attribute.u32()?,
            RTA_METRICS => {
                let metrics = attribute.nested().map(|metric| metric.map(|metric| RawAttribute::of(&metric)));
                route.metrics = metrics.collect::<Result<_, _>>()?;
            }
            RTA_CACHEINFO => {
                let ticks = i32::from_ne_bytes(attribute.number(8)?);
                route.expires_s = u32::try_from(ticks)
                    .ok()
                    .filter(|ticks| *ticks > 0)
                    .map(|ticks| ticks.div_ceil(CLOCK_TICKS));
            }
            // What a request holds.
            RTA_EXPIRES if attribute.value.len() == 4 => route.expires_s = Some(attribute.u32()?),
            RTA_PREF => route.preference = Some(attribute.u8()?),
            RTA_NH_ID => route.next_hop_object = Some(attribute.u32()?),
            RTA_MULTIPATH => route.next_hops = multipath(attribute.value)?,
            _ => only.read(&attribute)?,
        }
    }
    if route.next_hops.is_empty() {
        route.next_hops.extend(only.finish());
    }
    Ok(Some(route))
}

/// The attributes of one next hop, which stand in the route itself where there is only one.
struct HopReader {
    hop: NextHop,
    encapsulation_kind: Option<u16>,
    parameters: Option<HexBytes>,
}

impl HopReader {
    fn new(index: Option<IfIndex>, flags: u8, hops: u8) -> Self {
        let hop = NextHop {
            index,
            gateway: None,
            weight: u16::from(hops) + 1,
            onlink: flags & RTNH_F_ONLINK != 0,
            realm: None,
            encapsulation: None,
        };
        Self { hop, encapsulation_kind: None, parameters: None }
    }

    fn read(&mut self, attribute: &Attribute<'_>) -> Result<(), MalformedError> {
        match attribute.kind {
            RTA_OIF => self.hop.index = Some(IfIndex(attribute.u32()?)),
            RTA_GATEWAY => self.hop.gateway = Some(ip::decode(attribute)?),
            // The family stands in front of the address (`struct rtvia`); its length tells as much.
            RTA_VIA => {
                self.hop.gateway = Some(ip::from_bytes(attribute.value.get(2..).unwrap_or_default())?);
            }
            RTA_FLOW => self.hop.realm = Some(attribute.u32()?).filter(|realm| *realm != 0),
            RTA_ENCAP_TYPE => self.encapsulation_kind = Some(attribute.u16()?),
            RTA_ENCAP => self.parameters = Some(HexBytes(attribute.value.to_vec())),
            _ => {}
        }
        Ok(())
    }

    /// `None` where nothing was said of an interface or a router.
    fn finish(mut self) -> Option<NextHop> {
        self.hop.encapsulation = self
            .encapsulation_kind
            .zip(self.parameters)
            .map(|(kind, parameters)| Encapsulation { kind, parameters });
        (self.hop.index.is_some() || self.hop.gateway.is_some()).then_some(self.hop)
    }
}

/// A row of `struct rtnexthop`, each with attributes.
fn multipath(mut rest: &[u8]) -> Result<Vec<NextHop>, MalformedError> {
    const HEADER: usize = 8;
    let mut hops = Vec::new();
    while let Some(([l0, l1, flags, weight, i0, i1, i2, i3], _)) = rest.split_first_chunk::<HEADER>() {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let attributes = rest.get(HEADER..length).ok_or_else(|| {
            MalformedError(format!("a next hop of {length} bytes where {} are left", rest.len()))
        })?;
        let index = u32::from_ne_bytes([*i0, *i1, *i2, *i3]);
        let mut hop = HopReader::new((index != 0).then_some(IfIndex(index)), *flags, *weight);
        for attribute in Attributes::new(attributes) {
            hop.read(&attribute?)?;
        }
        hops.extend(hop.finish());
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(hops)
}

/// The question which route leads to an address.
pub(super) fn question(address: IpAddr) -> Vec<u8> {
    let octets = octets(address);
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let mut body = Body::new(&[ip::family(address), bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    body.bytes(RTA_DST, &octets);
    body.finish()
}

pub(super) fn encode(route: &Route) -> Vec<u8> {
    let only = match route.next_hops.as_slice() {
        [only] => Some(only),
        _ => None,
    };
    // Tables beyond 255 have no room in the header, and the attribute is what counts.
    let table = u8::try_from(route.table).unwrap_or_default();
    let flags = only.map_or(0, hop_flags);
    let source_length = route.source.map_or(0, |source| source.length);
    let header = [
        route.version.family(),
        route.destination.length,
        source_length,
        route.tos,
        table,
        route.protocol,
        route.scope,
        route.kind,
    ];
    let mut body = Body::new(&[&header[..], &u32::from(flags).to_ne_bytes()].concat());
    if !route.destination.is_default() {
        body.bytes(RTA_DST, &octets(route.destination.address));
    }
    if let Some(source) = route.source {
        body.bytes(RTA_SRC, &octets(source.address));
    }
    body.u32(RTA_TABLE, route.table);
    if route.priority != 0 {
        body.u32(RTA_PRIORITY, route.priority);
    }
    if let Some(source) = route.preferred_source {
        body.bytes(RTA_PREFSRC, &octets(source));
    }
    if !route.metrics.is_empty() {
        body.nested(RTA_METRICS, |metrics| {
            metrics.raw(&route.metrics);
        });
    }
    if let Some(seconds) = route.expires_s {
        body.u32(RTA_EXPIRES, seconds);
    }
    if let Some(preference) = route.preference {
        body.u8(RTA_PREF, preference);
    }
    if let Some(object) = route.next_hop_object {
        // The object has the next hops; beside it none may be named.
        body.u32(RTA_NH_ID, object);
        return body.finish();
    }
    if let Some(hop) = only {
        if let Some(index) = hop.index {
            body.u32(RTA_OIF, index.0);
        }
        encode_hop(&mut body, route.version, hop);
    } else if !route.next_hops.is_empty() {
        body.nested(RTA_MULTIPATH, |list| {
            for hop in &route.next_hops {
                let weight = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
                let index = hop.index.map_or(0, |index| index.0).to_ne_bytes();
                let after_length = [&[hop_flags(hop), weight][..], &index].concat();
                list.counted(&after_length, |body| encode_hop(body, route.version, hop));
            }
        });
    }
    body.finish()
}

fn hop_flags(hop: &NextHop) -> u8 {
    if hop.onlink { RTNH_F_ONLINK } else { 0 }
}

fn encode_hop(body: &mut Body, version: IpVersion, hop: &NextHop) {
    match hop.gateway {
        Some(gateway) if ip::family(gateway) == version.family() => {
            body.bytes(RTA_GATEWAY, &octets(gateway));
        }
        Some(gateway) => {
            let family = u16::from(ip::family(gateway)).to_ne_bytes();
            body.bytes(RTA_VIA, &[&family[..], &octets(gateway)].concat());
        }
        None => {}
    }
    if let Some(realm) = hop.realm {
        body.u32(RTA_FLOW, realm);
    }
    if let Some(encapsulation) = &hop.encapsulation {
        body.u16(RTA_ENCAP_TYPE, encapsulation.kind).bytes(RTA_ENCAP, &encapsulation.parameters.0);
    }
}

#[cfg(test)]
mod tests;
