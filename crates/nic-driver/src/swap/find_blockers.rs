//! The search for everything that stands in the way of a reload: all of it at once, each with its culprit.

use std::collections::BTreeSet;

use nic_host::{FileLifetime, ListError, ReadError};
use nic_kmod::{
    LoadedModule, LoadedModules, ModuleIndex, ModuleName, ModuleUsers, ObserveUsersError, ReadLoadedError,
    observe_users,
};
use nic_sriov::{DeviceAddress, Inquiry, ObserveError, Untold, Usage, find_pfs, vf_addresses};

use super::blocker::{
    Blocker, BlockerKind, blocker_of_unload_plan, forbidden_module, remedy_for, unknown_user,
    unremovable_module,
};
use super::dependents::with_dependents;
use super::foreseen::Foreseen;
use super::init_script::{init_script_at_work, init_script_missing};
use super::leftovers::foreign_blacklist;
use super::refused_modules::Refusals;
use super::unload::{UnloadScope, unload_order};
use super::unload_policy::unload_policy;
use super::way_back::{is_swap_under_way, no_way_back};
use crate::context::{Assumption, Context, MayUnload};
use crate::family::FamilyModules;

/// It could not be seen what stands in the way.
#[derive(Debug, thiserror::Error)]
pub enum FindBlockersError {
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// The users of modules could not be looked for.
    #[error(transparent)]
    Users(#[from] ObserveUsersError),
    /// The processes could not be listed.
    #[error(transparent)]
    Processes(#[from] ListError),
    /// What is in the blacklist's place, or what the state directory is on, could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The NICs could not be looked at.
    #[error(transparent)]
    Observe(#[from] ObserveError),
}

/// What the search has found.
#[derive(Debug, Clone, Default)]
pub struct FoundBlockers {
    /// What would be unloaded, in order; nothing when something stands in the way.
    pub unload: Vec<ModuleName>,
    /// What stands in the way.
    pub blockers: Vec<Blocker>,
    /// What else is told.
    pub foreseen: Foreseen,
    /// Whether the processes of the whole machine were seen, and not of one container alone.
    pub sees_all_processes: bool,
}

impl FoundBlockers {
    /// Takes out what is assumed to be in order.
    fn assume(&mut self, assumptions: &[Assumption]) {
        let is_assumed =
            |blocker: &mut Blocker| blocker.kind.assumption().is_some_and(|kind| assumptions.contains(&kind));
        self.foreseen.assumed.extend(self.blockers.extract_if(.., is_assumed));
    }

    /// Adds what else stands in the way.
    pub(crate) fn add(&mut self, blockers: impl IntoIterator<Item = Blocker>, assumptions: &[Assumption]) {
        self.blockers.extend(blockers);
        self.assume(assumptions);
        if !self.blockers.is_empty() {
            self.unload.clear();
        }
    }
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// All of it.
    Whole,
    /// What may have changed since a whole look, a moment ago: the files to be loaded have not.
    Again,
}

/// Finds all blockers of a reload from the tree with this index, without asking whether one is due. Changes nothing.
pub(crate) async fn find_blockers(
    context: &Context,
    index: &ModuleIndex,
    look: Look,
) -> Result<FoundBlockers, FindBlockersError> {
    let modules = &context.family.modules;
    let loaded = LoadedModules::read(&context.host)?;
    let users = observe_users(&context.host)?;
    let mut blockers = devices_in_use(context, look).await?;
    blockers.extend(foreign_blacklist(context)?);
    blockers.extend(state_goes_with_container(context)?);
    blockers.extend(init_script_missing(context));
    blockers.extend(init_script_at_work(context)?);
    blockers.extend(module_blockers(modules, context.settings.may_unload, &loaded, &users));
    let scope = UnloadScope::of(context.settings.reload_with);
    let unload = match unload_order(modules, &unload_policy(context), scope, &loaded) {
        Ok(order) => order,
        // An error of the plan that no check has explained must still block.
        Err(blocked) if blockers.is_empty() => {
            blockers.push(blocker_of_unload_plan(&blocked));
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    let mut found = FoundBlockers {
        unload,
        blockers: Vec::new(),
        foreseen: Foreseen::default(),
        sees_all_processes: users.sees_all_processes,
    };
    // In a swap that is under way the NIC is gone already: a driver that is refused is taken back, which nothing may keep from.
    if look == Look::Whole && !is_swap_under_way(context)? {
        let refusals = Refusals::read(context, index, &loaded);
        let refused = refusals.of_tree(context, index);
        blockers.extend(refused.blockers);
        found.foreseen.left_out = refused.left_out;
        blockers.extend(no_way_back(context, &refusals)?);
    }
    found.add(blockers, &context.settings.assume_ok);
    Ok(found)
}

/// A container that is killed in mid-swap must find what it owes to the NICs when it is started again.
fn state_goes_with_container(context: &Context) -> Result<Option<Blocker>, ReadError> {
    let folder = context.store.folder();
    let host = &context.host;
    let in_container = host.is_running_machine() && host.has_host_mount();
    if !in_container || host.file_lifetime(folder)? != FileLifetime::WithLayer {
        return Ok(None);
    }
    Ok(Some(Blocker {
        kind: BlockerKind::StateDirectory,
        what: format!(
            "the state directory {} is on the container's own layer and would be gone with the container, and what a swap owes with it",
            folder.display()
        ),
        modules: Vec::new(),
        remedy: "mount a folder of the node there, as the manifests in deploy/ do".to_owned(),
        user: None,
    }))
}

/// PFs and VFs that somebody uses, or of which that cannot be told. Looks are repeated while a container waits: only the one right before
/// the first change may take a VFIO group from a virtual machine that just starts.
async fn devices_in_use(context: &Context, look: Look) -> Result<Vec<Blocker>, ObserveError> {
    let (host, family) = (&context.host, &context.family);
    let inquiry = match look {
        Look::Whole => Inquiry::gentle(host, &family.devices),
        Look::Again => Inquiry::before_write(host, &family.devices),
    };
    // Where the module that serves them goes, too, its users are blockers of it.
    let serves_rdma = |module: &ModuleName| module.as_str() == "ib_uverbs";
    let inquiry =
        if family.modules.unloaded().iter().any(serves_rdma) { inquiry.without_rdma() } else { inquiry };
    let mut devices: Vec<(&str, DeviceAddress)> = Vec::new();
    for pf in find_pfs(host, &family.devices)? {
        let vfs = vf_addresses(host, &pf)?;
        devices.push(("PF", pf));
        devices.extend(vfs.into_iter().map(|vf| ("VF", vf.into())));
    }
    let addresses: Vec<DeviceAddress> = devices.iter().map(|(_, device)| device.clone()).collect();
    let usages = inquiry.usages(&addresses, context.settings.timeout).await;
    let block = |((what, device), usage): ((&str, DeviceAddress), Usage)| {
        Some(Blocker {
            kind: BlockerKind::DeviceInUse,
            what: format!("the {what} {device} {usage}"),
            modules: Vec::new(),
            remedy: remedy_of(&usage)?,
            user: None,
        })
    };
    Ok(devices.into_iter().zip(usages).filter_map(block).collect())
}

/// What to do about it; nothing where nobody uses the device.
fn remedy_of(usage: &Usage) -> Option<String> {
    match usage {
        Usage::Free => None,
        Usage::InUse(_) => Some("stop the virtual machine or process that uses it".to_owned()),
        Usage::CannotBeTold(Untold::Driver(driver)) => Some(format!(
            "unbind it from {driver} when nobody uses it, or name the driver in the NIC family when it is one of its own"
        )),
        Usage::CannotBeTold(_) => Some(
            "give the container the host's /dev, hostPID and CAP_SYS_PTRACE, or unbind the device from its driver when nobody uses it"
                .to_owned(),
        ),
    }
}

/// Everything in the way of unloading the family's modules and all on top of them: pure.
fn module_blockers(
    family: &FamilyModules,
    allowed: MayUnload,
    loaded: &LoadedModules,
    users: &ModuleUsers,
) -> Vec<Blocker> {
    let roots = family.unloaded();
    let going = with_dependents(loaded, &roots);
    let is_known = |module: &LoadedModule| {
        roots.contains(&module.name)
            || family.auxiliary.contains(&module.name)
            || family.peers.contains(&module.name)
    };
    let mut blockers = Vec::new();
    for module in &going {
        if let Some((kind, what, remedy)) = forbidden_module(family, allowed, module, is_known(module)) {
            let keeps = going.iter().filter(|below| below.holders.contains(&module.name));
            let modules = keeps.map(|below| below.name.clone()).collect();
            blockers.push(Blocker { kind, what, modules, remedy, user: None });
        }
        if let Some((kind, what, remedy)) = unremovable_module(module) {
            blockers.push(Blocker { kind, what, modules: vec![module.name.clone()], remedy, user: None });
        }
    }
    let mut explained = BTreeSet::new();
    for user in &users.users {
        // A user of a device pins the device's driver, too, which is one of those on top of the module that serves it.
        let keeps = |module: &&&LoadedModule| {
            let below =
                |kept: &ModuleName| loaded.get(kept).is_some_and(|kept| kept.holders.contains(&module.name));
            let is_used = module.foreign_references() > 0;
            let lives_on = user.kind.has_data() && user.modules.contains(&module.name);
            lives_on || is_used && (user.modules.contains(&module.name) || user.modules.iter().any(below))
        };
        let modules: Vec<ModuleName> = going.iter().filter(keeps).map(|module| module.name.clone()).collect();
        if modules.is_empty() {
            continue;
        }
        explained.extend(modules.iter().cloned());
        let kind = if user.kind.has_data() { BlockerKind::Storage } else { BlockerKind::User };
        blockers.push(Blocker {
            kind,
            what: user.kind.to_string(),
            modules,
            remedy: remedy_for(&user.kind),
            user: Some(user.kind.clone()),
        });
    }
    for module in going.iter().filter(|module| !explained.contains(&module.name)) {
        let count = module.foreign_references();
        if count > 0 {
            blockers.push(unknown_user(&module.name, count, users.sees_all_processes));
        }
    }
    blockers
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nic_kmod::{ModuleUser, UserKind};

    use super::*;
    use crate::family::NicFamily;

    /// A node with everything in the way that a module can be.
    const NODE: &str = "\
vendor_mod 1 0 - Live 0x0 (OE)
nvidia_peermem 1 0 - Live 0x0 (POE)
nvme_rdma 1 1 - Live 0x0
rdma_rxe 1 1 - Live 0x0
rdma_ucm 1 0 - Live 0x0
rdma_cm 1 2 nvme_rdma,rdma_ucm, Live 0x0
mlx5_ib 1 0 - Live 0x0
ib_uverbs 1 5 rdma_rxe,mlx5_ib,rdma_ucm,nvidia_peermem, Live 0x0
ib_core 1 9 vendor_mod,nvidia_peermem,nvme_rdma,rdma_rxe,rdma_cm,rdma_ucm,mlx5_ib,ib_uverbs, Live 0x0
mlx5_core 1 1 mlx5_ib, Live 0x0
igb 1 3 - Live 0x0
";

    fn name(text: &str) -> ModuleName {
        text.parse().unwrap()
    }

    fn judged(node: &str, allowed: MayUnload, users: &ModuleUsers) -> String {
        let family = NicFamily::open("mlx5").unwrap().modules;
        let blockers = module_blockers(&family, allowed, &LoadedModules::parse(node).unwrap(), users);
        blockers.iter().map(|blocker| format!("{blocker}\n")).collect()
    }

    fn users(sees_all_processes: bool) -> ModuleUsers {
        let user = |kind, module| ModuleUser { kind, modules: BTreeSet::from([name(module)]) };
        let process = UserKind::Process {
            pid: 42,
            command: "ib_write_bw".to_owned(),
            device: PathBuf::from("/dev/infiniband/uverbs0"),
        };
        let mount = UserKind::Mount {
            source: "/dev/nvme1n1".to_owned(),
            target: PathBuf::from("/data"),
            file_system: "xfs".to_owned(),
        };
        let root = UserKind::Mount {
            source: "/dev/nvme0n1".to_owned(),
            target: PathBuf::from("/"),
            file_system: "ext4".to_owned(),
        };
        let users = vec![user(process, "ib_uverbs"), user(mount, "nvme_rdma"), user(root, "nvme")];
        ModuleUsers { users, sees_all_processes }
    }

    #[test]
    fn everything_in_the_way_is_told_at_once_with_what_to_do() {
        insta::assert_snapshot!(judged(NODE, MayUnload::default(), &users(true)), @r"
        the unknown out-of-tree module vendor_mod is loaded, which keeps ib_core (`modprobe -r vendor_mod`, or describe it in the NIC family if it belongs to the driver)
        the storage module nvme_rdma is loaded, which keeps rdma_cm, ib_core (allow its unloading with UNLOAD_STORAGE_MODULES=true (--unload-storage-modules), or `modprobe -r nvme_rdma`)
        another vendor's RDMA module rdma_rxe is loaded, which keeps ib_uverbs, ib_core (allow its unloading with UNLOAD_THIRD_PARTY_RDMA_MODULES=true (--unload-third-party-rdma-modules), or `modprobe -r rdma_rxe`)
        process 42 (ib_write_bw) has /dev/infiniband/uverbs0 open, which keeps rdma_rxe, ib_uverbs (stop the process 42, or the pod that it runs in)
        /dev/nvme1n1 (xfs) is mounted on /data, which keeps nvme_rdma (`umount /data`: what backs it is never unloaded)
        an unknown user of ib_core (1 references): no process, mount or socket explains it (stop what uses RDMA on this node, or traces the driver (perf, bpftrace); what only the kernel holds goes with a reboot)
        ");
    }

    #[test]
    fn what_is_allowed_is_not_in_the_way_but_what_lives_on_it_is() {
        let all = MayUnload { storage: true, third_party: true };
        insta::assert_snapshot!(judged(NODE, all, &users(true)), @r"
        the unknown out-of-tree module vendor_mod is loaded, which keeps ib_core (`modprobe -r vendor_mod`, or describe it in the NIC family if it belongs to the driver)
        process 42 (ib_write_bw) has /dev/infiniband/uverbs0 open, which keeps rdma_rxe, ib_uverbs (stop the process 42, or the pod that it runs in)
        /dev/nvme1n1 (xfs) is mounted on /data, which keeps nvme_rdma (`umount /data`: what backs it is never unloaded)
        an unknown user of ib_core (1 references): no process, mount or socket explains it (stop what uses RDMA on this node, or traces the driver (perf, bpftrace); what only the kernel holds goes with a reboot)
        ");
    }

    #[test]
    fn fault_7_10_what_another_vendors_driver_rests_on_goes_with_it() {
        let none = ModuleUsers { users: Vec::new(), sees_all_processes: true };
        let node = "hfi1 1 0 - Live 0x0\nmlx4_ib 1 0 - Live 0x0\nrdmavt 1 1 hfi1, Live 0x0\n\
                    ib_core 1 4 hfi1,mlx4_ib,rdmavt,mlx5_ib, Live 0x0\n\
                    mlx5_ib 1 0 - Live 0x0\nmlx5_core 1 1 mlx5_ib, Live 0x0\n";
        assert_eq!(judged(node, MayUnload { storage: false, third_party: true }, &none), "");
        let told = judged(node, MayUnload::default(), &none);
        assert!(!told.contains("unknown") && told.contains("RDMA module hfi1"), "{told}");
    }

    #[test]
    fn users_that_cannot_be_seen_are_unknown() {
        let none = ModuleUsers { users: Vec::new(), sees_all_processes: false };
        let node = "mlx5_ib 1 2 - Live 0x0\nib_core 1 1 mlx5_ib, Loading 0x0\nmlx5_core 1 1 [permanent],mlx5_ib, Live 0x0\n";
        insta::assert_snapshot!(judged(node, MayUnload::default(), &none), @r"
        ib_core is being loaded (wait until that has ended)
        mlx5_core is permanent (it can never be unloaded: reboot the node with the new driver installed)
        an unknown user of mlx5_ib (2 references), not visible from this container (look on the node itself (`lsof /dev/infiniband/*`, `findmnt`, `swapon`), or give the container hostPID and CAP_SYS_PTRACE)
        ");
    }

    #[test]
    fn nothing_is_in_the_way_of_an_unused_stack() {
        let node = "nvidia_peermem 1 0 - Live 0x0\nmlx5_ib 1 0 - Live 0x0\nib_core 1 2 nvidia_peermem,mlx5_ib, Live 0x0\nigb 1 3 - Live 0x0\n";
        assert_eq!(judged(node, MayUnload::default(), &users(true)), "");
    }
}
