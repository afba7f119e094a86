//! The course of a restore: the stages of `restore.rs` and `stages.rs`, step for step, on the model.

use nic_netlink::{IfIndex, Link, LinkChange, LinkName, Links, VfChange};
use rustix::io::Errno;

use super::machine::{Killed, Machine};
use crate::names::{Contested, plan_contested};
use crate::plan::{
    BindStep, NetdevStep, PfStep, changes_mode_under_vfs, is_refused_by_mode, obstacles, plan_admin_after,
    plan_admin_before, plan_admin_mac_again, plan_binding, plan_eswitch, plan_finish, plan_netdev,
    plan_prepare, plan_rates_before, vfs_need_binding, vfs_to_unbind, without_blocked_pfs,
    without_vfs_to_unbind,
};
use crate::restore::StepFailure;
use crate::restore::verify::excuse_unsupported;
use crate::step::{Activity, Step};
use crate::{Component, Difference, NetdevState, NicState, PfState, VfNetdev, VfState, compare, plan_ofed};

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) failures: Vec<StepFailure>,
    pub(super) differences: Vec<Difference>,
    pub(super) retried: Vec<Component>,
}

impl Outcome {
    /// The components that are not as saved.
    pub(super) fn wrong(&self) -> Vec<&Difference> {
        self.differences.iter().filter(|difference| difference.is_wrong()).collect()
    }
}

/// Restores `saved`. What would go on at the same time is done in an order that `seed` chooses.
pub(super) fn restore(machine: &mut Machine, saved: &NicState, seed: u64) -> Result<Outcome, Killed> {
    let (restorable, _) = without_blocked_pfs(saved, &obstacles(saved, &machine.state));
    if !compare(&restorable, &machine.state).iter().any(Difference::is_wrong) {
        let differences = compare(saved, &machine.state);
        return Ok(Outcome { failures: Vec::new(), differences, retried: Vec::new() });
    }
    let mut course = Course {
        machine,
        seed,
        failures: Vec::new(),
        contested: Vec::new(),
        nameless: Vec::new(),
        retried: Vec::new(),
    };
    for pf in course.shuffled(0..restorable.pfs.len()) {
        let saved = &restorable.pfs[pf];
        let now = course.machine.state.pfs.iter().position(|now| now.address == saved.address).unwrap();
        course.restore_pf(now, saved)?;
    }
    course.give_contested_names()?;
    let Course { failures, retried, .. } = course;
    let mut differences = compare(saved, &machine.state);
    excuse_unsupported(&mut differences, &failures);
    Ok(Outcome { failures, differences, retried })
}

struct Course<'m> {
    machine: &'m mut Machine,
    seed: u64,
    failures: Vec<StepFailure>,
    contested: Vec<Contested>,
    nameless: Vec<(Component, IfIndex)>,
    retried: Vec<Component>,
}

/// Why a VF could not be bound, or has no netdev.
#[derive(Debug)]
enum BindError {
    InUse,
    Refused(Errno),
    NoNetdev,
}

impl Course<'_> {
    fn shuffled(&mut self, items: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut items: Vec<usize> = items.collect();
        for last in (1..items.len()).rev() {
            // The constants of MMIX.
            self.seed =
                self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            items.swap(last, usize::try_from(self.seed >> 33).unwrap() % (last + 1));
        }
        items
    }

    fn fail(&mut self, component: &Component, step: &dyn Step, errno: Option<Errno>) {
        self.fail_as(component, step, errno, step.may_be_lacking() && errno == Some(Errno::OPNOTSUPP));
    }

    fn fail_as(&mut self, component: &Component, step: &dyn Step, errno: Option<Errno>, unsupported: bool) {
        let cause = errno.map_or("none".to_owned(), |errno| errno.to_string());
        self.failures.push(StepFailure {
            component: component.clone(),
            step: step.to_string(),
            attributes: step.attributes().to_vec(),
            cause,
            unsupported,
        });
    }

    fn note(&mut self, component: &Component, step: &dyn Step, result: Result<(), Errno>) {
        if let Err(errno) = result {
            self.fail(component, step, Some(errno));
        }
    }

    fn admin_step(
        &mut self,
        pf: usize,
        component: &Component,
        found: &PfState,
        vf: &VfState,
        change: &VfChange,
    ) -> Result<(), Killed> {
        match self.machine.admin_step(pf, vf.index, change)? {
            Err(errno) if is_refused_by_mode(found, change) => {
                self.fail_as(component, change, Some(errno), false);
            }
            result => self.note(component, change, result),
        }
        Ok(())
    }

    fn observe_pf(&self, pf: usize) -> PfState {
        self.machine.state.pfs[pf].clone()
    }

    fn restore_pf(&mut self, pf: usize, saved: &PfState) -> Result<(), Killed> {
        let component = Component::Pf(saved.address.clone());
        let found = self.observe_pf(pf);
        let steps = plan_prepare(saved, &found);
        if changes_mode_under_vfs(&steps) && self.unbind_for_mode(saved, &found)? {
            return Ok(());
        }
        for step in steps {
            self.pf_step(pf, &component, &found, &step)?;
        }

        let found = self.observe_pf(pf);
        for (vf, now) in self.restorable_vfs(saved, &without_vfs_to_unbind(saved, &found)) {
            let component = Component::of_vf(saved, vf);
            for change in plan_admin_before(vf, now).into_iter().chain(plan_rates_before(saved, vf, now)) {
                self.admin_step(pf, &component, &found, vf, &change)?;
            }
            for step in plan_ofed(vf.ofed.as_ref(), now.ofed.as_ref()) {
                let result = self.machine.ofed_step(pf, vf.index, step)?;
                self.note(&component, &step, result);
            }
        }

        let Some(found) = self.change_eswitch(pf, saved, found)? else { return Ok(()) };
        if vfs_need_binding(saved, &found) && found.drivers_autoprobe == Some(false) {
            self.pf_step(pf, &component, &found, &PfStep::Autoprobe(true))?;
        }
        let vfs = self.restorable_vfs(saved, &found);
        // All are bound, in some order, and then their netdevs come, in another.
        let mut results = Vec::new();
        for vf in self.shuffled(0..vfs.len()) {
            let (saved, now) = vfs[vf];
            let steps = plan_binding(saved, now);
            let comes_here =
                saved.netdev.is_elsewhere() && steps.iter().any(|step| matches!(step, BindStep::Bind(_)));
            results.push((vf, comes_here, self.bind(saved, steps)?));
        }
        for at in self.shuffled(0..results.len()) {
            let (vf, comes_here, bound) = &mut results[at];
            let saved_vf = vfs[*vf].0;
            let bound = std::mem::replace(bound, Ok(()));
            let result = bound.and_then(|()| self.arrival(saved_vf, *comes_here));
            self.configure_vf(pf, saved, saved_vf, result)?;
        }

        let found = self.observe_pf(pf);
        for (vf, now) in self.restorable_vfs(saved, &found) {
            if let (true, VfNetdev::Here(netdev)) = (vf.netdev.is_elsewhere(), &now.netdev) {
                self.nameless.push((Component::of_vf(saved, vf), netdev.index));
            }
            for change in plan_admin_mac_again(vf, now).into_iter().chain(plan_admin_after(vf, now)) {
                self.admin_step(pf, &Component::of_vf(saved, vf), &found, vf, &change)?;
            }
        }
        for step in plan_finish(saved, &found) {
            self.pf_step(pf, &component, &found, &step)?;
        }
        Ok(())
    }

    fn restorable_vfs<'s>(
        &mut self,
        saved: &'s PfState,
        found: &'s PfState,
    ) -> Vec<(&'s VfState, &'s VfState)> {
        let pairs = saved.vfs.iter().filter_map(|vf| Some((vf, found.vf(vf.index)?)));
        let pairs: Vec<_> = pairs.filter(|(_, now)| !now.is_in_use()).collect();
        let (used, free): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(_, now)| {
            matches!(now.netdev, VfNetdev::OtherDriver)
                && now.address.is_some_and(|address| self.machine.is_in_use(address))
        });
        for (vf, _) in used {
            let component = Component::of_vf(saved, vf);
            if !self.failures.iter().any(|failure| failure.component == component) {
                self.fail(&component, &Activity("restore"), None);
            }
        }
        free
    }

    /// Whether somebody was found to use one of the VFs that must not see the eswitch's mode change.
    fn unbind_for_mode(&mut self, saved: &PfState, found: &PfState) -> Result<bool, Killed> {
        let mut is_used = false;
        for vf in vfs_to_unbind(saved, found) {
            let (Some(address), Some(driver)) = (vf.address, &vf.driver) else { continue };
            let component = Component::of_vf(saved, vf);
            if self.machine.is_in_use(address) {
                self.fail(&component, &BindStep::Unbind(driver.clone()), None);
                is_used = true;
                continue;
            }
            let result = self.machine.bind_step(address, &BindStep::Unbind(driver.clone()))?;
            self.note(&component, &BindStep::Unbind(driver.clone()), result);
        }
        Ok(is_used)
    }

    fn change_eswitch(
        &mut self,
        pf: usize,
        saved: &PfState,
        mut found: PfState,
    ) -> Result<Option<PfState>, Killed> {
        let changes = !plan_eswitch(saved, &found).is_empty();
        if !changes && saved.representors.is_empty() {
            return Ok(Some(found));
        }
        if self.unbind_for_mode(saved, &found)? {
            return Ok(None);
        }
        let component = Component::Pf(saved.address.clone());
        for step in plan_eswitch(saved, &found) {
            self.pf_step(pf, &component, &found, &step)?;
        }
        if changes {
            found = self.observe_pf(pf);
        }
        for representor in &saved.representors {
            let component = Component::Representor { pf: saved.address.clone(), port: representor.port };
            match self.machine.await_port(pf, representor.port) {
                None => self.fail(&component, &Activity("wait for its netdev"), None),
                Some(found) => {
                    let steps = plan_netdev(&representor.netdev, &found);
                    self.netdev_steps(&component, found.index, steps)?;
                }
            }
        }
        Ok(Some(found))
    }

    fn bind(&mut self, saved: &VfState, steps: Vec<BindStep>) -> Result<Result<(), BindError>, Killed> {
        let Some(address) = saved.address else { return Ok(Ok(())) };
        for step in steps {
            if matches!(step, BindStep::Unbind(_)) && self.machine.is_in_use(address) {
                return Ok(Err(BindError::InUse));
            }
            if let Err(errno) = self.machine.bind_step(address, &step)? {
                return Ok(Err(BindError::Refused(errno)));
            }
        }
        Ok(Ok(()))
    }

    fn arrival(&mut self, saved: &VfState, comes_here: bool) -> Result<Option<NetdevState>, BindError> {
        match saved.address {
            Some(address) if comes_here || saved.netdev.here().is_some() => {
                self.machine.await_netdev(address).map(Some).ok_or(BindError::NoNetdev)
            }
            Some(_) | None => Ok(None),
        }
    }

    fn configure_vf(
        &mut self,
        pf: usize,
        saved_pf: &PfState,
        saved: &VfState,
        mut result: Result<Option<NetdevState>, BindError>,
    ) -> Result<(), Killed> {
        let component = Component::of_vf(saved_pf, saved);
        if let (Err(error), Some(driver)) = (&result, &saved.driver)
            && !matches!(error, BindError::InUse)
        {
            self.retried.push(component.clone());
            let now = self.observe_pf(pf);
            let mut steps = now.vf(saved.index).map(|now| plan_binding(saved, now)).unwrap_or_default();
            if !steps.iter().any(|step| matches!(step, BindStep::Bind(_))) {
                steps = vec![BindStep::Unbind(driver.clone()), BindStep::Bind(driver.clone())];
            }
            let comes_here = saved.netdev.is_elsewhere();
            result = self.bind(saved, steps)?.and_then(|()| self.arrival(saved, comes_here));
        }
        match (result, &saved.netdev) {
            (Ok(Some(found)), VfNetdev::Here(wanted)) => {
                self.netdev_steps(&component, found.index, plan_netdev(wanted, &found))
            }
            (Ok(_), _) => Ok(()),
            (Err(error), _) => {
                let errno = if let BindError::Refused(errno) = error { Some(errno) } else { None };
                self.fail(&component, &Activity("bind and wait for the netdev"), errno);
                Ok(())
            }
        }
    }

    fn netdev_steps(
        &mut self,
        component: &Component,
        index: IfIndex,
        steps: Vec<NetdevStep>,
    ) -> Result<(), Killed> {
        for step in steps {
            match self.machine.netdev_step(index, &step)? {
                Ok(()) => {}
                Err(Errno::EXIST)
                    if matches!(step, NetdevStep::Link(LinkChange::Name(_) | LinkChange::AddAltName(_))) =>
                {
                    self.contested.push(Contested { component: component.clone(), index, step });
                }
                Err(errno) => self.fail(component, &step, Some(errno)),
            }
        }
        Ok(())
    }

    fn pf_step(
        &mut self,
        pf: usize,
        component: &Component,
        found: &PfState,
        step: &PfStep,
    ) -> Result<(), Killed> {
        if let (PfStep::Netdev(step), Some(netdev)) = (step, &found.netdev) {
            return self.netdev_steps(component, netdev.index, vec![step.clone()]);
        }
        let result = self.machine.pf_step(pf, step)?;
        self.note(component, step, result);
        Ok(())
    }

    fn give_contested_names(&mut self) -> Result<(), Killed> {
        let contested = std::mem::take(&mut self.contested);
        if contested.is_empty() {
            return Ok(());
        }
        let nameless = std::mem::take(&mut self.nameless);
        let plan = plan_contested(&contested, &nameless, &links(self.machine));
        for (entry, _) in plan.taken {
            self.fail(&entry.component, &entry.step, Some(Errno::EXIST));
        }
        for Contested { component, index, step } in plan.steps {
            self.netdev_steps(&component, index, vec![step])?;
        }
        for entry in std::mem::take(&mut self.contested) {
            self.fail(&entry.component, &entry.step, Some(Errno::EXIST));
        }
        Ok(())
    }
}

fn links(machine: &Machine) -> Links {
    let link = |(index, name, altnames, up): (IfIndex, LinkName, Vec<String>, bool)| Link {
        altnames,
        up,
        ..Link::new(index, name)
    };
    Links::new(machine.names().into_iter().map(link))
}
