//! What lies in `deploy/` is what a cluster, a builder of images and a service manager would take.

mod containerfile;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::pod;

const KUSTOMIZATION: &str = "kustomization.yaml";
const CONTAINERFILE: &str = "Containerfile";

/// What is wrong below `root`.
pub(super) fn find(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut violations = Vec::new();
    for path in files(&root.join("deploy"))? {
        let shown = path.strip_prefix(root).unwrap_or(&path).display();
        if path.ends_with(KUSTOMIZATION) {
            if let Err(error) = pod::validate(path.parent().unwrap_or(root)) {
                violations.push(format!("{shown}: {error:#}"));
            }
        } else if path.extension().is_some_and(|extension| extension == CONTAINERFILE) {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {shown}"))?;
            violations.extend(containerfile::find(&text).into_iter().map(|what| format!("{shown}: {what}")));
        }
    }
    Ok(violations)
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.with_context(|| format!("cannot walk {}", folder.display()))?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn each_file_is_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let manifest = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata:\n  name: a\nspec:\n  replicas: 2\n  selector: {}\n  template: {}\n";
        let kustomization =
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - a.yaml\n";
        with(root.path(), "deploy/a/a.yaml", manifest);
        with(root.path(), "deploy/a/kustomization.yaml", kustomization);
        with(root.path(), "deploy/images/b.Containerfile", "FROM base AS sources\n");
        let found = find(root.path()).unwrap();
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(
            found[0].starts_with("deploy/a/kustomization.yaml") && found[0].contains("replicas"),
            "{found:#?}"
        );
        assert!(found[1].starts_with("deploy/images/b.Containerfile: "), "{found:#?}");
    }
}
