//! Plans as people and programs read them.

use std::collections::HashSet;
use std::fmt;

use nic_netlink::PhysPortName;
use serde::Serialize;

use super::{
    AdminStep, BindStep, LeftAlone, NetdevStep, PfStep, PlannedStep, RdmaRename, RestoreObstacle,
    RestorePlan, RestoreStep,
};
use crate::{Component, DeviceAddress, PciAddress, Stage};

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

impl fmt::Display for AdminStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netlink(change) => change.fmt(f),
            Self::Ofed(step) => step.fmt(f),
        }
    }
}

impl fmt::Display for RestoreStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pf(step) => step.fmt(f),
            Self::Admin(step) => step.fmt(f),
            Self::Bind(step) => step.fmt(f),
            Self::Netdev(step) => step.fmt(f),
            Self::NetdevOnceThere(netdev) => {
                let (name, address, mtu) = (&netdev.name, &netdev.address, netdev.mtu);
                write!(f, "once its netdev is there: {name}, address {address}, ")?;
                if let Some(mode) = netdev.ipoib_mode.as_set() {
                    write!(f, "mode {mode}, ")?;
                }
                write!(f, "mtu {mtu}, {}", if netdev.up { "up" } else { "down" })
            }
            Self::Rdma { from, to } => write!(f, "RDMA device {from} name {to}"),
            Self::RdmaOnceThere(names) => {
                write!(f, "once its RDMA devices are there: {}", names.join(", "))
            }
        }
    }
}

impl fmt::Display for LeftAlone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.component, self.usage)
    }
}

impl fmt::Display for RestorePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "nothing to do: the NICs are what the snapshot says");
        }
        for obstacle in &self.obstacles {
            writeln!(f, "left alone: {obstacle}")?;
        }
        for left in &self.left_alone {
            writeln!(f, "left alone: {left}")?;
        }
        for stage in self.steps.chunk_by(|one, other| one.stage == other.stage) {
            if let Some(first) = stage.first() {
                writeln!(f, "{}", first.stage)?;
            }
            for pf in stage.chunk_by(|one, other| one.component.pf() == other.component.pf()) {
                if let Some(first) = pf.first() {
                    writeln!(f, "  PF {}", first.component.pf())?;
                }
                for part in pf.chunk_by(|one, other| one.component == other.component) {
                    write_part(f, part)?;
                }
            }
        }
        self.write_total(f)
    }
}

impl RestorePlan {
    fn write_total(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let components: HashSet<&Component> = self.steps.iter().map(|step| &step.component).collect();
        let pfs: HashSet<&DeviceAddress> = components.iter().map(|component| component.pf()).collect();
        let vfs = components.iter().filter(|component| matches!(component, Component::Vf { .. })).count();
        let (left_pfs, left_vfs): (Vec<_>, Vec<_>) =
            self.left_alone.iter().partition(|left| matches!(left.component, Component::Pf(_)));
        let left_pfs = left_pfs.into_iter().map(|left| left.component.pf());
        let blocked: HashSet<&DeviceAddress> =
            self.obstacles.iter().map(RestoreObstacle::pf).chain(left_pfs).collect();
        let count =
            |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let (all, of_pfs) = (count(self.steps.len(), "step"), count(pfs.len(), "PF"));
        write!(f, "in all {all}, on {of_pfs} and {}", count(vfs, "VF"))?;
        if !blocked.is_empty() || !left_vfs.is_empty() {
            let (pfs, vfs) = (count(blocked.len(), "PF"), count(left_vfs.len(), "VF"));
            write!(f, "; left alone: {pfs} and {vfs}")?;
        }
        writeln!(f)
    }
}

/// Steps of one stage on one thing.
fn write_part(f: &mut fmt::Formatter<'_>, steps: &[PlannedStep]) -> fmt::Result {
    let indent = match steps.first().map(|first| &first.component) {
        Some(part @ (Component::Vf { .. } | Component::Representor { .. })) => {
            writeln!(f, "    {part}")?;
            "      "
        }
        Some(Component::Pf(_)) | None => "    ",
    };
    steps.iter().try_for_each(|step| writeln!(f, "{indent}{}", step.step))
}

impl Serialize for RestorePlan {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let obstacles = self.obstacles.iter().map(|obstacle| ObstacleRow {
            pf: obstacle.pf(),
            kind: obstacle.kind(),
            reason: obstacle.to_string(),
        });
        let left_alone = self
            .left_alone
            .iter()
            .map(|left| LeftAloneRow { place: Place::of(&left.component), reason: left.usage.to_string() });
        let steps = self.steps.iter().map(|planned| StepRow {
            stage: planned.stage,
            place: Place::of(&planned.component),
            step: &planned.step,
        });
        PlanRow { obstacles: obstacles.collect(), left_alone: left_alone.collect(), steps: steps.collect() }
            .serialize(serializer)
    }
}

/// A plan as `--output json` shows it.
#[derive(Debug, Serialize)]
struct PlanRow<'a> {
    obstacles: Vec<ObstacleRow<'a>>,
    left_alone: Vec<LeftAloneRow<'a>>,
    steps: Vec<StepRow<'a>>,
}

#[derive(Debug, Serialize)]
struct ObstacleRow<'a> {
    pf: &'a DeviceAddress,
    kind: &'static str,
    reason: String,
}

#[derive(Debug, Serialize)]
struct LeftAloneRow<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    reason: String,
}

#[derive(Debug, Serialize)]
struct StepRow<'a> {
    stage: Stage,
    #[serde(flatten)]
    place: Place<'a>,
    step: &'a RestoreStep,
}

/// What a row is about.
#[derive(Debug, Serialize)]
struct Place<'a> {
    pf: &'a DeviceAddress,
    #[serde(skip_serializing_if = "Option::is_none")]
    vf: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<PciAddress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    representor: Option<PhysPortName>,
}

impl<'a> Place<'a> {
    fn of(component: &'a Component) -> Self {
        let place = Self { pf: component.pf(), vf: None, address: None, representor: None };
        match component {
            Component::Pf(_) => place,
            Component::Vf { index, address, .. } => Self { vf: Some(*index), address: *address, ..place },
            Component::Representor { port, .. } => Self { representor: Some(*port), ..place },
        }
    }
}
