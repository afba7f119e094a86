//! What a pod finds on its node: host paths as their types ask for them, and folders of its own.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use lab_guest::pod::HostPath;

/// Makes or looks for a path of the node.
pub(super) fn prepare(path: &HostPath) -> anyhow::Result<()> {
    let (at, kind) = (Path::new(&path.path), path.kind.as_str());
    let found = fs::metadata(at).ok().map(|metadata| metadata.file_type());
    let is_right = match kind {
        // containerd and CRI-O make a folder for a path of no type that is not there.
        "" | "DirectoryOrCreate" if found.is_none() => return make_folder(at, 0o755),
        "FileOrCreate" if found.is_none() => return make_file(at, 0o644),
        "" => true,
        "Directory" | "DirectoryOrCreate" => found.is_some_and(|found| found.is_dir()),
        "File" | "FileOrCreate" => found.is_some_and(|found| found.is_file()),
        "Socket" => found.is_some_and(|found| found.is_socket()),
        "CharDevice" => found.is_some_and(|found| found.is_char_device()),
        "BlockDevice" => found.is_some_and(|found| found.is_block_device()),
        _ => bail!("host path {} has the unknown type {kind}", path.path),
    };
    ensure!(is_right, "host path {} is not there as {kind}", path.path);
    Ok(())
}

/// Makes an `emptyDir`.
pub(super) fn make_empty_dir(at: &Path) -> anyhow::Result<()> {
    make_folder(at, 0o777)
}

/// Makes an empty file, open to whom `mode` says.
pub(super) fn make_file(at: &Path, mode: u32) -> anyhow::Result<()> {
    fs::write(at, "").with_context(|| format!("cannot create {}", at.display()))?;
    set_mode(at, mode)
}

fn make_folder(at: &Path, mode: u32) -> anyhow::Result<()> {
    fs::create_dir_all(at).with_context(|| format!("cannot create {}", at.display()))?;
    set_mode(at, mode)
}

fn set_mode(at: &Path, mode: u32) -> anyhow::Result<()> {
    let permissions = fs::Permissions::from_mode(mode);
    fs::set_permissions(at, permissions).with_context(|| format!("cannot set the mode of {}", at.display()))
}

/// Removes a folder, unless something is still mounted in it.
pub(super) fn remove(folder: &Path) -> anyhow::Result<()> {
    let mounts = crate::read("/proc/self/mountinfo")?;
    let left: Vec<_> = mounted_below(&mounts, folder);
    ensure!(left.is_empty(), "mounts are left below {}: {left:?}", folder.display());
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// Where something is mounted at or below a folder, by the kernel's list. Its escapes do not matter: no path of a kubelet's has
/// any.
fn mounted_below(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4).map(PathBuf::from));
    points.filter(|point| point.starts_with(folder)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_folder_are_in_the_way() {
        let mountinfo = "22 1 0:5 / / rw shared:1 - rootfs rootfs rw\n\
                         30 22 0:9 / /run/lab-kubelet rw - tmpfs tmpfs rw\n\
                         31 30 0:9 /x /run/lab-kubelet/pods/a/volumes/v/m rw shared:2 - tmpfs tmpfs rw\n\
                         32 30 0:9 /x /run/lab-kubelet/pods/ab rw - tmpfs tmpfs rw";
        let below = mounted_below(mountinfo, Path::new("/run/lab-kubelet/pods/a"));
        assert_eq!(below, [PathBuf::from("/run/lab-kubelet/pods/a/volumes/v/m")]);
    }

    #[test]
    fn a_host_path_is_made_or_has_to_be_there_as_its_type_says() {
        let folder = std::env::temp_dir().join(format!("lab-kubelet-paths-{}", std::process::id()));
        make_empty_dir(&folder).unwrap();
        fs::write(folder.join("file"), "kept").unwrap();
        let path = |name: &str, kind: &str| HostPath {
            path: folder.join(name).display().to_string(),
            kind: kind.to_owned(),
        };
        for (name, kind, is_right) in [
            ("file", "", true),
            ("file", "File", true),
            ("file", "FileOrCreate", true),
            ("file", "Directory", false),
            ("file", "DirectoryOrCreate", false),
            ("file", "Socket", false),
            ("none", "File", false),
            ("none", "Directory", false),
            ("none", "CharDevice", false),
            ("none", "Folder", false),
            ("a/b", "DirectoryOrCreate", true),
            ("c/d", "", true),
            ("new", "FileOrCreate", true),
            ("new", "File", true),
            ("a/b", "Directory", true),
            ("c/d", "Directory", true),
        ] {
            assert_eq!(prepare(&path(name, kind)).is_ok(), is_right, "{name} as {kind:?}");
        }
        assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "kept");
        let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(""), mode("a/b"), mode("new")), (0o777, 0o755, 0o644));
        remove(&folder).unwrap();
        assert!(!folder.exists());
    }
}
