//! Whether somebody uses a VF: asked again right before each write that would take it from its user. The kernel would wait for the user to
//! let go, with the PF's lock held, and then tear the VF out of a machine or a pod that runs.

use super::executor::Executor;
use crate::machine::Machine;
use crate::sysfs::VfWriteError;
use crate::{DeviceAddress, PciAddress};

impl<M: Machine> Executor<'_, M> {
    /// An error when somebody uses the VF, or when that cannot be told.
    pub(super) async fn check_is_unused(&self, vf: PciAddress) -> Result<(), VfWriteError> {
        VfWriteError::of_usage(&vf.into(), self.machine.usage(vf).await).map_or(Ok(()), Err)
    }

    /// An error when somebody uses a VF of the PF, or when that cannot be told.
    pub(super) async fn check_nobody_uses_vfs(&self, pf: &DeviceAddress) -> Result<(), VfWriteError> {
        for vf in self.machine.vfs(pf).await? {
            self.check_is_unused(vf).await?;
        }
        Ok(())
    }
}
