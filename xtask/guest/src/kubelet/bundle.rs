//! The runtime's bundle of one instance of a container: its root, fresh from the image, and its `config.json`.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use lab_guest::pod::{Container, EMPTY_DIR, TERMINATION_MESSAGE};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};

use super::{devices, volumes};

/// A bundle on disk.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) folder: PathBuf,
    /// `process` of its `config.json`, after which processes are executed in it.
    process: Value,
}

impl Bundle {
    /// Makes the bundle. `more` are variables of this instance alone, and `volumes` is where the pod's `emptyDir`s are.
    pub(super) fn make(
        container: &Container,
        more: &[String],
        folder: PathBuf,
        layers: &Path,
        volumes: &Path,
    ) -> anyhow::Result<Self> {
        for name in ["upper", "work", "rootfs"] {
            let part = folder.join(name);
            fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
        }
        let message = folder.join("termination-message");
        volumes::make_file(&message, 0o666)?;
        let mut config = filled(&container.config, &folder.join("rootfs"), volumes, &message)?;
        // A container that may have every device is a privileged one.
        if config.pointer("/linux/resources/devices/0/allow") == Some(&json!(true)) {
            let devices = devices::of_node()?;
            if let Some(Value::Object(linux)) = config.get_mut("linux") {
                linux.insert("devices".to_owned(), devices);
            }
        }
        if let Some(Value::Array(variables)) = config.pointer_mut("/process/env") {
            variables.extend(more.iter().map(|variable| json!(variable)));
        }
        let file = folder.join("config.json");
        fs::write(&file, config.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
        let process = config.get("process").cloned().context("config.json has no process")?;
        let options = overlay_options(container, layers, &folder)?;
        mount("overlay", folder.join("rootfs"), "overlay", MountFlags::empty(), Some(options.as_c_str()))
            .with_context(|| format!("cannot mount the root {options:?}"))?;
        Ok(Self { folder, process })
    }

    /// What the container has left as its termination message: the end of it, as a kubelet takes it.
    pub(super) fn termination_message(&self) -> anyhow::Result<String> {
        const LIMIT: usize = 4096;
        let file = self.folder.join("termination-message");
        let message = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let end = message.get(message.len().saturating_sub(LIMIT)..).unwrap_or_default();
        Ok(String::from_utf8_lossy(end).into_owned())
    }

    /// The container's process with another program.
    pub(super) fn process(&self, words: &[String]) -> Value {
        let mut process = self.process.clone();
        if let Value::Object(keys) = &mut process {
            keys.insert("args".to_owned(), json!(words));
            keys.insert("terminal".to_owned(), json!(false));
        }
        process
    }

    /// Removes all of it.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        remove(&self.folder)
    }
}

/// Removes a bundle, also one that was not made to the end.
pub(super) fn remove(folder: &Path) -> anyhow::Result<()> {
    let root = folder.join("rootfs");
    match unmount(&root, UnmountFlags::empty()) {
        // Nothing is mounted there, or there is nothing.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(errno).with_context(|| format!("cannot unmount {}", root.display())),
    }
    volumes::remove(folder)
}

/// The layers below, the uppermost first, as overlayfs wants them.
fn overlay_options(container: &Container, layers: &Path, folder: &Path) -> anyhow::Result<CString> {
    let mut lower = Vec::new();
    for layer in &container.layers {
        let layer = layers.join(layer);
        ensure!(layer.is_dir(), "layer {} is not there", layer.display());
        lower.push(layer.display().to_string());
    }
    ensure!(!lower.is_empty(), "the image has no layers");
    let (upper, work) = (folder.join("upper"), folder.join("work"));
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), upper.display(), work.display());
    CString::new(options).context("a path with a zero byte")
}

/// The `config.json` with what only the node knows.
fn filled(config: &Value, root: &Path, volumes: &Path, message: &Path) -> anyhow::Result<Value> {
    let mut config = config.clone();
    let keys = config.as_object_mut().context("config.json is no object")?;
    let is_read_only = keys.get("root").and_then(|root| root.get("readonly")).cloned();
    keys.insert("root".to_owned(), json!({ "path": root, "readonly": is_read_only.unwrap_or(json!(false)) }));
    let mounts = keys.get_mut("mounts").and_then(Value::as_array_mut);
    for mount in mounts.into_iter().flatten() {
        let Some(Value::String(source)) = mount.get_mut("source") else { continue };
        if let Some(name) = source.strip_prefix(EMPTY_DIR) {
            let volume = volumes.join(name);
            ensure!(volume.is_dir(), "the pod has no emptyDir {name}");
            *source = volume.display().to_string();
        } else if source == TERMINATION_MESSAGE {
            *source = message.display().to_string();
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_node_knows_is_filled_in() {
        let volumes = std::env::temp_dir().join(format!("lab-kubelet-volumes-{}", std::process::id()));
        fs::create_dir_all(volumes.join("cache")).unwrap();
        let config = |source: &str| {
            json!({
                "process": { "args": ["a"] },
                "root": { "path": "", "readonly": true },
                "mounts": [
                    { "destination": "/proc", "type": "proc" },
                    { "destination": "/a", "source": source },
                    { "destination": "/b", "source": "termination-message:" },
                    { "destination": "/c", "source": "/emptydir:cache" },
                ],
            })
        };
        let filled =
            |source| filled(&config(source), Path::new("/b/rootfs"), &volumes, Path::new("/b/message"));
        let mut expected = config(volumes.join("cache").to_str().unwrap());
        expected["root"]["path"] = json!("/b/rootfs");
        expected["mounts"][2]["source"] = json!("/b/message");
        assert_eq!(filled("emptydir:cache").unwrap(), expected);
        let error = filled("emptydir:other").unwrap_err().to_string();
        assert!(error.contains("no emptyDir other"), "{error}");
        fs::remove_dir_all(volumes).unwrap();
    }
}
