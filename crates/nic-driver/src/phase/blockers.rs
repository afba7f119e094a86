//! Everything that stands in the way of a reload: of its modules, and of what hangs on the NICs.

use nic_kmod::ModuleIndex;
use nic_sriov::{NicState, unmakeable_ports};
use nic_topology::NetworkState;

use super::error::PhaseError;
use crate::context::{Context, Lossy, ManagementNic};
use crate::node::{NicsAndNetwork, StorageBehind, behind_nics, lost_elsewhere, lost_uses};
use crate::swap::{Blocker, BlockerKind, FoundBlockers, Look, find_blockers, is_swap_under_way};

/// Looks for everything that stands in the way of a reload from the tree with this index, without asking whether one is due. Changes
/// nothing.
///
/// Returns the NICs as they were seen, too. In a swap that is under way, what hung on the NICs is gone already, and is owed to them: then
/// the node is not looked at.
pub(crate) async fn look_for_blockers(
    context: &Context,
    index: &ModuleIndex,
    look: Look,
) -> Result<(FoundBlockers, Option<NicsAndNetwork>), PhaseError> {
    let mut found = find_blockers(context, index, look).await?;
    if is_swap_under_way(context)? {
        return Ok((found, None));
    }
    // What is set of the NICs stands in nobody's way.
    let seen = NicsAndNetwork::look(context).await?;
    let mut blockers = not_known(&seen.nics, &seen.network);
    blockers.extend(what_hangs_on_the_nics(context, &seen, &mut found).await?);
    found.add(blockers, &context.settings.assume_ok);
    Ok((found, Some(seen)))
}

/// What is not known of the NICs, and would be lost with the driver.
pub(crate) fn not_known(nics: &NicState, network: &NetworkState) -> Vec<Blocker> {
    let block = |not_known: String| Blocker {
        kind: BlockerKind::NotKnown,
        what: format!("what the NICs are to be given back is not known: {not_known}"),
        modules: Vec::new(),
        remedy: "see to it that it can be read: it goes with the driver, and what it was could not be told"
            .to_owned(),
        user: None,
    };
    let of_nics = nics.not_known().into_iter().map(|not_known| not_known.to_string());
    let on_them = network.not_known().map(|entry| format!("{}: {}", entry.what, entry.not_known));
    of_nics.chain(on_them).map(block).collect()
}

/// What blocks; what will be lost, or is away meanwhile, is told in `found`.
async fn what_hangs_on_the_nics(
    context: &Context,
    seen: &NicsAndNetwork,
    found: &mut FoundBlockers,
) -> Result<Vec<Blocker>, PhaseError> {
    let mut blockers = Vec::new();
    let mut block = |kind, what: String, remedy: &str| {
        blockers.push(Blocker { kind, what, modules: Vec::new(), remedy: remedy.to_owned(), user: None });
    };
    for ports in unmakeable_ports(&context.host, &seen.nics)? {
        block(
            BlockerKind::CannotMakeAgain,
            format!(
                "the PF {} has ports that go with its driver and that nothing here makes again: {}",
                ports.pf,
                ports.ports.join(", ")
            ),
            "remove them with `devlink port del` and make them again after the swap",
        );
    }
    let elsewhere = lost_elsewhere(&seen.source, &seen.network).await;
    let uses = lost_uses(context, &seen.source, &seen.nics, &seen.network).await;
    for lost in seen.network.lost().into_iter().chain(elsewhere).chain(uses) {
        match context.settings.lossy {
            Lossy::Allow => {}
            Lossy::Warn => found.foreseen.lost.push(lost),
            Lossy::Refuse => block(
                BlockerKind::Lossy,
                lost,
                "remove it and make it again after the swap, or let it go with --lossy warn",
            ),
        }
    }
    let behind = behind_nics(context, &seen.source, &seen.nics).await?;
    for StorageBehind { storage, ways } in behind.storage {
        let what = if ways.is_empty() {
            format!(
                "storage on another machine may be reached through NICs that a reload takes away for its time: {storage}"
            )
        } else {
            let ways = ways.join(", ");
            format!(
                "storage on another machine is reached through NICs that a reload takes away for its time: {storage}, at {ways}"
            )
        };
        if storage.is_needed() {
            block(
                BlockerKind::RemoteStorage,
                what,
                "move it to a local disk or behind another NIC: the machine stops while it is away",
            );
        } else {
            found.foreseen.meanwhile.push(what);
        }
    }
    if let Some(uplinks) = behind.ways_out {
        match context.settings.management_nic {
            ManagementNic::Allow => {}
            ManagementNic::Warn => {
                found
                    .foreseen
                    .meanwhile
                    .push(format!("the node itself is reached through NICs that go: {uplinks}"));
            }
            ManagementNic::Refuse => block(
                BlockerKind::ManagementNic,
                format!(
                    "the node itself is reached through NICs that a reload takes away for its time: {uplinks}"
                ),
                "allow it with --management-nic warn, or move the node's network to another NIC",
            ),
        }
    }
    Ok(blockers)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nic_host::{Host, Replay};
    use nic_netlink::Unread;
    use nic_topology::UnknownEntry;

    use super::*;
    use crate::fixture::context;
    use crate::phase::{plan_reload, preflight, snapshot, status};

    const BEFORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/documented-node/before");

    #[test]
    fn fault_2_what_is_not_known_of_what_stands_on_the_nics_blocks() {
        let entry = UnknownEntry {
            what: "one of the routes".to_owned(),
            not_known: Unread::because("it is cut off"),
        };
        let network = NetworkState { not_known: vec![entry], ..NetworkState::default() };
        let [blocker] = &not_known(&NicState::default(), &network)[..] else { panic!("it does not block") };
        assert_eq!(blocker.kind, BlockerKind::NotKnown);
        assert!(blocker.what.ends_with("one of the routes: it is cut off"), "{}", blocker.what);
        assert!(not_known(&NicState::default(), &network.accepting_not_known()).is_empty());
    }

    #[tokio::test]
    async fn fault_5_2_commands_that_look_beside_a_pf_that_hangs_end_and_name_it() {
        let state = tempfile::tempdir().unwrap();
        let numvfs = "/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs";
        let host = Host::at(BEFORE).with_replay(Replay::default().hanging_at(numvfs));
        let mut context = context(host, state.path());
        context.settings.force = true;
        let begun = Instant::now();
        let told = |told: String| {
            assert!(
                told.contains("PF 0000:01:00.0: looking at 0000:01:00.0 has not ended after 1 s"),
                "{told}"
            );
            assert!(told.contains("0000:01:00.0/sriov_numvfs hangs in the kernel"), "{told}");
        };
        told(preflight(&context).await.unwrap().to_string());
        told(plan_reload(&context).await.unwrap().to_string());
        let not_known = snapshot(&context).await.unwrap().not_known;
        told(not_known.iter().map(ToString::to_string).collect());
        let status = status(&context).await.unwrap().to_string();
        assert!(status.contains("PF 0000:01:00.1 ("), "the other is told of: {status}");
        assert!(!status.contains("no PF of this family"), "{status}");
        told(status);
        assert!(begun.elapsed() < 60 * context.settings.timeout, "{:?}", begun.elapsed());
    }
}
