//! The page about changes speaks of files and tests that are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// Pages that name files and tests for people to go by.
const PAGES: [&str; 1] = ["docs/changing.md"];

/// The folders whose files are named by their whole path.
const FOLDERS: [&str; 4] = ["crates/", "docs/", "fixtures/", "xtask/"];

/// What these pages name and the repository at `root` does not have.
pub(super) fn find(root: &Path) -> anyhow::Result<Vec<String>> {
    let tests = tests(root)?;
    let mut violations = Vec::new();
    for page in PAGES {
        let text = fs::read_to_string(root.join(page)).with_context(|| format!("cannot read {page}"))?;
        for name in named(&text) {
            if FOLDERS.iter().any(|folder| name.starts_with(folder)) {
                if !root.join(name).exists() {
                    violations.push(format!("{page} names {name}, which is not there"));
                }
            } else if is_test_name(name) && !tests.contains(name) {
                violations.push(format!("{page} names the test {name}, which is not there"));
            }
        }
    }
    Ok(violations)
}

/// What stands between backticks.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// A name of several words, as tests have and hardly anything else.
fn is_test_name(name: &str) -> bool {
    name.matches('_').count() >= 3
        && name.chars().all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_')
}

/// The names of all functions in the sources: that one is a test is not looked at.
fn tests(root: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for folder in ["crates", "xtask"] {
        for entry in walkdir::WalkDir::new(root.join(folder)) {
            let entry = entry.with_context(|| format!("cannot walk {folder}"))?;
            if entry.path().extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("cannot read {}", entry.path().display()))?;
            names.extend(text.lines().filter_map(function).map(ToOwned::to_owned));
        }
    }
    Ok(names)
}

/// The name of the function that begins in this line.
fn function(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("fn ")?.split('(').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["crates/a/src", "docs", "xtask"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("crates/a/src/lib.rs"), "    fn one_and_two_and_three() {\n").unwrap();
        let page = "`crates/a/src/lib.rs` and `crates/a/src/gone.rs`, `cargo test`, `Step::is`,\n\
            `one_and_two_and_three`, `one_and_two_and_four`, `any_vf`\n";
        fs::write(root.join("docs/changing.md"), page).unwrap();
        let expected = [
            "docs/changing.md names crates/a/src/gone.rs, which is not there",
            "docs/changing.md names the test one_and_two_and_four, which is not there",
        ];
        assert_eq!(find(root).unwrap(), expected);
    }
}
