//! What the manifests, recipes and the unit in `deploy/` set, the program knows.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::program::Sandbox;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.push(path);
        }
    }
}

fn is_variable(name: &str) -> bool {
    name.contains('_')
        && name.bytes().all(|one| one.is_ascii_uppercase() || one.is_ascii_digit() || one == b'_')
}

/// Variables with their values: `name:` and, in the line behind it, `value:` of a manifest; `ENV` of a recipe; `Environment=` of a unit.
fn set_in(text: &str) -> Vec<(&str, &str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    let mut name = "";
    for line in text.lines().map(|line| line.trim().trim_start_matches("- ")) {
        if let Some(value) = line.strip_prefix("value: ").filter(|_| is_variable(name)) {
            found.push((name, value.trim_matches('"')));
        }
        name = line.strip_prefix("name: ").unwrap_or_default();
        let pairs = line.strip_prefix("ENV ").or(line.strip_prefix("Environment=")).unwrap_or_default();
        found.extend(pairs.split_whitespace().filter_map(|pair| pair.split_once('=')));
    }
    found
}

#[test]
fn what_deploy_sets_is_a_setting() {
    let mut all = Vec::new();
    files(Path::new(DEPLOY), &mut all);
    let mut seen = 0;
    for file in all {
        // What a builder of images says.
        let text = fs::read_to_string(&file)
            .unwrap()
            .replace("${DRIVER_VERSION}", "1.2")
            .replace("${CONTAINER_VERSION}", "0");
        let variables = set_in(&text);
        let sandbox = Sandbox::new();
        let config: Value =
            serde_json::from_str(sandbox.run_with(&variables, &["--output", "json", "config"]).succeeded())
                .unwrap();
        for (name, value) in &variables {
            seen += 1;
            let is_it = |setting: &&Value| setting["variable"] == *name || setting["name"] == *name;
            let lists = ["settings", "variables"].map(|list| config[list].as_array().unwrap());
            let setting = lists.into_iter().flatten().find(is_it);
            let setting = setting.unwrap_or_else(|| panic!("{}: {name} is no setting", file.display()));
            assert_eq!(setting["value"], *value, "{}: {name}", file.display());
        }
    }
    assert!(seen > 10, "{seen}");
}
