//! How long each kind of operation may take: in one place, each with its reason.
//!
//! What the kernel does to the VFs of a PF one after the other grows with the VFs of that PF. What is one VF's, one attribute's or one
//! netdev's does not grow at all, however many there are on the machine. No PF waits for another's VFs.

use std::time::Duration;

/// An operation, as far as how long it may take is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Writing `sriov_numvfs` of a PF that gets or loses so many VFs: they are made and removed one after the other within the write
    /// (drivers/pci/iov.c, `sriov_add_vfs` and `sriov_del_vfs`).
    NumVfs {
        /// The VFs of that PF.
        vfs: usize,
    },
    /// Changing the mode of an eswitch with so many VFs: a representor is made or removed for each, one after the other (mlx5's
    /// eswitch_offloads.c, `mlx5_esw_offloads_load_rep` from `esw_offloads_enable`).
    EswitchMode {
        /// The VFs of that PF.
        vfs: usize,
    },
    /// Looking at a PF: its `sriov_numvfs` is read under the lock that a write to it holds (drivers/pci/iov.c, `sriov_numvfs_show`, on kernels
    /// 5.5 to 6.8), so that it waits for as long as that may take.
    Observe {
        /// The VFs of the PF; of several, those of the one that has most.
        vfs: usize,
    },
    /// Waiting for the representors of a PF: udev gets round to one after the other.
    Ports {
        /// How many.
        ports: usize,
    },
    /// Binding or unbinding one VF. A restore has no more than `jobs` of them under way at one time, so that none waits for all.
    Bind,
    /// Waiting for one netdev, until udev has done with it. Those of VFs are waited for with the binding, at most `jobs` at one time.
    Netdev,
    /// Setting one attribute, over netlink or by a file.
    Attribute,
    /// The arrival of a PF whose driver has just been loaded. It has no VFs then; firmware is waited for, for minutes (mlx5's main.c,
    /// `FW_PRE_INIT_TIMEOUT_MILI`).
    PfArrival,
    /// Giving back the names that wait for all PFs: some round of contested names, or of RDMA devices, that hangs, and the rest.
    Names,
    /// Unloading or loading modules, by which the kernel removes or probes all devices of the driver one after the other.
    Driver {
        /// The VFs of all PFs.
        vfs: usize,
    },
}

/// How patient a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// What one operation may take that does not grow; on a PF with a single VF, any.
    pub base: Duration,
    /// What each VF adds to an operation that grows.
    pub per_vf: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { base: Duration::from_secs(60), per_vf: Duration::from_secs(2) }
    }
}

/// Time for an operation that hangs, for its second try, and for the rest.
const HANGS_OF_ALL: u32 = 3;

impl Patience {
    /// What the operation may take.
    #[must_use]
    pub fn of(self, operation: Operation) -> Duration {
        match operation {
            Operation::NumVfs { vfs }
            | Operation::EswitchMode { vfs }
            | Operation::Observe { vfs }
            | Operation::Ports { ports: vfs }
            | Operation::Driver { vfs } => {
                self.base.saturating_add(self.per_vf.saturating_mul(u32::try_from(vfs).unwrap_or(u32::MAX)))
            }
            Operation::Bind | Operation::Netdev | Operation::Attribute => self.base,
            Operation::PfArrival | Operation::Names => self.base.saturating_mul(HANGS_OF_ALL),
        }
    }

    /// What the restore of a PF with so many VFs may take, all of its stages together.
    #[must_use]
    pub fn of_pf(self, vfs: usize) -> Duration {
        self.of(Operation::NumVfs { vfs }).saturating_mul(HANGS_OF_ALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_5_3_what_is_one_vfs_does_not_grow_and_what_is_a_pfs_grows_with_that_pf() {
        let patience = Patience::default();
        let minute = Duration::from_secs(60);
        for operation in [Operation::Bind, Operation::Netdev, Operation::Attribute] {
            assert_eq!(patience.of(operation), minute, "{operation:?}");
        }
        let creating = |vfs| patience.of(Operation::NumVfs { vfs });
        assert_eq!((creating(0), creating(254)), (minute, minute + Duration::from_secs(508)));
        assert_eq!(patience.of_pf(254), 3 * creating(254));
        // However long somebody wants it, it is a time.
        let endless = Patience { base: Duration::MAX, ..patience };
        assert_eq!(endless.of_pf(usize::MAX), Duration::MAX);
    }
}
