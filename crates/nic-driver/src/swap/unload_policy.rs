//! Which modules may go with the family's own.

use nic_kmod::UnloadPolicy;

use crate::context::Context;

/// What may be unloaded when it stands on top of the family's modules.
pub(super) fn unload_policy(context: &Context) -> UnloadPolicy {
    let modules = &context.family.modules;
    let allowed = context.settings.may_unload;
    let storage = modules.storage.iter().filter(|_| allowed.storage);
    let third_party = modules.third_party.iter().filter(|_| allowed.third_party);
    let may_unload = modules.auxiliary.iter().chain(&modules.peers).chain(storage).chain(third_party);
    UnloadPolicy { may_unload: may_unload.cloned().collect(), ..UnloadPolicy::default() }
}
