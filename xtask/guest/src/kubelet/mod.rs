//! The kubelet's part of a node, small: runs pods as a kubelet with containerd does, on the runtime crun.
//!
//! What it takes from them: host paths by their types, `emptyDir`s, a root that is fresh at each restart, probes on their
//! schedule, restarts with back-off, the termination message, and a grace period that ends with SIGKILL. What it leaves out:
//! the API, images, networks of their own (its pods are on the node's), init containers, hooks and limits.
//!
//! [`Kubelet::start`] yields a [`RunningPod`], which has all that a scenario asks a pod; [`events`] has
//! what it may be told.

mod back_off;
mod bundle;
mod container;
mod devices;
pub(crate) mod events;
mod instance;
mod probing;
pub(crate) mod running;
mod runtime;
mod schedule;
mod state;
mod stopping;
#[cfg(test)]
mod tests;
mod volumes;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use lab_guest::pod::{LAYERS, PODS, Pod};
use rustix::process::{getpid, set_child_subreaper};
use serde_json::{Value, json};

use self::container::Life;
use self::events::Events;
use self::instance::Place;
use self::running::RunningPod;
use self::runtime::Runtime;

/// A kubelet.
#[derive(Debug)]
pub(crate) struct Kubelet {
    pods: PathBuf,
    layers: PathBuf,
    state: PathBuf,
    runtime: Runtime,
}

impl Kubelet {
    /// The kubelet of this machine, with the pods that the host has put there.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Self::with_roots(PODS, LAYERS, "/run/lab-kubelet", "/run/crun")
    }

    /// A kubelet with folders of its own: of pods, of layers, of its state, and of the runtime's.
    fn with_roots<P: Into<PathBuf>>(pods: P, layers: P, state: P, runtime: P) -> anyhow::Result<Self> {
        // The runtime ends when it has started a container, whose PID 1 then has to become this process' child, so that it can
        // be waited for. In the guest this process is PID 1, which all orphans come to.
        set_child_subreaper(Some(getpid())).context("cannot become the parent of orphans")?;
        let (pods, layers, state) = (pods.into(), layers.into(), state.into());
        Ok(Self { pods, layers, state, runtime: Runtime { root: runtime.into() } })
    }

    /// The pod that the host has derived from a manifest. It may be changed before it starts: [`set_env`], [`Pod::grace`].
    pub(crate) fn read(&self, name: &str) -> anyhow::Result<Pod> {
        let file = self.pods.join(format!("{name}.json"));
        let text = crate::read(&file)?;
        serde_json::from_str(&text).with_context(|| format!("{} is no pod", file.display()))
    }

    /// Starts a pod. What is missing on the node is an error; what goes wrong with a container is an event of the pod, and
    /// tried again.
    pub(crate) fn start(&self, pod: Pod) -> anyhow::Result<RunningPod> {
        let name = &pod.name;
        let folder = self.state.join("pods").join(name);
        ensure!(!folder.exists(), "pod {name} runs already, or something is left of it");
        for path in &pod.host_paths {
            volumes::prepare(path).with_context(|| format!("pod {name}"))?;
        }
        let volumes = folder.join("volumes");
        for name in &pod.empty_dirs {
            volumes::make_empty_dir(&volumes.join(name))?;
        }
        let logs = self.logs_of(name);
        let events = Arc::new(Events::default());
        let mut lives = Vec::new();
        for container in pod.containers {
            let place = Place {
                runtime: self.runtime.clone(),
                id: format!("{name}-{}", container.name),
                layers: self.layers.clone(),
                volumes: volumes.clone(),
                folder: folder.join(&container.name),
                logs: logs.join(&container.name),
            };
            for folder in [&place.folder, &place.logs] {
                fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            }
            lives.push(Life::new(container, place, pod.grace, Arc::clone(&events)));
        }
        RunningPod::begin(pod.name, lives, events, folder, logs)
    }

    /// A folder for the logs of a pod: those of an earlier one of the same name are kept.
    fn logs_of(&self, pod: &str) -> PathBuf {
        let folders = (0..).map(|number: u32| self.state.join(format!("logs/{pod}-{number}")));
        folders.into_iter().find(|folder| !folder.exists()).unwrap_or_default()
    }
}

/// Sets a variable in the environment of a container, as if it stood so in the manifest.
pub(crate) fn set_env(pod: &mut Pod, container: &str, name: &str, value: &str) -> anyhow::Result<()> {
    let process = process_of(pod, container)?;
    let variables = process.entry("env").or_insert_with(|| json!([])).as_array_mut();
    let variables = variables.with_context(|| format!("container {container}: env is no list"))?;
    let prefix = format!("{name}=");
    variables.retain(|variable| !variable.as_str().is_some_and(|variable| variable.starts_with(&prefix)));
    variables.push(json!(format!("{prefix}{value}")));
    Ok(())
}

/// Takes all capabilities from a container, as `drop: [ALL]` in its manifest would.
pub(crate) fn drop_capabilities(pod: &mut Pod, container: &str) -> anyhow::Result<()> {
    process_of(pod, container)?.insert("capabilities".to_owned(), json!({}));
    Ok(())
}

/// What a container runs.
fn process_of<'a>(
    pod: &'a mut Pod,
    container: &str,
) -> anyhow::Result<&'a mut serde_json::Map<String, Value>> {
    let name = &pod.name;
    let found = pod.containers.iter_mut().find(|found| found.name == container);
    let found = found.with_context(|| format!("pod {name} has no container {container}"))?;
    let process = found.config.get_mut("process").and_then(Value::as_object_mut);
    process.with_context(|| format!("container {container} has no process"))
}
