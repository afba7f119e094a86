//! The names in the program's journal that the host side goes by. It reads lines as plain JSON, since it is built without the program; the
//! guest side's tests hold these names against the program's types.

/// What a line says.
pub const KIND: &str = "kind";
/// The phase of a line.
pub const PHASE: &str = "phase";
/// Milliseconds since the boot.
pub const UPTIME: &str = "uptime_ms";

/// The kind of a phase's beginning.
pub const PHASE_BEGAN: &str = "phase_began";
/// The kind of its end.
pub const PHASE_ENDED: &str = "phase_ended";
/// The kind of what happens within a restore, and the field that has it.
pub const RESTORE: &str = "restore";

/// The phase that restores.
pub const RESTORE_SRIOV: &str = "restore-sriov";

/// What happens within a restore.
pub const EVENT: &str = "event";
/// A stage of a PF begins.
pub const STAGE_BEGAN: &str = "stage_began";
/// And has ended.
pub const STAGE_ENDED: &str = "stage_ended";
/// A VF is bound.
pub const VF_BOUND: &str = "vf_bound";
/// Its netdev is there.
pub const VF_ARRIVED: &str = "vf_arrived";
/// All is done for it.
pub const VF_DONE: &str = "vf_done";

/// The PF of a stage, and of a VF.
pub const PF: &str = "pf";
/// The stage.
pub const STAGE: &str = "stage";
/// The stages that the picture shows.
pub const STAGES: Stages = Stages { prepare: "prepare", admin: "admin", vfs: "vfs", finish: "finish" };
/// The VF of an event.
pub const VF: &str = "/part/vf";
/// The VF's number.
pub const INDEX: &str = "index";

/// The stages of a PF's restore.
#[derive(Debug, Clone, Copy)]
pub struct Stages {
    /// The PF itself.
    pub prepare: &'static str,
    /// What it holds for its VFs.
    pub admin: &'static str,
    /// The VFs.
    pub vfs: &'static str,
    /// What is left of the PF.
    pub finish: &'static str,
}
