//! Exit codes: what a caller can tell from the number alone. `docs/exit-codes.md` is the table for people.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing had to be done.
    Success = 0,
    /// Failed before anything was changed, for a reason without a code of its own.
    Failed = 1,
    /// The command line or a setting is wrong. Nothing was changed.
    Usage = 2,
    /// Something stands in the way of the reload. Nothing was changed.
    Blocked = 3,
    /// It failed half way, and was rolled back: the machine is what it was.
    RolledBack = 4,
    /// It failed half way: the node is degraded. What was saved is on disk, and a further run goes on from there.
    Degraded = 5,
    /// The process is not root, or lacks a capability. Nothing was changed.
    NotRoot = 10,
    /// There is no PF of the family. Nothing was changed.
    NoPf = 11,
    /// A PF that had VFs has no SR-IOV, or too few VFs, or is gone. Nothing was changed.
    PfUnsuitable = 12,
    /// A module file is missing or damaged. Nothing was changed.
    NoModule = 13,
    /// The stored snapshot cannot be read, or is not of this boot. Nothing was changed.
    BadSnapshot = 14,
    /// There is no stored snapshot. Nothing was changed.
    NoSnapshot = 15,
    /// The packages are missing, damaged, or not for this machine. Nothing was changed.
    BadPackage = 16,
    /// Another instance is at work. Nothing was changed.
    Locked = 17,
    /// Asked to stop before anything was begun that must not be left half done. What runs was not changed.
    Interrupted = 18,
}

impl Exit {
    /// The one with this number.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| *exit as u8 == number)
    }

    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Success,
        Self::Failed,
        Self::Usage,
        Self::Blocked,
        Self::RolledBack,
        Self::Degraded,
        Self::NotRoot,
        Self::NoPf,
        Self::PfUnsuitable,
        Self::NoModule,
        Self::BadSnapshot,
        Self::NoSnapshot,
        Self::BadPackage,
        Self::Locked,
        Self::Interrupted,
    ];
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_numbers_are_the_contract() {
        // A new one does not compile here until it has its number; then `ALL` is to have it, too.
        let number = |exit: Exit| match exit {
            Exit::Success => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Blocked => 3,
            Exit::RolledBack => 4,
            Exit::Degraded => 5,
            Exit::NotRoot => 10,
            Exit::NoPf => 11,
            Exit::PfUnsuitable => 12,
            Exit::NoModule => 13,
            Exit::BadSnapshot => 14,
            Exit::NoSnapshot => 15,
            Exit::BadPackage => 16,
            Exit::Locked => 17,
            Exit::Interrupted => 18,
        };
        let numbers: Vec<u8> = Exit::ALL.into_iter().map(number).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 16, 17, 18]);
        assert!(Exit::ALL.into_iter().all(|exit| exit as u8 == number(exit)));
    }
}
