//! What an attempt that failed means for a container that stays.

use super::super::error::PhaseError;
use crate::Exit;
use crate::context::BeginError;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The container was told to stop.
    Stopped,
    /// It may pass: modules in use, another instance, a repository that does not answer, NICs that are not what they were.
    Passes,
    /// As before, and what stands in the way of a reload can be looked for without trying again.
    Blocked,
    /// It does not pass: the container ends.
    Ends,
}

impl Obstacle {
    /// For what is about the node, where nothing but a missing privilege is final.
    pub(super) fn passes(error: &PhaseError) -> Self {
        match error {
            PhaseError::Begin(BeginError::Interrupted(_)) => Self::Stopped,
            PhaseError::Blocked(_) => Self::Blocked,
            error => match error.exit() {
                Exit::Interrupted => Self::Stopped,
                Exit::NotRoot | Exit::Usage => Self::Ends,
                _ => Self::Passes,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Interrupted;
    use crate::privileges::PrivilegeError;
    use crate::swap::BlockersFound;

    #[test]
    fn what_is_wrong_with_the_node_may_pass() {
        let stopped = PhaseError::from(BeginError::from(Interrupted));
        assert_eq!(Obstacle::passes(&stopped), Obstacle::Stopped);
        let part = PhaseError::part("a part")(PhaseError::from(BeginError::from(Interrupted)));
        assert_eq!(Obstacle::passes(&part), Obstacle::Stopped);
        let blocked = PhaseError::from(BlockersFound { blockers: Vec::new() });
        assert_eq!(Obstacle::passes(&blocked), Obstacle::Blocked);
        assert_eq!(Obstacle::passes(&PhaseError::NotReady("a VF".to_owned())), Obstacle::Passes);
        let not_root = PhaseError::from(BeginError::from(PrivilegeError::NotRoot("a command")));
        assert_eq!(Obstacle::passes(&not_root), Obstacle::Ends);
    }
}
