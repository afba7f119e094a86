//! `cargo xtask check`: rules that the compiler does not know.

mod circles;
mod deploy;
mod foreign;
mod links;
mod messages;
mod pages;
mod parity;
mod published;
mod sources;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use cargo_metadata::{DependencyKind, Metadata, Package, TargetKind};

use crate::{fixtures, lab, workspace};

/// Which crates of this workspace a library may use. A crate that is not listed may use none of them.
const MAY_USE: &[(&str, &[&str])] = &[
    ("nic-host", &[]),
    ("nic-netlink", &["nic-host"]),
    ("nic-kmod", &["nic-host"]),
    ("nic-packages", &["nic-host"]),
    ("nic-build", &["nic-host", "nic-packages"]),
    ("nic-dtk", &["nic-host"]),
    ("nic-sidecar", &["nic-host", "nic-packages", "nic-build", "nic-dtk"]),
    ("nic-sriov", &["nic-host", "nic-netlink"]),
    ("nic-topology", &["nic-host", "nic-netlink"]),
    ("nic-settings", &["nic-netlink"]),
    (
        "nic-driver",
        &[
            "nic-host",
            "nic-netlink",
            "nic-kmod",
            "nic-packages",
            "nic-build",
            "nic-dtk",
            "nic-sidecar",
            "nic-sriov",
            "nic-topology",
            "nic-settings",
        ],
    ),
    // The lab looks at the machine with its own eyes: never through nic-sriov, nic-netlink and the like. What the program
    // itself says (exit codes, journal, stored state) is read by the program's own types.
    ("lab-guest", &["nic-driver"]),
    ("xtask", &["lab-guest"]),
];

/// Macros that print. Lints forbid them too; but a lint can be switched off in the file that breaks it.
const PRINTING: [&str; 4] = ["println!", "print!", "eprintln!", "eprint!"];

/// Text that no file of the repository may hold. In parts, so that this file does not hold it either.
const FORBIDDEN: &[(&[&str], &str)] = &[
    (&["/wo", "rk/"], "a path of one machine"),
    (&["deb.deb", "ian.org"], "the host of a package archive"),
    (&["archive.ubu", "ntu.com"], "the host of a package archive"),
    (&["stat", "ic.crates.io"], "the host of a package registry"),
    (&["index.cra", "tes.io"], "the host of a package registry"),
    (&["proxy.gol", "ang.org"], "the host of a package registry"),
    (&["registry.np", "mjs.org"], "the host of a package registry"),
    (&["files.pythonho", "sted.org"], "the host of a package registry"),
];

pub(crate) fn run() -> anyhow::Result<()> {
    let metadata = workspace::metadata()?;
    let root = metadata.workspace_root.as_std_path();
    let mut violations = dependencies(&metadata);
    for package in metadata.workspace_packages() {
        violations.extend(lints(package)?);
        violations.extend(printing(package, root)?);
        violations.extend(published::find(package));
        let sources = package.manifest_path.parent().map(|folder| folder.join("src"));
        if let Some(sources) = sources {
            let found = circles::find(sources.as_std_path())?;
            violations.extend(found.into_iter().map(|circle| format!("{}: {circle}", package.name)));
            violations.extend(messages::find(sources.as_std_path(), root)?);
            violations.extend(foreign::find(sources.as_std_path(), root)?);
        }
    }
    violations.extend(forbidden_text(root)?);
    violations.extend(deploy::find(root)?);
    violations.extend(links::find(root)?);
    violations.extend(pages::find(root)?);
    violations.extend(parity::find(root)?);
    violations.extend(fixtures::differences(root)?);
    if violations.is_empty() {
        return Ok(());
    }
    bail!("{} violations:\n  {}", violations.len(), violations.join("\n  "));
}

/// Dependencies between the workspace's own packages, test dependencies included: they, too, decide what must be built and
/// understood together.
fn dependencies(metadata: &Metadata) -> Vec<String> {
    let rules: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let mut violations = Vec::new();
    for package in metadata.workspace_packages() {
        let allowed = rules.get(package.name.as_str()).copied().unwrap_or_default();
        if !rules.contains_key(package.name.as_str()) {
            violations.push(format!("{} is not in the table of who may use whom", package.name));
        }
        for dependency in package.dependencies.iter().filter(|dependency| dependency.path.is_some()) {
            if !allowed.contains(&dependency.name.as_str()) && dependency.name != package.name.as_str() {
                let kind = if dependency.kind == DependencyKind::Development { " in its tests" } else { "" };
                violations.push(format!("{} must not use {}{kind}", package.name, dependency.name));
            }
            // Its program brings nic-driver, and with it the headers of libudev that xtask is there to install.
            if package.name == "xtask" && dependency.name == "lab-guest" && dependency.uses_default_features {
                violations.push(
                    "xtask must use lab-guest's library alone, without its default features".to_owned(),
                );
            }
        }
    }
    violations
}

fn lints(package: &Package) -> anyhow::Result<Option<String>> {
    let manifest = package.manifest_path.as_std_path();
    let text = fs::read_to_string(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    Ok((!inherits_lints(&text)).then(|| format!("{} does not inherit the workspace's lints", package.name)))
}

/// `[lints]` followed by `workspace = true`, or `lints.workspace = true` before the first table.
fn inherits_lints(manifest: &str) -> bool {
    let mut table = "";
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            table = line;
        }
        let compact: String = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        if (table == "[lints]" && compact == "workspace=true")
            || (table.is_empty() && compact == "lints.workspace=true")
        {
            return true;
        }
    }
    false
}

/// Printing in the sources of a library. Its binaries' own files, tests and examples may print.
fn printing(package: &Package, root: &Path) -> anyhow::Result<Vec<String>> {
    let is_library = package.targets.iter().any(|target| target.kind.contains(&TargetKind::Lib));
    let Some(folder) = package.manifest_path.parent().filter(|_| is_library).map(|folder| folder.join("src"))
    else {
        return Ok(Vec::new());
    };
    let binaries: Vec<_> = package
        .targets
        .iter()
        .filter(|target| target.kind.contains(&TargetKind::Bin))
        .map(|target| target.src_path.clone().into_std_path_buf())
        .collect();
    let mut violations = Vec::new();
    for entry in walkdir::WalkDir::new(&folder).sort_by_file_name() {
        let entry = entry.with_context(|| format!("cannot walk {folder}"))?;
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "rs")
            || binaries.iter().any(|binary| binary == path)
        {
            continue;
        }
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let shown = path.strip_prefix(root).unwrap_or(path).display().to_string();
        violations.extend(
            printing_lines(&text).map(|(line, found)| format!("{shown}:{line}: {found} in a library")),
        );
    }
    Ok(violations)
}

/// Line numbers and macros. What is in a comment does not print.
fn printing_lines(text: &str) -> impl Iterator<Item = (usize, &'static str)> + '_ {
    (1..).zip(text.lines()).filter_map(|(number, line)| {
        let code = line.split("//").next().unwrap_or_default();
        let found = PRINTING.into_iter().find(|found| {
            code.match_indices(found).any(|(at, _)| {
                let before = code.get(..at).and_then(|before| before.chars().next_back());
                !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
            })
        })?;
        Some((number, found))
    })
}

/// Every file that git tracks, or would track, except the lock file: cargo writes it.
fn forbidden_text(root: &Path) -> anyhow::Result<Vec<String>> {
    let list = lab::process::output(Command::new("git").current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]));
    let files: Vec<PathBuf> = match list {
        Ok(list) => list.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from).collect(),
        // Sources that were unpacked from an archive: all files but what was built.
        Err(_) => walkdir::WalkDir::new(root)
            .into_iter()
            .filter_entry(|entry| !["target", ".git"].iter().any(|name| entry.file_name() == *name))
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_file())
            .filter_map(|entry| entry.path().strip_prefix(root).ok().map(Path::to_path_buf))
            .collect(),
    };
    let mut violations = Vec::new();
    for path in files.iter().filter(|path| path.as_path() != Path::new("Cargo.lock")) {
        // A file that git still lists may have been deleted.
        let Ok(content) = fs::read(root.join(path)) else { continue };
        let text = String::from_utf8_lossy(&content);
        violations.extend(forbidden_in(&text).map(|what| format!("{} names {what}", path.display())));
    }
    Ok(violations)
}

fn forbidden_in(text: &str) -> impl Iterator<Item = &'static str> + '_ {
    FORBIDDEN.iter().filter(|(parts, _)| text.contains(&parts.concat())).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inherited_lints_are_recognised() {
        for (manifest, expected) in [
            ("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n", true),
            ("lints.workspace = true\n[package]\nname = \"a\"\n", true),
            ("[package]\nname = \"a\"\nworkspace = true\n", false),
            ("[lints.clippy]\nworkspace = true\n", false),
            ("[lints]\n# workspace = true\n", false),
        ] {
            assert_eq!(inherits_lints(manifest), expected, "{manifest}");
        }
    }

    #[test]
    fn printing_is_found_and_comments_are_not() {
        let text = "fn a() {\n    println!(\"x\");\n    // println!(\"x\");\n    my_println!(\"x\");\n    eprint!(\"x\");\n}\n";
        assert_eq!(printing_lines(text).collect::<Vec<_>>(), [(2, "println!"), (5, "eprint!")]);
    }

    #[test]
    fn forbidden_text_is_found() {
        for (parts, what) in FORBIDDEN {
            assert_eq!(forbidden_in(&format!("see {} there", parts.concat())).collect::<Vec<_>>(), [*what]);
        }
        assert_eq!(forbidden_in("nothing of the kind").count(), 0);
    }

    #[test]
    fn the_rules_of_use_form_no_circle() {
        // Crates are taken away as soon as all they may use is gone; a circle would remain.
        let mut known: Vec<&str> = Vec::new();
        let mut left: Vec<_> = MAY_USE.to_vec();
        while !left.is_empty() {
            let before = left.len();
            left.retain(|(name, uses)| {
                let ready = uses.iter().all(|used| known.contains(used));
                if ready {
                    known.push(name);
                }
                !ready
            });
            assert!(left.len() < before, "a circle among {left:?}");
        }
    }
}
