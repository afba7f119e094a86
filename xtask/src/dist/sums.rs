//! Checksums of a release's files.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

const NAME: &str = "SHA256SUMS";

/// Writes those of all files below `folder`, as `sha256sum --check` reads them there.
pub(super) fn write(folder: &Path) -> anyhow::Result<()> {
    let mut text = String::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.with_context(|| format!("cannot walk {}", folder.display()))?;
        let path = entry.path();
        let name = path.strip_prefix(folder).unwrap_or(path);
        if !entry.file_type().is_file() || name == Path::new(NAME) {
            continue;
        }
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        text.push_str(&format!("{}  {}\n", hex::encode(Sha256::digest(&content)), name.display()));
    }
    fs::write(folder.join(NAME), text).with_context(|| format!("cannot write {NAME}"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::lab::process;

    #[test]
    fn sha256sum_agrees() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        for name in ["b", "a/c"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        write(folder.path()).unwrap();
        // Also when it is written again.
        write(folder.path()).unwrap();
        let check = || {
            let mut sums = Command::new("sha256sum");
            process::output(sums.current_dir(folder.path()).args(["--check", "--strict", NAME]))
        };
        assert_eq!(check().unwrap(), "a/c: OK\nb: OK\n");
        fs::write(folder.path().join("b"), "another").unwrap();
        check().unwrap_err();
    }
}
