//! The devices that a privileged container has: the node's, as they are when it starts.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

/// What the runtime makes anew in each container.
const OF_RUNTIME: [&str; 5] = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console", "/dev/fd"];

/// `linux.devices` with all of this node's devices.
pub(super) fn of_node() -> anyhow::Result<Value> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), &mut found)?;
    Ok(Value::Array(found))
}

fn collect(folder: &Path, found: &mut Vec<Value>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        if OF_RUNTIME.iter().any(|own| path == Path::new(own)) {
            continue;
        }
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            // A device may go at any time.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            collect(&path, found)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            let number = metadata.rdev();
            found.push(json!({
                "path": path,
                "type": if kind.is_char_device() { "c" } else { "b" },
                "major": rustix::fs::major(number),
                "minor": rustix::fs::minor(number),
                "fileMode": metadata.mode() & 0o777,
                "uid": metadata.uid(),
                "gid": metadata.gid(),
            }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_this_machine_are_found() {
        let found = of_node().unwrap();
        let null = found.as_array().unwrap().iter().find(|device| device["path"] == "/dev/null").unwrap();
        assert_eq!((&null["type"], &null["major"], &null["minor"]), (&json!("c"), &json!(1), &json!(3)));
    }
}
