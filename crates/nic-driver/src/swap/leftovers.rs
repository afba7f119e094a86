//! The blacklist of a swap: what a process that was killed has left behind, and what is somebody else's.

use nic_host::ReadError;
use nic_kmod::{Blacklist, BlacklistError, FoundBlacklist, ModuleName};

use super::blocker::{Blocker, BlockerKind};
use crate::context::Context;
use crate::state::{PhaseRecord, Step};

/// Removes a blacklist that this program or a driver container has left behind, killed in mid-swap: modules would not be
/// loaded for new devices. Somebody else's stays; it is in the way of nothing but a swap.
pub(crate) fn remove_leftover_blacklist(
    context: &Context,
    phase: &PhaseRecord,
) -> Result<(), BlacklistError> {
    let Some(found) = leftover_blacklist(context)? else { return Ok(()) };
    let (path, origin) = (found.path.display(), &found.origin);
    tracing::warn!(%path, %origin, "a blacklist was left behind: it is removed");
    phase.step(Step::RemoveLeftoverBlacklist).record(found.remove(&context.host))
}

/// The blacklist that was left behind, where there is one.
pub(crate) fn leftover_blacklist(context: &Context) -> Result<Option<FoundBlacklist>, ReadError> {
    let found = FoundBlacklist::find(&context.host, &context.settings.blacklist_file)?;
    if let Some(foreign) = found.as_ref().filter(|found| found.is_foreign()) {
        tracing::info!(path = %foreign.path.display(), "a blacklist of somebody else is not touched");
    }
    Ok(found.filter(|found| !found.is_foreign()))
}

/// Somebody else's file in the blacklist's place, which is neither removed nor written through.
pub(super) fn foreign_blacklist(context: &Context) -> Result<Option<Blocker>, ReadError> {
    let found = FoundBlacklist::find(&context.host, &context.settings.blacklist_file)?;
    Ok(found.filter(FoundBlacklist::is_foreign).map(|found| Blocker {
        kind: BlockerKind::Blacklist,
        what: format!(
            "{} is in the blacklist's place, and neither this program's nor a driver container's",
            found.path.display()
        ),
        modules: Vec::new(),
        remedy: "move the file away, or name another one with OFED_BLACKLIST_MODULES_FILE (--blacklist-file)"
            .to_owned(),
        user: None,
    }))
}

/// The blacklist that keeps modules from coming up by alias while they are swapped: also those that are unloaded for
/// others, or they would come back by themselves.
pub(crate) fn blacklist_of_swap(context: &Context) -> Result<Blacklist, ReadError> {
    let modules = &context.family.modules;
    let third_party = modules.third_party.iter().filter(|_| context.settings.may_unload.third_party);
    let mut listed: Vec<ModuleName> = Vec::new();
    for module in modules.blacklist.iter().chain(&modules.auxiliary).chain(third_party) {
        if !listed.contains(module) {
            listed.push(module.clone());
        }
    }
    let state = context.store.folder();
    let blacklist = Blacklist::new(&context.host, &context.settings.blacklist_file, state, listed)?;
    if blacklist.outlives_the_boot() {
        tracing::warn!(
            path = %context.settings.blacklist_file.display(),
            state = %state.display(),
            "the state directory outlives a reboot, and so does the blacklist: a machine that is reset while modules are swapped comes up without its driver until the next reload"
        );
    }
    Ok(blacklist)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nic_host::Host;

    use super::*;
    use crate::fixture;
    use crate::state::Phase;

    fn context() -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in
            [("proc/sys/kernel/osrelease", "6.12.1\n"), ("proc/sys/kernel/random/boot_id", "boot\n")]
        {
            fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
            fs::write(dir.path().join(file), text).unwrap();
        }
        let context = fixture::context(Host::at(dir.path()), &dir.path().join("state"));
        (dir, context)
    }

    #[test]
    fn what_was_left_behind_goes_and_what_is_somebody_elses_blocks_a_swap() {
        let (dir, context) = context();
        let file = dir.path().join("blacklist");
        for (text, blocks) in [
            ("# Written by nic-driver while it swaps kernel modules.\n", false),
            ("# of a driver container\nblacklist mlx5_core\n", false),
            ("blacklist nouveau\n", true),
        ] {
            fs::write(&file, text).unwrap();
            let blocker = foreign_blacklist(&context).unwrap();
            assert_eq!(blocker.is_some(), blocks, "{text}");
            assert!(blocker.is_none_or(|blocker| blocker.to_string().contains("/blacklist ")));
            remove_leftover_blacklist(&context, &context.journal.phase(Phase::Reload)).unwrap();
            assert_eq!(file.exists(), blocks, "{text}");
        }
    }

    #[test]
    fn auxiliary_modules_do_not_come_up_by_themselves_while_modules_are_swapped() {
        let (dir, mut context) = context();
        let written = |context: &Context| {
            blacklist_of_swap(context).unwrap().write(&context.host).unwrap();
            fs::read_to_string(dir.path().join("blacklist")).unwrap()
        };
        assert!(!written(&context).contains("irdma"), "it stays loaded");
        context.settings.may_unload.third_party = true;
        let text = written(&context);
        for module in ["mlx5_core", "mlx5_vdpa", "irdma"] {
            assert!(text.contains(&format!("blacklist {module}\n")), "{module}: {text}");
        }
        assert_eq!(text.matches("blacklist mlx5_ib\n").count(), 1, "{text}");
    }
}
