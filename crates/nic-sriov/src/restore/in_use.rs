//! Whether somebody uses a VF, or the PF itself: asked again right before each write that would take it from its user. The kernel would wait
//! for the user to let go, with the PF's lock held, and then tear the VF out of a machine or a pod that runs.

use super::executor::Executor;
use crate::machine::Machine;
use crate::step::Activity;
use crate::sysfs::VfWriteError;
use crate::{Component, DeviceAddress};

impl<M: Machine> Executor<'_, M> {
    /// An error when somebody uses the PF or VF itself, or when that cannot be told.
    pub(super) async fn check_is_unused(&self, device: &DeviceAddress) -> Result<(), VfWriteError> {
        VfWriteError::of_usage(device, self.machine.usage(device).await).map_or(Ok(()), Err)
    }

    /// Whether somebody uses the PF itself, or that cannot be told, so that its eswitch's mode may not change: the kernel would take the PF's
    /// RDMA and auxiliary devices from their users (mlx5's `mlx5_rescan_drivers_locked` below `esw_mode_change` in `eswitch_offloads.c`).
    pub(super) async fn is_used_below_mode(&self, pf: &DeviceAddress) -> bool {
        let Err(in_use) = self.check_is_unused(pf).await else { return false };
        self.fail(&Component::Pf(pf.clone()), &Activity("change the eswitch's mode"), &in_use.into());
        true
    }

    /// An error when somebody uses a VF of the PF, or when that cannot be told.
    pub(super) async fn check_nobody_uses_vfs(&self, pf: &DeviceAddress) -> Result<(), VfWriteError> {
        for vf in self.machine.vfs(pf).await? {
            self.check_is_unused(&vf.into()).await?;
        }
        Ok(())
    }
}
