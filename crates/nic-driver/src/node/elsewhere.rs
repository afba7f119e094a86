//! What stands on the NICs from within other network namespaces, and goes with them.

use nic_netlink::{IfIndex, LinkElsewhere};
use nic_sriov::LinkSource;
use nic_topology::NetworkState;

/// Links of containers that the kernel removes with the interfaces that go, in a line each: nobody makes them again before the container
/// itself is made again.
pub(crate) async fn lost_elsewhere(source: &LinkSource, network: &NetworkState) -> Vec<String> {
    let LinkSource::Kernel(kernel) = source else { return Vec::new() };
    match kernel.netlink.links_elsewhere().await {
        Ok(elsewhere) => {
            let goes = |lower: IfIndex| {
                network.link(lower).filter(|link| link.goes()).map(|link| link.name.to_string())
            };
            let not_known = elsewhere
                .not_known
                .iter()
                .map(|line| format!("what containers have on the interfaces cannot be told of {line}"));
            lost(&elsewhere.links, goes).into_iter().chain(not_known).collect()
        }
        Err(error) => vec![format!(
            "what containers have on the interfaces cannot be told: {}",
            crate::error_chain(&error)
        )],
    }
}

/// `goes` has the names of the links that go.
fn lost(links: &[LinkElsewhere], goes: impl Fn(IfIndex) -> Option<String>) -> Vec<String> {
    let line = |link: &LinkElsewhere| {
        let lower = goes(link.lower)?;
        let kind = link.kind.as_deref().unwrap_or("link");
        Some(format!(
            "{kind} {} on {lower}, in another network namespace, goes with it, and cannot be made again from here",
            link.name
        ))
    };
    links.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_4_what_containers_have_on_interfaces_that_go_is_named() {
        let link = |name: &str, kind: Option<&str>, lower| LinkElsewhere {
            name: name.parse().unwrap(),
            kind: kind.map(str::to_owned),
            lower: IfIndex(lower),
        };
        let links =
            [link("net1", Some("macvlan"), 3), link("net2", Some("ipvlan"), 4), link("net3", None, 3)];
        let goes = |lower: IfIndex| (lower == IfIndex(3)).then(|| "enp1s0np0".to_owned());
        assert_eq!(
            lost(&links, goes),
            [
                "macvlan net1 on enp1s0np0, in another network namespace, goes with it, and cannot be made again from here",
                "link net3 on enp1s0np0, in another network namespace, goes with it, and cannot be made again from here",
            ]
        );
    }
}
