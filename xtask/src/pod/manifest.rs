//! The DaemonSet of a manifest, by Kubernetes' own types: what they do not know is an error, since a cluster would refuse it.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{self, PodSpec};
use lab_guest::pod::{HostPath, Probe, ProbeKind};
use serde_json::Value;

/// Reads a DaemonSet.
pub(super) fn daemon_set(resource: &Value) -> anyhow::Result<DaemonSet> {
    let daemon_set: DaemonSet =
        serde_json::from_value(resource.clone()).context("a manifest holds no DaemonSet")?;
    let known = serde_json::to_value(&daemon_set).context("cannot write a DaemonSet as JSON")?;
    let lost = json_patch::diff(&known, resource);
    ensure!(lost.0.is_empty(), "a DaemonSet has fields that Kubernetes does not know: {lost}");
    Ok(daemon_set)
}

/// The pod that it makes.
pub(super) fn pod_spec(daemon_set: &DaemonSet) -> anyhow::Result<&PodSpec> {
    let spec = daemon_set.spec.as_ref().context("a DaemonSet has no spec")?;
    spec.template.spec.as_ref().context("a DaemonSet's template has no spec")
}

/// Where a volume comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Host(HostPath),
    EmptyDir,
}

/// The volumes of a pod, by name.
pub(super) fn volumes(spec: &PodSpec) -> anyhow::Result<BTreeMap<&str, Source>> {
    let one = |volume: &v1::Volume| match (&volume.host_path, &volume.empty_dir) {
        (Some(host), None) => Ok(Source::Host(HostPath {
            path: host.path.clone(),
            kind: host.type_.clone().unwrap_or_default(),
        })),
        (None, Some(_)) => Ok(Source::EmptyDir),
        _ => anyhow::bail!("the volume {} is neither a hostPath nor an emptyDir", volume.name),
    };
    spec.volumes.iter().flatten().map(|volume| Ok((volume.name.as_str(), one(volume)?))).collect()
}

/// The probes of a container.
pub(super) fn probes(container: &v1::Container) -> anyhow::Result<BTreeMap<ProbeKind, Probe>> {
    let all = [
        (ProbeKind::Startup, &container.startup_probe),
        (ProbeKind::Liveness, &container.liveness_probe),
        (ProbeKind::Readiness, &container.readiness_probe),
    ];
    all.into_iter()
        .filter_map(|(kind, probe)| Some((kind, probe.as_ref()?)))
        .map(|(kind, probe)| {
            let one = self::probe(probe)
                .with_context(|| format!("the {kind:?} probe of the container {}", container.name))?;
            Ok((kind, one))
        })
        .collect()
}

fn probe(probe: &v1::Probe) -> anyhow::Result<Probe> {
    let command = probe.exec.as_ref().and_then(|exec| exec.command.clone());
    let seconds = |value: Option<i32>, default: u32| {
        value.map_or(Ok(default), |value| u32::try_from(value).context("a time is negative"))
    };
    Ok(Probe {
        command: command.context("it executes nothing")?,
        delay: seconds(probe.initial_delay_seconds, 0)?,
        period: seconds(probe.period_seconds, 10)?,
        timeout: seconds(probe.timeout_seconds, 1)?,
        failures: seconds(probe.failure_threshold, 3)?,
        successes: seconds(probe.success_threshold, 1)?,
    })
}
