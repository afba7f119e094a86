//! RDMA devices: one for each PF and VF that has its network driver, under the first name that is free.

use nic_netlink::Setting;
use rustix::io::Errno;

use super::{Attempt, Kernel};
use crate::DeviceAddress;

impl Kernel {
    /// A driver without all attributes has no RDMA either.
    pub(super) fn has_rdma(&self, pf: usize) -> bool {
        self.fresh[pf].trust.is_there()
    }

    /// What the names of a device are that has just come.
    pub(in crate::restore::model) fn new_rdma(&self, pf: usize) -> Setting<Vec<String>> {
        if !self.has_rdma(pf) {
            return Setting::NotThere;
        }
        let name = (0..).map(|number| format!("mlx5_{number}")).find(|name| !self.has_rdma_name(name));
        Setting::Set(name.into_iter().collect())
    }

    fn all_rdma(&self) -> impl Iterator<Item = &Setting<Vec<String>>> {
        self.state.pfs.iter().flat_map(|pf| std::iter::once(&pf.rdma).chain(pf.vfs.iter().map(|vf| &vf.rdma)))
    }

    fn has_rdma_name(&self, name: &str) -> bool {
        self.all_rdma().filter_map(Setting::as_set).flatten().any(|taken| taken == name)
    }

    pub(in crate::restore::model) fn rdma_of(&self, device: &DeviceAddress) -> Setting<Vec<String>> {
        for pf in &self.state.pfs {
            if pf.address == *device {
                return pf.rdma.clone();
            }
            if let Some(vf) = pf
                .vfs
                .iter()
                .find(|vf| vf.address.is_some_and(|address| DeviceAddress::from(address) == *device))
            {
                return vf.rdma.clone();
            }
        }
        Setting::NotThere
    }

    /// drivers/infiniband/core/device.c, `ib_device_rename`.
    pub(in crate::restore::model) fn rename_rdma(&mut self, from: &str, to: &str) -> Attempt {
        let what = format!("RDMA device {from} name {to}");
        self.gate(None, &what)?;
        let result = if self.has_rdma_name(to) { Err(Errno::EXIST) } else { self.set_rdma_name(from, to) };
        self.done(what, result)
    }

    fn set_rdma_name(&mut self, from: &str, to: &str) -> Attempt {
        let all = self.state.pfs.iter_mut();
        let all =
            all.flat_map(|pf| std::iter::once(&mut pf.rdma).chain(pf.vfs.iter_mut().map(|vf| &mut vf.rdma)));
        let names = all.filter_map(Setting::as_set_mut).flatten();
        let name = names.into_iter().find(|name| *name == from).ok_or(Errno::INVAL)?;
        to.clone_into(name);
        Ok(())
    }
}
