//! Preflight: everything that stands in the way of a reload, found before the first change, all of it at once.

use std::collections::BTreeSet;
use std::fmt;

use comfy_table::{Table, presets};
use nic_host::ListError;
use nic_kmod::{
    IdentityError, IdentityReport, LoadedModule, LoadedModules, ModuleIndexError, ModuleName, ModuleState,
    ModuleUsers, ObserveUsersError, ReadLoadedError, UnloadBlocked, UnloadPlan, UnloadPolicy, UserKind,
    observe_users,
};
use nic_sriov::{ObserveError, find_pfs, vf_addresses, vfio_group_in_use};
use serde::Serialize;

use super::init_script::{init_script_at_work, init_script_missing};
use super::reload::ModuleTree;
use super::{Context, MayUnload};
use crate::Exit;
use crate::family::FamilyModules;

/// One thing that stands in the way of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocker {
    /// Of which kind it is.
    #[serde(rename = "blocker")]
    pub kind: BlockerKind,
    /// What it is, with its name.
    pub what: String,
    /// The modules that cannot go because of it.
    pub modules: Vec<ModuleName>,
    /// What to do about it.
    pub remedy: String,
    /// The user, where it is one that was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<UserKind>,
}

/// The kinds of what stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockerKind {
    /// A module of storage over RDMA, which may not be unloaded.
    StorageModule,
    /// Another vendor's RDMA driver, which may not be unloaded.
    ThirdPartyModule,
    /// A module that the family does not know.
    UnknownModule,
    /// A file system, swap, or a connected controller: never taken away.
    Storage,
    /// Another user that is no module.
    User,
    /// A user that could not be found.
    UnknownUser,
    /// A module that can never be unloaded.
    Permanent,
    /// A module that somebody is loading or unloading.
    NotLive,
    /// A VF that is open through VFIO.
    VfInUse,
    /// The init script that is to do it is not there, or is at work for somebody else.
    InitScript,
    /// The modules use each other in a circle.
    Cycle,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        let speaks_of_itself =
            matches!(self.kind, BlockerKind::Permanent | BlockerKind::NotLive | BlockerKind::UnknownUser);
        if !self.modules.is_empty() && !speaks_of_itself {
            write!(f, ", which keeps {}", list(&self.modules))?;
        }
        write!(f, " ({})", self.remedy)
    }
}

fn list(modules: &[ModuleName]) -> String {
    modules.iter().map(ModuleName::as_str).collect::<Vec<_>>().join(", ")
}

/// Something stands in the way of a reload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the modules cannot be unloaded: {}", blockers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct PreflightBlocked {
    /// All of it; never empty.
    pub blockers: Vec<Blocker>,
}

/// It could not be seen what stands in the way.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// The index of installed modules could not be read.
    #[error(transparent)]
    Index(#[from] ModuleIndexError),
    /// The modules' identities could not be compared.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// The users of modules could not be looked for.
    #[error(transparent)]
    Users(#[from] ObserveUsersError),
    /// The processes could not be listed.
    #[error(transparent)]
    Processes(#[from] ListError),
    /// The NICs could not be looked at.
    #[error(transparent)]
    Observe(#[from] ObserveError),
}

impl PreflightError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Index(_) | Self::Identity(_) => Exit::NoModule,
            Self::Loaded(_) | Self::Users(_) | Self::Processes(_) | Self::Observe(_) => Exit::Failed,
        }
    }
}

/// What a preflight has found.
#[derive(Debug, Clone, Serialize)]
pub struct Preflight {
    /// Whether a reload is due, or was asked about although it is not. Otherwise nothing can stand in its way.
    pub due: bool,
    /// What would be unloaded, in order; nothing when something stands in the way.
    pub unload: Vec<ModuleName>,
    /// What stands in the way.
    pub blockers: Vec<Blocker>,
    /// Whether the processes of the whole machine were seen, and not of one container alone.
    pub sees_all_processes: bool,
}

impl Preflight {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.blockers.is_empty() { Exit::Success } else { Exit::Blocked }
    }
}

impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.due {
            return writeln!(f, "no reload is due: the loaded modules are the installed ones");
        }
        if self.blockers.is_empty() {
            return writeln!(f, "nothing stands in the way; to be unloaded: {}", list(&self.unload));
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["in the way", "keeps", "what to do"]);
        for blocker in &self.blockers {
            table.add_row([&blocker.what, &list(&blocker.modules), &blocker.remedy]);
        }
        writeln!(f, "{table}")?;
        writeln!(f, "blocked: {} in the way; nothing was changed", self.blockers.len())
    }
}

/// Looks for everything that stands in the way of a reload. Changes nothing.
///
/// When no reload is due, and [`super::Settings::force`] does not ask for one, nothing is looked for.
pub fn preflight(context: &Context) -> Result<Preflight, PreflightError> {
    let modules = &context.family.modules;
    let index = ModuleTree::Own.index(context)?;
    let identity = IdentityReport::read(&context.host, &index, &modules.identity)?;
    if !context.settings.force && !identity.reload_due().due {
        return Ok(Preflight {
            due: false,
            unload: Vec::new(),
            blockers: Vec::new(),
            sees_all_processes: false,
        });
    }
    look(context)
}

/// The same once a reload is known to be due.
pub(super) fn look(context: &Context) -> Result<Preflight, PreflightError> {
    let modules = &context.family.modules;
    let loaded = LoadedModules::read(&context.host)?;
    let users = observe_users(&context.host)?;
    let mut blockers = vfs_in_use(context)?;
    blockers.extend(init_script_missing(context));
    blockers.extend(init_script_at_work(context)?);
    blockers.extend(judge(modules, context.settings.may_unload, &loaded, &users));
    let unload = match UnloadPlan::compute(&loaded, &modules.unloaded(), &unload_policy(context)) {
        Ok(plan) => plan.order(),
        // Whatever else it is, it must not be passed over.
        Err(blocked) if blockers.is_empty() => {
            blockers.push(of_plan(&blocked));
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    let unload = if blockers.is_empty() { unload } else { Vec::new() };
    Ok(Preflight { due: true, unload, blockers, sees_all_processes: users.sees_all_processes })
}

fn of_plan(blocked: &UnloadBlocked) -> Blocker {
    let what = blocked.to_string();
    let remedy = "look at /proc/modules".to_owned();
    Blocker { kind: BlockerKind::Cycle, what, modules: Vec::new(), remedy, user: None }
}

/// What may be unloaded when it stands on top of the family's modules.
pub(super) fn unload_policy(context: &Context) -> UnloadPolicy {
    let modules = &context.family.modules;
    let allowed = context.settings.may_unload;
    let storage = modules.storage.iter().filter(|_| allowed.storage);
    let third_party = modules.third_party.iter().filter(|_| allowed.third_party);
    let may_unload = modules.auxiliary.iter().chain(&modules.peers).chain(storage).chain(third_party);
    UnloadPolicy { may_unload: may_unload.cloned().collect(), ..UnloadPolicy::default() }
}

fn vfs_in_use(context: &Context) -> Result<Vec<Blocker>, ObserveError> {
    let host = &context.host;
    let mut blockers = Vec::new();
    for pf in find_pfs(host, &context.family.devices)? {
        for vf in vf_addresses(host, &pf)? {
            if let Some(group) = vfio_group_in_use(host, vf) {
                blockers.push(Blocker {
                    kind: BlockerKind::VfInUse,
                    what: format!("the VF {vf} is in use: {group} is open"),
                    modules: Vec::new(),
                    remedy: "stop the virtual machine or process that uses it".to_owned(),
                    user: None,
                });
            }
        }
    }
    Ok(blockers)
}

/// Everything in the way of unloading the family's modules and all on top of them: pure.
fn judge(
    family: &FamilyModules,
    allowed: MayUnload,
    loaded: &LoadedModules,
    users: &ModuleUsers,
) -> Vec<Blocker> {
    let roots = family.unloaded();
    let going = with_all_on_top(loaded, &roots);
    let is_known = |module: &LoadedModule| {
        roots.contains(&module.name)
            || family.auxiliary.contains(&module.name)
            || family.peers.contains(&module.name)
    };
    let mut blockers = Vec::new();
    for module in &going {
        if let Some((kind, what, remedy)) = of_module(family, allowed, module, is_known(module)) {
            let keeps = going.iter().filter(|below| below.holders.contains(&module.name));
            let modules = keeps.map(|below| below.name.clone()).collect();
            blockers.push(Blocker { kind, what, modules, remedy, user: None });
        }
        if let Some((kind, what, remedy)) = of_state(module) {
            blockers.push(Blocker { kind, what, modules: vec![module.name.clone()], remedy, user: None });
        }
    }
    let mut explained = BTreeSet::new();
    for user in &users.users {
        // A device's driver is kept as well as the module that serves the device: it is one of those on top of it.
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
            blockers.push(of_unknown_user(&module.name, count, users.sees_all_processes));
        }
    }
    blockers
}

/// Those of `roots` that are loaded and everything on top of them, the one loaded last first.
fn with_all_on_top<'a>(loaded: &'a LoadedModules, roots: &[ModuleName]) -> Vec<&'a LoadedModule> {
    let mut going: BTreeSet<&ModuleName> = BTreeSet::new();
    let mut open: Vec<&LoadedModule> = roots.iter().filter_map(|root| loaded.get(root)).collect();
    while let Some(module) = open.pop() {
        if going.insert(&module.name) {
            open.extend(module.holders.iter().filter_map(|holder| loaded.get(holder)));
        }
    }
    loaded.iter().filter(|module| going.contains(&module.name)).collect()
}

/// Whether a module is one that may not be unloaded.
fn of_module(
    family: &FamilyModules,
    allowed: MayUnload,
    module: &LoadedModule,
    is_known: bool,
) -> Option<(BlockerKind, String, String)> {
    let name = &module.name;
    let switch = |variable: &str, option: &str| {
        format!("allow its unloading with {variable}=true ({option}), or `modprobe -r {name}`")
    };
    if is_known {
        None
    } else if family.storage.contains(name) {
        let remedy = switch("UNLOAD_STORAGE_MODULES", "--unload-storage-modules");
        let what = format!("the storage module {name} is loaded");
        (!allowed.storage).then_some((BlockerKind::StorageModule, what, remedy))
    } else if family.third_party.contains(name) {
        let remedy = switch("UNLOAD_THIRD_PARTY_RDMA_MODULES", "--unload-third-party-rdma-modules");
        let what = format!("another vendor's RDMA module {name} is loaded");
        (!allowed.third_party).then_some((BlockerKind::ThirdPartyModule, what, remedy))
    } else {
        let origin = if module.is_out_of_tree() { "out-of-tree module" } else { "module" };
        let what = format!("the unknown {origin} {name} is loaded");
        let remedy =
            format!("`modprobe -r {name}`, or describe it in the NIC family if it belongs to the driver");
        Some((BlockerKind::UnknownModule, what, remedy))
    }
}

fn of_state(module: &LoadedModule) -> Option<(BlockerKind, String, String)> {
    let name = &module.name;
    let wait = || "wait until that has ended".to_owned();
    match module.state {
        _ if module.permanent => {
            let remedy = "it can never be unloaded: reboot the node with the new driver installed".to_owned();
            Some((BlockerKind::Permanent, format!("{name} is permanent"), remedy))
        }
        ModuleState::Live => None,
        ModuleState::Loading => Some((BlockerKind::NotLive, format!("{name} is being loaded"), wait())),
        ModuleState::Unloading => Some((BlockerKind::NotLive, format!("{name} is being unloaded"), wait())),
    }
}

fn remedy_for(user: &UserKind) -> String {
    match user {
        UserKind::Process { pid, .. } => format!("stop the process {pid}, or the pod that it runs in"),
        UserKind::Mount { target, .. } => {
            format!("`umount {}`: what backs it is never unloaded", target.display())
        }
        UserKind::Swap { device } => {
            format!("`swapoff {}`: what backs it is never unloaded", device.display())
        }
        UserKind::Controller { name, .. } => format!("`nvme disconnect -d {name}`, when nothing is on it"),
        UserKind::Export { .. } => "stop serving it".to_owned(),
        UserKind::Sockets { .. } => "stop the programs that use them".to_owned(),
    }
}

fn of_unknown_user(module: &ModuleName, count: u32, sees_all: bool) -> Blocker {
    let (what, remedy) = if sees_all {
        (
            format!(
                "an unknown user of {module} ({count} references): no process, mount or socket explains it"
            ),
            "stop what uses RDMA on this node; what only the kernel holds goes with a reboot",
        )
    } else {
        (
            format!("an unknown user of {module} ({count} references), not visible from this container"),
            "look on the node itself (`lsof /dev/infiniband/*`, `findmnt`, `swapon`), or give the container hostPID",
        )
    };
    let modules = vec![module.clone()];
    Blocker { kind: BlockerKind::UnknownUser, what, modules, remedy: remedy.to_owned(), user: None }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nic_kmod::ModuleUser;

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
        let blockers = judge(&family, allowed, &LoadedModules::parse(node).unwrap(), users);
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
        an unknown user of ib_core (1 references): no process, mount or socket explains it (stop what uses RDMA on this node; what only the kernel holds goes with a reboot)
        ");
    }

    #[test]
    fn what_is_allowed_is_not_in_the_way_but_what_lives_on_it_is() {
        let all = MayUnload { storage: true, third_party: true };
        insta::assert_snapshot!(judged(NODE, all, &users(true)), @r"
        the unknown out-of-tree module vendor_mod is loaded, which keeps ib_core (`modprobe -r vendor_mod`, or describe it in the NIC family if it belongs to the driver)
        process 42 (ib_write_bw) has /dev/infiniband/uverbs0 open, which keeps rdma_rxe, ib_uverbs (stop the process 42, or the pod that it runs in)
        /dev/nvme1n1 (xfs) is mounted on /data, which keeps nvme_rdma (`umount /data`: what backs it is never unloaded)
        an unknown user of ib_core (1 references): no process, mount or socket explains it (stop what uses RDMA on this node; what only the kernel holds goes with a reboot)
        ");
    }

    #[test]
    fn users_that_cannot_be_seen_are_unknown() {
        let none = ModuleUsers { users: Vec::new(), sees_all_processes: false };
        let node = "mlx5_ib 1 2 - Live 0x0\nib_core 1 1 mlx5_ib, Loading 0x0\nmlx5_core 1 1 [permanent],mlx5_ib, Live 0x0\n";
        insta::assert_snapshot!(judged(node, MayUnload::default(), &none), @r"
        ib_core is being loaded (wait until that has ended)
        mlx5_core is permanent (it can never be unloaded: reboot the node with the new driver installed)
        an unknown user of mlx5_ib (2 references), not visible from this container (look on the node itself (`lsof /dev/infiniband/*`, `findmnt`, `swapon`), or give the container hostPID)
        ");
    }

    #[test]
    fn nothing_is_in_the_way_of_an_unused_stack() {
        let node = "nvidia_peermem 1 0 - Live 0x0\nmlx5_ib 1 0 - Live 0x0\nib_core 1 2 nvidia_peermem,mlx5_ib, Live 0x0\nigb 1 3 - Live 0x0\n";
        assert_eq!(judged(node, MayUnload::default(), &users(true)), "");
    }

    #[test]
    fn a_table_for_people() {
        let family = NicFamily::open("mlx5").unwrap().modules;
        let node = LoadedModules::parse("rpcrdma 1 0 - Live 0x0\nib_core 1 1 rpcrdma, Live 0x0\n").unwrap();
        let blockers = judge(&family, MayUnload::default(), &node, &ModuleUsers::default());
        let found = Preflight { due: true, unload: Vec::new(), blockers, sees_all_processes: true };
        assert_eq!(found.exit(), Exit::Blocked);
        insta::assert_snapshot!(found, @r"
         in the way                            keeps    what to do                                                                                                
         the storage module rpcrdma is loaded  ib_core  allow its unloading with UNLOAD_STORAGE_MODULES=true (--unload-storage-modules), or `modprobe -r rpcrdma` 
        blocked: 1 in the way; nothing was changed
        ");
    }
}
