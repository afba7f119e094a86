//! What is wrong with a record whose statements contradict each other. It may have been edited since, or damaged, and names in it become parts of
//! paths and arguments of programs.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path};

use nic_host::Foreign;
use nic_kmod::is_parameter_name;

/// A record whose statements may contradict each other.
pub(super) trait Checked {
    /// Looks whether the record can be.
    ///
    /// # Errors
    /// The first contradiction.
    fn check(&self) -> Result<(), Contradiction>;
}

/// Two statements of a record that cannot both be true, or one that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct Contradiction {
    /// The field's path, such as `attempt.modules[3].module`.
    pub field: String,
    /// The field's value, and what speaks against it.
    pub what: String,
}

/// Two statements of a snapshot that cannot both be true, or one that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotContradiction {
    /// Of the NICs.
    #[error(transparent)]
    Nics(nic_sriov::Contradiction),
    /// Of what stood on them.
    #[error("network.{0}")]
    Network(nic_topology::Contradiction),
    /// Of what was set of them.
    #[error("settings.{list}{found}")]
    Settings {
        /// Which list of devices.
        list: &'static str,
        /// Which device, and what.
        found: nic_settings::Contradiction,
    },
    /// Of all else.
    #[error(transparent)]
    Rest(Contradiction),
}

/// Each is there but once.
pub(super) fn once<T: Ord + fmt::Display>(
    list: &str,
    entries: impl IntoIterator<Item = T>,
) -> Result<(), Contradiction> {
    let mut seen = BTreeSet::new();
    for (place, entry) in entries.into_iter().enumerate() {
        let what = format!("{entry} is there twice");
        if !seen.insert(entry) {
            return Err(Contradiction { field: format!("{list}[{place}]"), what });
        }
    }
    Ok(())
}

/// The name of a module's parameter.
pub(super) fn parameter(field: &str, name: &str) -> Result<(), Contradiction> {
    if is_parameter_name(name) {
        return Ok(());
    }
    let what = format!("{} is no name of a parameter", Foreign(name));
    Err(Contradiction { field: field.to_owned(), what })
}

/// A SHA-256 in hexadecimal digits, where there is one.
pub(super) fn digest(field: &str, digest: Option<&String>) -> Result<(), Contradiction> {
    match digest {
        Some(text) if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            let what = format!("{} is no SHA-256", Foreign(text));
            Err(Contradiction { field: field.to_owned(), what })
        }
        _ => Ok(()),
    }
}

/// A path that does not lead out of a folder.
pub(super) fn below(field: &str, path: &Path, folder: &str) -> Result<(), Contradiction> {
    let leads_up = path.components().any(|part| part == Component::ParentDir);
    if path.starts_with(folder) && !leads_up {
        return Ok(());
    }
    let what = format!("{} is no path below {folder}", Foreign(&path.to_string_lossy()));
    Err(Contradiction { field: field.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use nic_host::BootId;
    use serde_json::{Value, json};

    use crate::state::StateStore;

    /// A record with one field replaced.
    fn with(mut record: Value, pointer: &str, value: Value) -> Value {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        record.pointer_mut(parent).unwrap()[field] = value;
        record
    }

    #[test]
    fn trial_w12_contradictions_of_each_record_are_named_by_their_field() {
        let kept = json!({
            "module": "igb", "srcversion": null, "build_id": null, "file": "igb-1.ko", "found_at": "/lib/igb.ko",
        });
        let manifest = json!({
            "schema": 3, "kept_at": "2026-01-02T03:04:05Z", "boot_id": "boot-1", "kernel": "6.12.1", "modules": [kept],
        });
        let module = json!({"module": "igb", "sha256": null});
        let rolled_back = json!({
            "schema": 3, "at": "2026-01-02T03:04:05Z", "boot_id": "boot-1", "reason": "no PF came",
            "attempt": {"family": "f", "timeout_s": 60, "modules": [module]},
        });
        let installed = json!({
            "schema": 2, "writer": "0.1.0", "format": "rpm", "packages": [{"name": "a", "version": "1-1"}], "kernel": "6.12.1",
            "files": ["/lib/modules/6.12.1/extra/igb.ko"], "dkms_sources": ["/usr/src/a-1"],
        });
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path());
        let read = |file: &str| {
            let told = |error: &dyn std::error::Error| crate::error_chain(error);
            match file {
                "previous-modules/manifest.json" => {
                    store.module_backups(&BootId("boot-1".into())).map(|_| ()).map_err(|error| told(&error))
                }
                "rolled-back.json" => store.rolled_back().map(|_| ()).map_err(|error| told(&error)),
                _ => store.installed().map(|_| ()).map_err(|error| told(&error)),
            }
        };
        let check = |file: &str, whole: &Value, cases: &[(&str, Value, &str)]| {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, whole.to_string()).unwrap();
            assert_eq!(read(file), Ok(()));
            for (pointer, value, words) in cases {
                let edited = with(whole.clone(), pointer, value.clone());
                std::fs::write(&path, edited.to_string()).unwrap();
                let told = read(file).expect_err(words);
                assert!(told.contains(file) && told.contains(words), "{words}: {told}");
                assert!(!told.contains(char::is_control), "{told:?}");
            }
            // A key that stands twice does not count once.
            let key = if file == "installed.json" { "\"format\":" } else { "\"boot_id\":" };
            let twice = whole.to_string().replacen(key, &format!("{key}\"deb\",{key}"), 1);
            std::fs::write(&path, twice).unwrap();
            assert!(read(file).unwrap_err().contains("duplicate field"));
        };
        check(
            "previous-modules/manifest.json",
            &manifest,
            &[
                ("/modules", json!([kept, kept]), "modules[1]: igb is there twice"),
                ("/inbox", json!([kept, kept]), "inbox[1]: igb is there twice"),
                ("/modules/0/file", json!("../x\n"), r#"modules[0].file: "../x\n" is no name of a file"#),
                ("/modules/0/file", json!(".."), r#"modules[0].file: ".." is no name"#),
                ("/modules/0/file", json!("/x"), r#"modules[0].file: "/x" is no name"#),
                ("/modules/0/file", json!(""), r#"modules[0].file: "" is no name"#),
                ("/modules/0/sha256", json!("abc"), r#"modules[0].sha256: "abc" is no SHA-256"#),
                ("/modules/0/found_at", json!("x"), r#"modules[0].found_at: "x" is no path"#),
                ("/modules/0/found_at", json!("/lib/../x"), "modules[0].found_at: "),
                ("/modules/0/defaults", json!({"a b": "1"}), r#"modules[0].defaults: "a b" is no name"#),
                ("/modules/0/module", json!("../x"), "modules[0].module: "),
                ("/modules/0/srcversion", json!(7), "modules[0].srcversion: "),
                ("/modules/0/other", json!(7), "modules[0]"),
                ("/kernel", json!("../x"), "kernel: "),
            ],
        );
        check(
            "rolled-back.json",
            &rolled_back,
            &[
                ("/attempt/modules", json!([module, module]), "attempt.modules[1]: igb is there twice"),
                ("/attempt/timeout_s", json!("x"), "attempt.timeout_s: "),
                ("/attempt/modules/0/module", json!("-r"), "attempt.modules[0].module: "),
            ],
        );
        check(
            "installed.json",
            &installed,
            &[
                ("/files", json!(["x/y"]), r#"files[0]: "x/y" is no path"#),
                ("/files", json!(["/x/../y"]), r#"files[0]: "/x/../y" is no path"#),
                ("/dkms_sources", json!(["../x"]), r#"dkms_sources[0]: "../x" is no path"#),
                ("/packages/0/name", json!("--force-all"), "--force-all"),
                ("/other", json!(7), "unknown field `other`"),
            ],
        );
    }
}
