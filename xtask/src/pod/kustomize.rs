//! The manifests of `deploy/` as kustomize renders them: a kustomization's resources with its JSON patches (RFC 6902). Of
//! kustomize this is what they use, and anything else in one is an error.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use json_patch::Patch;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    api_version: String,
    kind: String,
    resources: Vec<PathBuf>,
    #[serde(default)]
    patches: Vec<PatchFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PatchFile {
    path: PathBuf,
    target: Target,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    kind: String,
    name: String,
}

/// The resources of the kustomization in `folder`.
pub(super) fn render(folder: &Path) -> anyhow::Result<Vec<Value>> {
    let file = folder.join("kustomization.yaml");
    let kustomization: Kustomization = read(&file)?;
    ensure!(
        kustomization.kind == "Kustomization"
            && kustomization.api_version == "kustomize.config.k8s.io/v1beta1",
        "{} is no Kustomization of kustomize.config.k8s.io/v1beta1",
        file.display()
    );
    let mut resources = Vec::new();
    for name in &kustomization.resources {
        let resource = folder.join(name);
        if resource.is_dir() {
            resources.extend(render(&resource)?);
        } else {
            resources.push(read(&resource)?);
        }
    }
    for PatchFile { path, target } in &kustomization.patches {
        let path = folder.join(path);
        let named = resources.iter_mut().find(|resource| {
            resource.get("kind") == Some(&Value::from(&*target.kind))
                && resource.pointer("/metadata/name") == Some(&Value::from(&*target.name))
        });
        let Some(resource) = named else {
            bail!("{} is for the {} {}, which is not there", path.display(), target.kind, target.name);
        };
        patch(resource, &path)?;
    }
    Ok(resources)
}

/// Changes a resource by the JSON patch in a file.
pub(super) fn patch(resource: &mut Value, path: &Path) -> anyhow::Result<()> {
    let patch: Patch = read(path)?;
    json_patch::patch(resource, &patch).with_context(|| format!("cannot apply {}", path.display()))
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} does not parse", path.display()))
}
