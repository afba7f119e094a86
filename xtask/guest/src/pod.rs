//! A pod, as the host derives it from a manifest and the guest's kubelet runs it.
//!
//! Each container is an OCI runtime's bundle; what a kubelet does around the runtime (volumes, probes, restarts, the grace
//! period) is here as data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the host puts pods in the guest, each a file `NAME.json`.
pub const PODS: &str = "/lab/pods";
/// Where the layers of images are in the guest, each a folder.
pub const LAYERS: &str = "/lab/layers";
/// With what the source of a mount begins that is an `emptyDir` of the pod; the volume's name follows.
pub const EMPTY_DIR: &str = "emptydir:";
/// The source of the mount that is the container's file for termination messages.
pub const TERMINATION_MESSAGE: &str = "termination-message:";

/// A pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    /// `metadata.name` of its manifest.
    pub name: String,
    /// `terminationGracePeriodSeconds`, in seconds.
    pub grace: u32,
    /// Paths of the node that its volumes name.
    pub host_paths: Vec<HostPath>,
    /// Names of its volumes of the kind `emptyDir`.
    pub empty_dirs: Vec<String>,
    /// Its containers, in the order of the manifest.
    pub containers: Vec<Container>,
}

/// A path of the node, with what is to be there before the pod starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPath {
    /// The path.
    pub path: String,
    /// `hostPath.type`; empty where the manifest has none.
    pub kind: String,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Its name in the manifest.
    pub name: String,
    /// The layers of its image, folders below [`LAYERS`], the uppermost first.
    pub layers: Vec<String>,
    /// The runtime's `config.json`. The kubelet puts in what only the node knows: the root, and the sources of mounts that
    /// begin with [`EMPTY_DIR`] or are [`TERMINATION_MESSAGE`].
    pub config: serde_json::Value,
    /// Variables of its first instance alone, each `NAME=value`: by what a scenario kills one instance and not the next.
    #[serde(default)]
    pub first_env: Vec<String>,
    /// Its probes, as far as the manifest has them.
    pub probes: BTreeMap<ProbeKind, Probe>,
}

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeKind {
    /// Until it has passed, the others are not run; when it has failed too often, the container is killed.
    Startup,
    /// When it has failed too often, the container is killed.
    Liveness,
    /// The container is ready as long as it passes.
    Readiness,
}

/// A probe that executes a program in the container. Times are in seconds, with Kubernetes' defaults where the manifest says
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The program with its arguments.
    pub command: Vec<String>,
    /// `initialDelaySeconds`.
    pub delay: u32,
    /// `periodSeconds`.
    pub period: u32,
    /// `timeoutSeconds`.
    pub timeout: u32,
    /// `failureThreshold`.
    pub failures: u32,
    /// `successThreshold`.
    pub successes: u32,
}
