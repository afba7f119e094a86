//! Pods for the lab: what a cluster would make of the manifests of `deploy/`, for the kubelet in a guest.
//!
//! A manifest is rendered, its DaemonSet read by Kubernetes' types, and each container becomes a bundle for an OCI runtime.
//! Images are layers that the guest mounts. What runs in the lab is so the manifest itself.

mod bundle;
mod images;
mod kustomize;
mod manifest;
mod seccomp;

use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use cargo_metadata::Metadata;
use lab_guest::pod::{Container, LAYERS, PODS, Pod};
use serde_json::Value;

use crate::lab::{Kernel, Lab, Programs, cpio};
use crate::sidecar;
use images::{Image, VERSIONS, Version};
use manifest::Source;

/// A kustomization below `deploy/`, with the image of its driver container; a pod in all versions.
#[derive(Debug)]
struct Deployment {
    /// The beginning of its file's name.
    name: &'static str,
    /// Its kustomization below `deploy/`.
    folder: &'static str,
    /// The image of its driver container.
    image: fn(Version) -> Image,
    /// The files that change its DaemonSet, each a JSON patch beside this one.
    patches: &'static [&'static str],
}

const DEPLOYMENTS: [Deployment; 7] = [
    Deployment { name: "openshift", folder: "openshift", image: images::sources, patches: &[LAB] },
    Deployment { name: "sources", folder: "base", image: images::sources, patches: &[LAB] },
    Deployment { name: "sources-debian", folder: "base", image: images::debian_sources, patches: &[LAB] },
    Deployment { name: "precompiled", folder: "precompiled", image: images::precompiled, patches: &[LAB] },
    Deployment {
        name: "least-privilege",
        folder: "least-privilege",
        image: images::debian_sources,
        patches: &[LAB],
    },
    Deployment { name: "incumbent", folder: "base", image: images::incumbent, patches: &[LAB, OPERATOR] },
    Deployment { name: "operator", folder: "base", image: images::compiled, patches: &[LAB, OPERATOR] },
];
/// What an administrator changes for the lab's nodes.
const LAB: &str = "lab.yaml";
/// What the DaemonSet of the operator has otherwise.
const OPERATOR: &str = "operator.yaml";

/// The folder of the manifests.
fn deploy(metadata: &Metadata) -> PathBuf {
    metadata.workspace_root.as_std_path().join("deploy")
}

/// Makes the part of a guest that holds the pods, for a kernel.
pub(crate) fn build(
    lab: &Lab,
    programs: &Programs,
    metadata: &Metadata,
    kernel: Kernel,
) -> anyhow::Result<()> {
    let scratch = tempfile::Builder::new()
        .prefix("pods-")
        .tempdir_in(lab.root())
        .context("cannot create a folder for pods")?;
    let layers = scratch.path().join("layers");
    let sidecar = sidecar::build(metadata, scratch.path())?;
    images::lay_out(
        lab.kernel_tree(kernel)?,
        &lab.packages(kernel)?,
        &[("nic-driver", programs.nic_driver()?), ("nic-driver-sidecar", &sidecar)],
        &layers,
    )?;
    let pods = scratch.path().join("pods");
    fs::create_dir(&pods).context("cannot create a folder for pods")?;
    for (name, pod) in all(&deploy(metadata), &lab.seccomp_profile()?)? {
        let json = serde_json::to_vec_pretty(&pod).context("cannot write a pod as JSON")?;
        fs::write(pods.join(format!("{name}.json")), json)
            .with_context(|| format!("cannot write the pod {name}"))?;
    }
    let part = lab.pods(kernel);
    let file = fs::File::create(&part).with_context(|| format!("cannot create {}", part.display()))?;
    let mut archive = cpio::Archive::new(BufWriter::new(file));
    for (folder, place) in [(&layers, LAYERS), (&pods, PODS)] {
        // Names in an archive begin at the guest's root.
        let place = place.trim_start_matches('/');
        archive.directory(place, 0o755).context("cannot write the pods' archive")?;
        archive.tree_below(folder, place, |_| true)?;
    }
    archive.finish().context("cannot write the pods' archive").map(drop)
}

/// Whether a cluster would know all that the kustomization in `folder` makes: a DaemonSet, and nothing else, in fields that Kubernetes has.
pub(crate) fn validate(folder: &Path) -> anyhow::Result<()> {
    for resource in kustomize::render(folder)? {
        let daemon_set = manifest::daemon_set(&resource)?;
        let spec = manifest::pod_spec(&daemon_set)?;
        let volumes = manifest::volumes(spec)?;
        for container in &spec.containers {
            manifest::probes(container)?;
            for mount in container.volume_mounts.iter().flatten() {
                ensure!(
                    volumes.contains_key(&*mount.name),
                    "the container {} mounts {}, which is no volume",
                    container.name,
                    mount.name
                );
            }
        }
    }
    Ok(())
}

/// All pods, by the name of their file: each kustomization in each version.
fn all(deploy: &Path, seccomp: &Path) -> anyhow::Result<Vec<(String, Pod)>> {
    let mut pods = Vec::new();
    for Deployment { name, folder, image, patches } in DEPLOYMENTS {
        for version in VERSIONS {
            let pod = pod(&deploy.join(folder), &image(version), patches, seccomp)
                .with_context(|| format!("the pod {name}"))?;
            pods.push((format!("{name}-{}", version.letter), pod));
        }
    }
    Ok(pods)
}

fn pod(kustomization: &Path, driver: &Image, patches: &[&str], seccomp: &Path) -> anyhow::Result<Pod> {
    let mut resources = kustomize::render(kustomization)?;
    let is_daemon_set = |resource: &Value| resource.get("kind") == Some(&Value::from("DaemonSet"));
    let resource = resources.iter_mut().find(|resource| is_daemon_set(resource));
    let resource = resource.with_context(|| format!("{} has no DaemonSet", kustomization.display()))?;
    for patch in patches {
        kustomize::patch(resource, &Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pod").join(patch))?;
    }
    let daemon_set = manifest::daemon_set(resource)?;
    let spec = manifest::pod_spec(&daemon_set)?;
    let volumes = manifest::volumes(spec)?;
    let grace = spec.termination_grace_period_seconds.unwrap_or(30);
    let mut containers = Vec::new();
    for container in &spec.containers {
        let image = match container.image.as_deref() {
            Some("nic-driver") => driver.clone(),
            Some("driver-toolkit") => images::toolkit(),
            other => anyhow::bail!("the container {} has the image {other:?}", container.name),
        };
        containers.push(Container {
            name: container.name.clone(),
            layers: image.layers.clone(),
            first_env: Vec::new(),
            config: bundle::config(spec, container, &image, &volumes, seccomp)?,
            probes: manifest::probes(container)?,
        });
    }
    ensure!(!containers.is_empty(), "the DaemonSet has no container");
    let (mut host_paths, mut empty_dirs) = (Vec::new(), Vec::new());
    for (name, source) in &volumes {
        match source {
            Source::Host(host) => host_paths.push(host.clone()),
            Source::EmptyDir => empty_dirs.push((*name).to_owned()),
        }
    }
    Ok(Pod {
        name: daemon_set.metadata.name.clone().context("the DaemonSet has no name")?,
        grace: u32::try_from(grace).context("the grace period is negative")?,
        host_paths,
        empty_dirs,
        containers,
    })
}

#[cfg(test)]
mod tests;
