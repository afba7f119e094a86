//! What mounts and swap areas stand on: file systems, and block devices down to the last.

use std::fs;
use std::path::{Path, PathBuf};

use nic_host::{Host, ReadError};

/// How deep block devices are followed: a file system on a loop device on a file on a mapped device on…
const DEPTH: usize = 8;

/// One thing that storage stands on.
#[derive(Debug, Clone)]
pub(super) enum Ground {
    /// A mounted file system.
    FileSystem(Mount),
    /// A device's folder in sysfs: of a block device, or of what is above it there, such as its controller.
    Device(PathBuf),
}

/// One line of `/proc/<pid>/mountinfo` (`show_mountinfo` in `fs/proc_namespace.c`).
#[derive(Debug, Clone)]
pub(super) struct Mount {
    /// Major and minor number of the device.
    device: String,
    pub(super) target: PathBuf,
    pub(super) file_system: String,
    pub(super) source: String,
    pub(super) options: String,
}

/// The mounts of one namespace.
pub(super) struct MountTable(Vec<Mount>);

impl MountTable {
    pub(super) fn parse(text: &str) -> Self {
        let mount = |line: &str| {
            let (left, right) = line.split_once(" - ")?;
            let mut left = left.split(' ').skip(2);
            let (device, _root, target) = (left.next()?, left.next()?, left.next()?);
            let mut right = right.split(' ');
            Some(Mount {
                device: device.to_owned(),
                target: unescape(target).into(),
                file_system: right.next()?.to_owned(),
                source: unescape(right.next()?),
                options: right.next().unwrap_or_default().to_owned(),
            })
        };
        Self(text.lines().filter_map(mount).collect())
    }

    pub(super) fn mounts(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter()
    }

    /// What a mount stands on, itself first.
    pub(super) fn grounds(&self, host: &Host, mount: &Mount) -> Vec<Ground> {
        let mut grounds = Vec::new();
        self.below(host, mount, DEPTH, &mut grounds);
        grounds
    }

    fn below(&self, host: &Host, mount: &Mount, depth: usize, grounds: &mut Vec<Ground>) {
        grounds.push(Ground::FileSystem(mount.clone()));
        if mount.device.starts_with("0:") {
            // btrfs and others have a number of their own, and name their device.
            self.below_device_file(host, Path::new(&mount.source), depth, grounds);
        } else {
            self.below_device(host, &Path::new("/sys/dev/block").join(&mount.device), depth, grounds);
        }
    }

    /// The same of the file system that holds a file.
    fn below_file(&self, host: &Host, path: &Path, depth: usize, grounds: &mut Vec<Ground>) {
        // Of several mounts on one place the last one is seen.
        let holding = self.0.iter().filter(|mount| path.starts_with(&mount.target));
        if let Some(mount) = holding.max_by_key(|mount| mount.target.components().count()) {
            self.below(host, mount, depth, grounds);
        }
    }

    fn below_device_file(&self, host: &Host, path: &Path, depth: usize, grounds: &mut Vec<Ground>) {
        if let Some(name) = path.strip_prefix("/dev").ok().and_then(Path::file_name) {
            self.below_device(host, &Path::new("/sys/class/block").join(name), depth, grounds);
        }
    }

    /// The same of a block device. `device` is its folder in sysfs, or a link to it.
    fn below_device(&self, host: &Host, device: &Path, depth: usize, grounds: &mut Vec<Ground>) {
        let Ok(device) = fs::canonicalize(host.path(device)) else { return };
        let Some(depth) = depth.checked_sub(1) else { return };
        // As a path of the host again.
        let root = fs::canonicalize(host.path("/")).unwrap_or_else(|_| host.root().to_path_buf());
        let Ok(device) = device.strip_prefix(&root) else { return };
        let device = Path::new("/").join(device);
        let list = |folder: &Path| host.list_if_exists(folder).unwrap_or_default();

        for ancestor in device.ancestors().take_while(|path| *path != Path::new("/sys/devices")) {
            grounds.push(Ground::Device(ancestor.to_owned()));
            for slave in list(&ancestor.join("slaves")) {
                self.below_device(host, &ancestor.join("slaves").join(slave), depth, grounds);
            }
            if let Ok(Some(file)) = host.attribute(ancestor.join("loop/backing_file")) {
                self.below_file(host, Path::new(&file), depth, grounds);
            }
            let name = ancestor.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("nvme-subsys") {
                let controllers = list(ancestor).into_iter().filter(|entry| entry.starts_with("nvme"));
                grounds.extend(controllers.map(|entry| Ground::Device(ancestor.join(entry))));
            }
        }
    }
}

/// The swap areas (`/proc/swaps`), each with what it stands on.
pub(super) fn swap_areas(host: &Host) -> Result<Vec<(PathBuf, Vec<Ground>)>, ReadError> {
    let Some(text) = host.read_if_exists("/proc/swaps")? else { return Ok(Vec::new()) };
    let table = MountTable::parse(&host.read_if_exists("/proc/self/mountinfo")?.unwrap_or_default());
    let area = |line: &str| {
        let mut fields = line.split_whitespace();
        let (device, kind) = (PathBuf::from(unescape(fields.next()?)), fields.next()?);
        let mut grounds = Vec::new();
        if kind == "partition" {
            table.below_device_file(host, &device, DEPTH, &mut grounds);
        } else {
            table.below_file(host, &device, DEPTH, &mut grounds);
        }
        Some((device, grounds))
    };
    Ok(text.lines().skip(1).filter_map(area).collect())
}

/// Undoes `\040` and its like (`mangle` in `fs/proc_namespace.c`).
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, after.get(3..)) {
            (Some(code), Some(tail)) if code.is_ascii() => {
                plain.push(char::from(code));
                rest = tail;
            }
            _ => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}
