//! Plans as people and programs read them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{BindStep, NetdevPlan, NetdevStep, PfPlan, PfStep, RdmaRename, RestorePlan, VfPlan};
use crate::{Component, DeviceAddress, NetdevState};

impl fmt::Display for NetdevStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(change) => change.fmt(f),
            Self::Master(Some(master)) => write!(f, "master {master}"),
            Self::Master(None) => f.write_str("nomaster"),
        }
    }
}

impl fmt::Display for PfStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eswitch(change) => change.fmt(f),
            Self::Netdev(step) => step.fmt(f),
            Self::Autoprobe(on) => write!(f, "sriov_drivers_autoprobe {}", u8::from(*on)),
            Self::NumVfs(count) => write!(f, "sriov_numvfs {count}"),
        }
    }
}

impl fmt::Display for BindStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbind(driver) => write!(f, "unbind from {driver}"),
            Self::Override(Some(driver)) => write!(f, "driver_override {driver}"),
            Self::Override(None) => f.write_str("driver_override cleared"),
            Self::Bind(driver) => write!(f, "bind to {driver}"),
        }
    }
}

impl fmt::Display for RdmaRename {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RDMA device {} name {}", self.from, self.to)
    }
}

impl fmt::Display for RestorePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "nothing to do: the NICs are what the snapshot says");
        }
        for pf in &self.pfs {
            writeln!(f, "PF {}", pf.address)?;
            for step in pf.prepare.iter().chain(&pf.eswitch) {
                writeln!(f, "  {step}")?;
            }
            for representor in &pf.representors {
                writeln!(f, "  {}", representor.component)?;
                write_netdev(f, &representor.netdev)?;
            }
            for vf in &pf.vfs {
                writeln!(f, "  {}", vf.component)?;
                for change in &vf.admin_before {
                    writeln!(f, "    before it probes: {change}")?;
                }
                for step in &vf.ofed {
                    writeln!(f, "    before it probes: {step}")?;
                }
                for step in &vf.binding {
                    writeln!(f, "    {step}")?;
                }
                write_netdev(f, &vf.netdev)?;
                for change in &vf.admin_after {
                    writeln!(f, "    when it runs: {change}")?;
                }
            }
            for step in &pf.finish {
                writeln!(f, "  at the end: {step}")?;
            }
            for rename in &pf.rdma {
                writeln!(f, "  when all PFs are back: {rename}")?;
            }
        }
        Ok(())
    }
}

fn write_netdev(f: &mut fmt::Formatter<'_>, plan: &NetdevPlan) -> fmt::Result {
    match plan {
        NetdevPlan::Steps(steps) => steps.iter().try_for_each(|step| writeln!(f, "    {step}")),
        NetdevPlan::OnceThere(netdev) => writeln!(
            f,
            "    once its netdev is there: {}, address {}, mtu {}, {}",
            netdev.name,
            netdev.address,
            netdev.mtu,
            if netdev.up { "up" } else { "down" }
        ),
    }
}

// The steps are shown to people and machines as the text above; a machine that wants to act uses the library.
impl Serialize for RestorePlan {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.pfs.iter().map(PlannedPf::of))
    }
}

/// A PF's plan as `--output json` shows it.
#[derive(Debug, Serialize, Deserialize)]
struct PlannedPf {
    pf: DeviceAddress,
    prepare: Vec<String>,
    eswitch: Vec<String>,
    representors: Vec<PlannedNetdev>,
    vfs: Vec<PlannedVf>,
    finish: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rdma: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PlannedVf {
    #[serde(flatten)]
    netdev: PlannedNetdev,
    admin_before: Vec<String>,
    ofed: Vec<String>,
    binding: Vec<String>,
    admin_after: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PlannedNetdev {
    #[serde(rename = "part")]
    component: Component,
    netdev: Vec<String>,
    once_there: Option<NetdevState>,
}

impl PlannedNetdev {
    fn of(component: &Component, plan: &NetdevPlan) -> Self {
        let (netdev, once_there) = match plan {
            NetdevPlan::Steps(steps) => (texts(steps), None),
            NetdevPlan::OnceThere(state) => (Vec::new(), Some(state.as_ref().clone())),
        };
        Self { component: component.clone(), netdev, once_there }
    }
}

impl PlannedPf {
    fn of(plan: &PfPlan) -> Self {
        Self {
            pf: plan.address.clone(),
            prepare: texts(&plan.prepare),
            eswitch: texts(&plan.eswitch),
            representors: plan
                .representors
                .iter()
                .map(|representor| PlannedNetdev::of(&representor.component, &representor.netdev))
                .collect(),
            vfs: plan.vfs.iter().map(PlannedVf::of).collect(),
            finish: texts(&plan.finish),
            rdma: texts(&plan.rdma),
        }
    }
}

impl PlannedVf {
    fn of(plan: &VfPlan) -> Self {
        Self {
            netdev: PlannedNetdev::of(&plan.component, &plan.netdev),
            admin_before: texts(&plan.admin_before),
            ofed: texts(&plan.ofed),
            binding: texts(&plan.binding),
            admin_after: texts(&plan.admin_after),
        }
    }
}

fn texts<T: fmt::Display>(steps: &[T]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}
