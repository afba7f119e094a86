use netlink_packet_core::{Emitable as _, Parseable as _};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RoutePreference, RouteProtocol, RouteScope, RouteType, RouteVia,
};

use super::*;

fn header(family: AddressFamily, length: u8) -> RouteHeader {
    RouteHeader {
        address_family: family,
        destination_prefix_length: length,
        source_prefix_length: 0,
        tos: 0,
        table: RouteHeader::RT_TABLE_UNSPEC,
        protocol: RouteProtocol::Static,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        flags: RouteFlags::empty(),
    }
}

fn message(header: RouteHeader, attributes: Vec<RouteAttribute>) -> Vec<u8> {
    let mut message = RouteMessage::default();
    message.header = header;
    message.attributes = attributes;
    let mut body = vec![0; message.buffer_len()];
    message.emit(&mut body);
    body
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn v4(text: &str) -> RouteAddress {
    RouteAddress::Inet(text.parse().unwrap())
}

fn v6(text: &str) -> RouteAddress {
    RouteAddress::Inet6(text.parse().unwrap())
}

fn hop(index: u32, gateway: Option<&str>) -> NextHop {
    NextHop {
        index: Some(IfIndex(index)),
        gateway: gateway.map(ip),
        weight: 1,
        onlink: false,
        realm: None,
        encapsulation: None,
    }
}

fn route(destination: &str, length: u8, next_hops: Vec<NextHop>) -> Route {
    let address = ip(destination);
    Route {
        version: if address.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 },
        destination: Prefix { address, length },
        source: None,
        table: 254,
        kind: 1,
        scope: 0,
        protocol: 4,
        tos: 0,
        priority: 0,
        preferred_source: None,
        next_hops,
        metrics: Vec::new(),
        expires_s: None,
        preference: None,
        next_hop_object: None,
    }
}

/// What the library wrote, what it is, and its words.
fn examples() -> Vec<(Vec<u8>, Route, &'static str)> {
    let table = RouteAttribute::Table;
    let metric = RawAttribute { number: 2, value: HexBytes(9000_u32.to_ne_bytes().to_vec()) };
    let mut onlink = header(AddressFamily::Inet, 0);
    onlink.flags = RouteFlags::Onlink;
    let wire_hop = |index, gateway, hops| {
        let mut hop = RouteNextHop::default();
        hop.flags = RouteNextHopFlags::empty();
        hop.hops = hops;
        hop.interface_index = index;
        hop.attributes = vec![RouteAttribute::Gateway(v4(gateway))];
        hop
    };
    vec![
        (
            message(
                onlink,
                vec![
                    table(1000),
                    RouteAttribute::Priority(50),
                    RouteAttribute::PrefSource(v4("192.0.2.7")),
                    RouteAttribute::Metrics(vec![RouteMetric::Mtu(9000)]),
                    RouteAttribute::Oif(3),
                    RouteAttribute::Gateway(v4("198.51.100.1")),
                ],
            ),
            Route {
                table: 1000,
                priority: 50,
                preferred_source: Some(ip("192.0.2.7")),
                metrics: vec![metric],
                ..route("0.0.0.0", 0, vec![NextHop { onlink: true, ..hop(3, Some("198.51.100.1")) }])
            },
            "default via 198.51.100.1 dev 3 table 1000 metric 50",
        ),
        (
            message(
                header(AddressFamily::Inet, 24),
                vec![
                    RouteAttribute::Destination(v4("203.0.113.0")),
                    table(254),
                    RouteAttribute::MultiPath(vec![
                        wire_hop(3, "192.0.2.1", 0),
                        wire_hop(4, "192.0.2.129", 9),
                    ]),
                ],
            ),
            route(
                "203.0.113.0",
                24,
                vec![hop(3, Some("192.0.2.1")), NextHop { weight: 10, ..hop(4, Some("192.0.2.129")) }],
            ),
            "203.0.113.0/24 nexthop via 192.0.2.1 dev 3 nexthop via 192.0.2.129 dev 4",
        ),
        (
            message(
                header(AddressFamily::Inet6, 64),
                vec![
                    RouteAttribute::Destination(v6("2001:db8:7::")),
                    table(254),
                    RouteAttribute::Priority(1024),
                    RouteAttribute::Expires(300),
                    RouteAttribute::Preference(RoutePreference::High),
                    RouteAttribute::Oif(3),
                    RouteAttribute::Gateway(v6("fe80::1")),
                ],
            ),
            Route {
                priority: 1024,
                expires_s: Some(300),
                preference: Some(1),
                ..route("2001:db8:7::", 64, vec![hop(3, Some("fe80::1"))])
            },
            "2001:db8:7::/64 via fe80::1 dev 3 metric 1024",
        ),
        (
            message(
                header(AddressFamily::Inet, 24),
                vec![
                    RouteAttribute::Destination(v4("203.0.113.0")),
                    table(254),
                    RouteAttribute::Oif(3),
                    RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap())),
                ],
            ),
            route("203.0.113.0", 24, vec![hop(3, Some("fe80::1"))]),
            "203.0.113.0/24 via fe80::1 dev 3",
        ),
        (
            message(
                RouteHeader { kind: RouteType::BlackHole, ..header(AddressFamily::Inet, 32) },
                vec![RouteAttribute::Destination(v4("203.0.113.9")), table(7)],
            ),
            Route { kind: 6, table: 7, ..route("203.0.113.9", 32, Vec::new()) },
            "blackhole 203.0.113.9/32 table 7",
        ),
    ]
}

#[test]
fn routes_are_read_and_shown() {
    for (body, expected, words) in examples() {
        assert_eq!(decode(&body), Ok(Some(expected.clone())), "{words}");
        assert_eq!(expected.to_string(), words);
    }
}

#[test]
fn what_is_asked_for_is_what_the_library_understands() {
    for (body, route, words) in examples() {
        let (written, read) =
            (RouteMessage::parse(&encode(&route)[..]).unwrap(), RouteMessage::parse(&body[..]).unwrap());
        let sorted = |message: &RouteMessage| {
            let mut attributes: Vec<_> = message.attributes.iter().map(|one| format!("{one:?}")).collect();
            attributes.sort();
            attributes
        };
        assert_eq!(sorted(&written), sorted(&read), "{words}");
        assert_eq!(written.header.flags, read.header.flags, "{words}");
    }
}

#[test]
fn a_route_through_an_object_names_the_object_alone() {
    let route =
        Route { next_hop_object: Some(12), ..route("203.0.113.0", 24, vec![hop(3, Some("192.0.2.1"))]) };
    let written = RouteMessage::parse(&encode(&route)[..]).unwrap();
    assert!(written.attributes.contains(&RouteAttribute::NhId(12)));
    assert!(
        !written
            .attributes
            .iter()
            .any(|one| matches!(one, RouteAttribute::Oif(_) | RouteAttribute::Gateway(_)))
    );
}

#[test]
fn a_remaining_time_is_rounded_up() {
    let mut body =
        message(header(AddressFamily::Inet6, 64), vec![RouteAttribute::Destination(v6("2001:db8::"))]);
    let info: Vec<u8> = [0_u32, 0, 101, 0, 0, 0, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    body.extend(36_u16.to_ne_bytes());
    body.extend(RTA_CACHEINFO.to_ne_bytes());
    body.extend(info);
    assert_eq!(decode(&body).unwrap().unwrap().expires_s, Some(2));
}

#[test]
fn cached_routes_and_other_families_are_left_out() {
    let mut cached = header(AddressFamily::Inet6, 128);
    cached.flags = RouteFlags::Cloned;
    assert_eq!(decode(&message(cached, Vec::new())), Ok(None));
    assert_eq!(decode(&message(header(AddressFamily::Mpls, 20), Vec::new())), Ok(None));
    assert!(decode(&[2; 11]).is_err());
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_route_or_an_error(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..256)) {
        let _ = decode(&bytes);
        let _ = multipath(&bytes);
    }
}
