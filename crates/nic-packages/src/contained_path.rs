//! Names in packages, as paths: where they may lead, how long they may be, and how many there may be.

use std::io;
use std::path::{Component, Path, PathBuf};

use nic_host::Foreign;

/// The longest path, in bytes (`PATH_MAX` in include/uapi/linux/limits.h).
pub(crate) const LONGEST_PATH: usize = 4096;
/// The most files of a package. The sources of a driver are some 5,000.
pub(crate) const MOST_FILES: usize = 200_000;
/// The most bytes of all names of a package.
const MOST_NAMES: usize = 32 << 20;

/// How many names a package has had so far, and how long they are together.
#[derive(Default)]
pub(crate) struct PathBounds {
    names: usize,
    bytes: usize,
}

impl PathBounds {
    /// Counts one name of so many bytes.
    ///
    /// # Errors
    /// It is longer than a path can be, or there are more names, or more of their bytes, than any package has.
    pub(crate) fn note(&mut self, length: usize) -> io::Result<()> {
        self.names += 1;
        self.bytes = self.bytes.saturating_add(length);
        if length > LONGEST_PATH {
            return Err(invalid(format!("a name of {length} bytes is longer than any path")));
        }
        if self.names > MOST_FILES || self.bytes > MOST_NAMES {
            return Err(invalid(format!(
                "the package has more than {MOST_FILES} files, or {MOST_NAMES} bytes of names"
            )));
        }
        Ok(())
    }
}

/// The path below `/` that a name in a package means.
///
/// # Errors
/// It leads out of the package, is no text, or has control characters in it.
pub(crate) fn within_package(name: &Path) -> io::Result<PathBuf> {
    let lossy = name.to_string_lossy();
    let refused = |why: &str| invalid(format!("the name {} {why}", Foreign(&lossy)));
    let text = name.to_str().ok_or_else(|| refused("is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(refused("has a control character in it"));
    }
    let mut path = PathBuf::from("/");
    for component in name.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => path.push(name),
            Component::ParentDir | Component::Prefix(_) => return Err(refused("leads out of the package")),
        }
    }
    Ok(path)
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trial_w4_names_are_counted() {
        let mut bounds = PathBounds::default();
        assert!((0..MOST_FILES).all(|_| bounds.note(1).is_ok()));
        let error = bounds.note(1).unwrap_err().to_string();
        assert!(error.starts_with("the package has more than 200000 files"), "{error}");
        let mut bounds = PathBounds::default();
        assert!((0..MOST_NAMES / LONGEST_PATH).all(|_| bounds.note(LONGEST_PATH).is_ok()));
        bounds.note(1).unwrap_err();
        PathBounds::default().note(LONGEST_PATH + 1).unwrap_err();
    }

    #[test]
    fn trial_w18_where_a_name_may_lead() {
        for (name, path) in
            [("./lib/a.ko", "/lib/a.ko"), ("/lib//a.ko", "/lib/a.ko"), ("a..b", "/a..b"), ("./", "/")]
        {
            assert_eq!(within_package(Path::new(name)).unwrap(), Path::new(path));
        }
        for name in ["../a", "./lib/../../a", "a/..", "a\u{7f}", "a\t"] {
            within_package(Path::new(name)).unwrap_err();
        }
    }
}
