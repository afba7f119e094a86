//! What can stand in the way of a reload: its kinds, and what is said of each.

use std::fmt;

use clap::ValueEnum as _;
use nic_kmod::{LoadedModule, ModuleName, ModuleState, UnloadBlocked, UserKind};
use serde::Serialize;

use crate::context::{Assumption, MayUnload};
use crate::family::FamilyModules;
use crate::state::BlockerSeen;

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

impl Blocker {
    /// As the journal has it.
    pub(crate) fn seen(&self) -> BlockerSeen {
        let kind = serde_json::to_value(self.kind).ok();
        let kind = kind.and_then(|kind| kind.as_str().map(str::to_owned));
        BlockerSeen { kind, what: self.what.clone() }
    }
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
    /// A PF or VF that somebody uses, or of which that cannot be told.
    #[serde(rename = "vf_in_use")]
    DeviceInUse,
    /// The init script that is to do it is not there, or is at work for somebody else.
    InitScript,
    /// Somebody else's file is in the place of the blacklist.
    Blacklist,
    /// The modules use each other in a circle.
    Cycle,
    /// The state directory would not outlive the container.
    StateDirectory,
    /// The driver that runs could not be loaded again, nor the distribution's own.
    NoWayBack,
    /// The kernel loads and unloads no module before the next boot.
    ModulesDisabled,
    /// The kernel refuses a module by its name.
    RefusedName,
    /// The kernel asks for a signature that a module does not have.
    Signature,
    /// A module is for another kernel.
    Vermagic,
    /// A module needs symbols that nothing has.
    Symbols,
    /// A module's file is none, or cannot be read.
    ModuleFile,
    /// The node itself is reached through the NICs.
    ManagementNic,
    /// What hangs on the NICs and that nothing here can make again.
    CannotMakeAgain,
    /// What goes with the driver, and is not given back.
    Lossy,
    /// Storage that is reached through the NICs.
    RemoteStorage,
    /// Something of the NICs that is not known, and that nobody could give back.
    NotKnown,
}

impl BlockerKind {
    /// What somebody has to assume who passes over it; `None` where nobody can.
    #[must_use]
    pub fn assumption(self) -> Option<Assumption> {
        match self {
            Self::Signature => Some(Assumption::Signature),
            Self::Vermagic => Some(Assumption::Vermagic),
            Self::Symbols => Some(Assumption::Symbols),
            Self::CannotMakeAgain => Some(Assumption::CannotMakeAgain),
            Self::RemoteStorage => Some(Assumption::RemoteStorage),
            Self::StateDirectory => Some(Assumption::StateDirectory),
            Self::NotKnown => Some(Assumption::NotKnown),
            // Each has a switch of its own, or the kernel refuses all the same.
            Self::StorageModule
            | Self::ThirdPartyModule
            | Self::UnknownModule
            | Self::Storage
            | Self::User
            | Self::UnknownUser
            | Self::Permanent
            | Self::NotLive
            | Self::DeviceInUse
            | Self::InitScript
            | Self::Blacklist
            | Self::Cycle
            | Self::NoWayBack
            | Self::ModulesDisabled
            | Self::RefusedName
            | Self::ModuleFile
            | Self::ManagementNic
            | Self::Lossy => None,
        }
    }
}

impl Blocker {
    /// What to do about it, and how it is passed over, where it may be.
    #[must_use]
    pub fn what_to_do(&self) -> String {
        match self.kind.assumption().and_then(|assumption| assumption.to_possible_value()) {
            Some(option) => {
                format!("{}; who knows better goes on with --assume-ok {}", self.remedy, option.get_name())
            }
            None => self.remedy.clone(),
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        let speaks_of_itself =
            matches!(self.kind, BlockerKind::Permanent | BlockerKind::NotLive | BlockerKind::UnknownUser);
        if !self.modules.is_empty() && !speaks_of_itself {
            write!(f, ", which keeps {}", list(&self.modules))?;
        }
        write!(f, " ({})", self.what_to_do())
    }
}

pub(crate) fn list(modules: &[ModuleName]) -> String {
    modules.iter().map(ModuleName::as_str).collect::<Vec<_>>().join(", ")
}

/// Something stands in the way of a reload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the modules cannot be swapped: {}", blockers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct BlockersFound {
    /// All of it; never empty.
    pub blockers: Vec<Blocker>,
}

pub(super) fn blocker_of_unload_plan(blocked: &UnloadBlocked) -> Blocker {
    let what = blocked.to_string();
    let remedy = "look at /proc/modules".to_owned();
    Blocker { kind: BlockerKind::Cycle, what, modules: Vec::new(), remedy, user: None }
}

/// Whether a module is one that may not be unloaded.
pub(super) fn forbidden_module(
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

pub(super) fn unremovable_module(module: &LoadedModule) -> Option<(BlockerKind, String, String)> {
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

pub(super) fn remedy_for(user: &UserKind) -> String {
    match user {
        UserKind::Process { pid, .. } => format!("stop the process {pid}, or the pod that it runs in"),
        UserKind::Mount { target, .. } => {
            format!("`umount {}`: what backs it is never unloaded", target.display())
        }
        UserKind::Swap { device } => {
            format!("`swapoff {}`: what backs it is never unloaded", device.display())
        }
        UserKind::Controller { name, .. } if name.starts_with("nvme") => {
            format!("`nvme disconnect -d {name}`, when nothing is on it")
        }
        UserKind::Controller { name, .. } => {
            format!(
                "end the session of {name} (`iscsiadm -m session -u`, or `delete` of the SRP port), when nothing is on it"
            )
        }
        UserKind::Export { .. } => "stop serving it".to_owned(),
        UserKind::Sockets { .. } => "stop the programs that use them".to_owned(),
    }
}

pub(super) fn unknown_user(module: &ModuleName, count: u32, sees_all: bool) -> Blocker {
    // A tracepoint of a module that is counted or attached to keeps it (`perf_trace_event_init` in kernel/trace/trace_event_perf.c), and so
    // does a BPF program on a function of its (`bpf_check_attach_target` in kernel/bpf/verifier.c).
    let (what, remedy) = if sees_all {
        (
            format!(
                "an unknown user of {module} ({count} references): no process, mount or socket explains it"
            ),
            "stop what uses RDMA on this node, or traces the driver (perf, bpftrace); what only the kernel holds goes with a reboot",
        )
    } else {
        (
            format!("an unknown user of {module} ({count} references), not visible from this container"),
            "look on the node itself (`lsof /dev/infiniband/*`, `findmnt`, `swapon`), or give the container hostPID and CAP_SYS_PTRACE",
        )
    };
    let modules = vec![module.clone()];
    Blocker { kind: BlockerKind::UnknownUser, what, modules, remedy: remedy.to_owned(), user: None }
}
