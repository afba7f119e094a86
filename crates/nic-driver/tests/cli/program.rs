//! Runs the program, and prepares what it is run on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The NIC before and after the reload.
pub(crate) const BEFORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/documented-node/before");
pub(crate) const AFTER: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/documented-node/after-reload");

/// A state directory, and a folder to work in.
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
}

/// What came of a run.
pub(crate) struct CommandResult {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Runs a command on a tree, with this sandbox's state directory, and without logs.
    pub(crate) fn on(&self, root: impl AsRef<Path>, command: &[&str]) -> CommandResult {
        let (root, state) = (root.as_ref().display().to_string(), self.state().display().to_string());
        self.run(&[&["--root", &root, "--state-dir", &state, "--log", "off"], command].concat())
    }

    /// Runs the program with this folder as the current one, and without environment variables.
    pub(crate) fn run(&self, arguments: &[&str]) -> CommandResult {
        self.run_with(&[], arguments)
    }

    /// The same with these variables.
    pub(crate) fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> CommandResult {
        let output = Command::new(env!("CARGO_BIN_EXE_nic-driver"))
            .env_clear()
            .envs(variables.iter().copied())
            .current_dir(&self.folder)
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            let folder = self.folder.path().display().to_string();
            text.replace(&folder, "[sandbox]").replace(BEFORE, "[before]").replace(AFTER, "[after-reload]")
        };
        CommandResult {
            code: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// The stored snapshot of the family mlx5.
    pub(crate) fn snapshot(&self) -> PathBuf {
        self.state().join("mlx5/snapshot.json")
    }

    /// A copy of a tree, to be changed.
    pub(crate) fn copy(&self, tree: &str) -> PathBuf {
        let copy = self.path("tree");
        copy_folder(Path::new(tree), &copy);
        copy
    }

    /// Replaces a text in the stored snapshot, and takes away the checksum that does not fit then.
    pub(crate) fn change_snapshot(&self, from: &str, to: &str) {
        let path = self.snapshot();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        let text = text.replace(from, to);
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains("\"checksum\":")).collect();
        fs::write(path, lines.join("\n")).unwrap();
    }
}

impl CommandResult {
    /// All of it, as a text.
    pub(crate) fn text(&self) -> String {
        format!("exit code {}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }

    /// What a successful run printed.
    pub(crate) fn succeeded(&self) -> &str {
        assert_eq!(self.code, 0, "{}", self.text());
        &self.stdout
    }

    /// The JSON that a successful run printed; of long lists of VFs only the first and the last four.
    pub(crate) fn json(&self) -> Value {
        let mut value = serde_json::from_str(self.succeeded()).unwrap();
        shorten(&mut value);
        value
    }
}

fn shorten(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(fields) => {
            for (key, value) in fields {
                if let Value::Array(items) = value
                    && ["vfs", "differences"].contains(&key.as_str())
                    && items.len() > 5
                {
                    items.drain(1..items.len() - 4);
                }
                shorten(value);
            }
        }
        _ => {}
    }
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_folder(&entry.path(), &target);
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
