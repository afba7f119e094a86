//! One look at the NICs for all that goes by what they are at one moment.

use nic_sriov::{LinkSource, NicState, ObserveError, Operation, observe};
use tokio::sync::OnceCell;

use crate::context::Context;

/// The NICs of a snapshot as they are at one moment: looked at by the first that asks, and at most once. What the
/// kernel is told in between does not show; whoever changes NICs makes a new look.
#[derive(Debug)]
pub(crate) struct NicsLook<'a> {
    source: &'a LinkSource,
    nics: OnceCell<NicState>,
}

impl<'a> NicsLook<'a> {
    pub(crate) fn new(source: &'a LinkSource) -> Self {
        Self { source, nics: OnceCell::new() }
    }

    /// The PFs of `saved` as they are.
    pub(crate) async fn nics(&self, context: &Context, saved: &NicState) -> Result<&NicState, ObserveError> {
        let look = async || {
            let pfs: Vec<_> = saved.pfs.iter().map(|pf| pf.address.clone()).collect();
            let deadline = context.settings.patience().of(Operation::Observe { vfs: saved.most_vfs() });
            observe(&context.host, self.source, &context.family.devices, &pfs, deadline).await
        };
        self.nics.get_or_try_init(look).await
    }
}

#[cfg(test)]
mod tests {
    use nic_host::Host;
    use nic_sriov::find_pfs;

    use super::*;
    use crate::fixture::context;

    const BEFORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/documented-node/before");

    #[tokio::test]
    async fn all_that_ask_go_by_one_look_and_a_failed_one_is_repeated() {
        let state = tempfile::tempdir().unwrap();
        let numvfs = "/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs";
        let context = context(Host::at(BEFORE), state.path());
        let source = LinkSource::open(&context.host).await.unwrap();
        let pfs = find_pfs(&context.host, &context.family.devices).unwrap();
        let saved = observe(&context.host, &source, &context.family.devices, &pfs, context.settings.timeout);
        let saved = saved.await.unwrap();
        let look = NicsLook::new(&source);
        let first: *const NicState = look.nics(&context, &saved).await.unwrap();
        assert!(!look.nics(&context, &saved).await.unwrap().pfs.is_empty());
        // The machine hangs meanwhile, and is not asked.
        let hangs = Host::at(BEFORE).with_replay(nic_host::Replay::default().hanging_at(numvfs));
        let hanging = crate::fixture::context(hangs, state.path());
        let second: *const NicState = look.nics(&hanging, &saved).await.unwrap();
        assert_eq!(first, second);
        let other = NicsLook::new(&source);
        assert!(!other.nics(&hanging, &saved).await.unwrap().unread.is_empty(), "another look asks it");
    }
}
