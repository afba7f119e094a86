//! What a restore tells while it goes on.

use nic_netlink::LinkName;
use serde::{Deserialize, Serialize};

use crate::{Component, DeviceAddress, Stage};

/// What happens during a restore, as it happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RestoreEvent {
    /// A stage of a PF begins.
    StageBegan {
        /// The PF.
        pf: DeviceAddress,
        /// The stage.
        stage: Stage,
    },
    /// A stage of a PF has ended.
    StageEnded {
        /// The PF.
        pf: DeviceAddress,
        /// The stage.
        stage: Stage,
    },
    /// A step on the PF itself is about to be tried.
    PfStepBegan {
        /// The PF.
        pf: DeviceAddress,
        /// The step.
        step: String,
    },
    /// A step on the PF itself has been tried: its netdev, autoprobe, the number of VFs, the eswitch.
    PfStep {
        /// The PF.
        pf: DeviceAddress,
        /// The step.
        step: String,
    },
    /// A VF's driver has been bound.
    VfBound {
        /// The VF.
        #[serde(rename = "part")]
        component: Component,
    },
    /// A VF's netdev has come and has its final name.
    VfArrived {
        /// The VF.
        #[serde(rename = "part")]
        component: Component,
        /// The netdev's name.
        name: LinkName,
        /// The name it was first seen under, when that was another.
        first_seen_as: Option<String>,
    },
    /// All that could be done for a VF has been done.
    VfDone {
        /// The VF.
        #[serde(rename = "part")]
        component: Component,
        /// How many steps it took.
        steps: usize,
        /// What went wrong.
        failure: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_in_json_are_those_of_the_journal() {
        let component = Component::Pf("0000:01:00.0".parse().unwrap());
        let name: LinkName = "enp1s0v0".parse().unwrap();
        let events = [
            RestoreEvent::VfBound { component: component.clone() },
            RestoreEvent::VfArrived { component: component.clone(), name, first_seen_as: None },
            RestoreEvent::VfDone { component, steps: 3, failure: None },
        ];
        let json = serde_json::json!([
            {"event": "vf_bound", "part": {"pf": "0000:01:00.0"}},
            {"event": "vf_arrived", "part": {"pf": "0000:01:00.0"}, "name": "enp1s0v0", "first_seen_as": null},
            {"event": "vf_done", "part": {"pf": "0000:01:00.0"}, "steps": 3, "failure": null},
        ]);
        assert_eq!(serde_json::to_value(events).unwrap(), json);
    }
}
