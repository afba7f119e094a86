use std::time::Duration;

use crate::driver_side::SetUpStep;
use crate::status::{BuildProgress, SidecarState};

/// What happens, for a log or a display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverEvent {
    /// A step of setting up begins.
    Step(SetUpStep),
    /// What is asked for is being built already, as an earlier process asked.
    Resumed,
    /// The sidecar gives signs of life.
    Alive,
    /// What the sidecar is doing, and how far it is.
    Progress {
        /// What it does.
        state: SidecarState,
        /// How far it is.
        progress: BuildProgress,
    },
    /// The sidecar gives no sign of life for so long. It may be started again.
    Silent(Duration),
    /// The packages are built, and are copied next.
    Built,
    /// A done flag, of a build of something else, was removed, and the start flag put again.
    StaleDoneFlag,
}
