//! Links of a module tree that is mounted elsewhere. An absolute one (`weak-updates`) means a path of the machine whose tree it is, and for
//! who sees that machine below `/host` it leads to another file, or to none: modprobe follows it as it stands, also with `-d`.

use std::path::{Component, Path, PathBuf};

use nic_host::{Host, ReadError};

/// As many links as the kernel follows (`MAXSYMLINKS` in include/linux/namei.h).
const MOST_LINKS: usize = 40;

/// Whether what is at `path`, below `root`, is a link that leads out of that root. Links of folders on the way are not looked at: depmod writes
/// none.
///
/// # Errors
/// A link cannot be read.
pub(crate) fn leads_out(host: &Host, root: &Path, path: &Path) -> Result<bool, ReadError> {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let Some(target) = host.link_target(&path)? else { break };
        path = plain(&path.parent().unwrap_or(Path::new("/")).join(target));
        if !path.starts_with(root) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `a/../b` is `b`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::fixture::file;

    #[test]
    fn fault_7_8_a_link_is_followed_as_long_as_it_stays_below_its_root() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        file(dir.path(), "host/lib/modules/6.12.0/extra/x.ko", "");
        let tree = dir.path().join("host/lib/modules/6.12.1/weak-updates");
        std::fs::create_dir_all(&tree).unwrap();
        for (name, target, out) in [
            ("relative.ko", "../../6.12.0/extra/x.ko", false),
            ("within.ko", "/host/lib/modules/6.12.0/extra/x.ko", false),
            ("absolute.ko", "/lib/modules/6.12.0/extra/x.ko", true),
            ("above.ko", "../../../../../lib/modules/6.12.0/extra/x.ko", true),
            ("twice.ko", "absolute.ko", true),
            ("loop.ko", "loop.ko", false),
        ] {
            symlink(target, tree.join(name)).unwrap();
            let path = Path::new("/host/lib/modules/6.12.1/weak-updates").join(name);
            assert_eq!(leads_out(&host, Path::new("/host"), &path).unwrap(), out, "{name}");
        }
        assert!(!leads_out(&host, Path::new("/host"), Path::new("/host/lib/none.ko")).unwrap());
    }
}
