//! What a registry, and whoever finds a crate there, wants to know of it.

use cargo_metadata::Package;

/// What of it a published crate does not say.
pub(super) fn find(package: &Package) -> Vec<String> {
    if package.publish.as_ref().is_some_and(Vec::is_empty) {
        return Vec::new();
    }
    let folder = package.manifest_path.parent();
    let is_there = |name: &str| folder.is_some_and(|folder| folder.join(name).is_file());
    let targets = package.metadata.pointer("/docs/rs/targets").and_then(serde_json::Value::as_array);
    let said = [
        ("description", package.description.is_some()),
        ("license", package.license.is_some()),
        ("repository", package.repository.is_some()),
        ("rust-version", package.rust_version.is_some()),
        // A registry takes no more than five.
        ("one to five keywords", (1..=5).contains(&package.keywords.len())),
        ("categories", !package.categories.is_empty()),
        ("readme of its own", package.readme.as_ref().is_some_and(|name| is_there(name.as_str()))),
        ("LICENSE in its folder", is_there("LICENSE")),
        // On others it does not compile.
        ("docs.rs target", targets.is_some_and(|targets| targets.len() == 1)),
    ];
    let mut violations: Vec<String> = said
        .into_iter()
        .filter(|(_, is)| !is)
        .map(|(what, _)| format!("{} has no {what}", package.name))
        .collect();
    // Without a version it could be built here alone. Dependencies of tests are left out of a package then.
    let no_version =
        package.dependencies.iter().filter(|one| one.path.is_some() && one.req.comparators.is_empty());
    violations.extend(no_version.map(|one| format!("{} uses {} without a version", package.name, one.name)));
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn what_a_crate_does_not_say_is_told() {
        let metadata = workspace::metadata().unwrap();
        let package = |name: &str| {
            metadata.packages.iter().find(|package| package.name.as_str() == name).cloned().unwrap()
        };
        assert_eq!(find(&package("xtask")), [""; 0]);
        let mut sidecar = package("nic-sidecar");
        assert_eq!(find(&sidecar), [""; 0]);
        sidecar.keywords.clear();
        sidecar.readme = Some("GONE.md".into());
        sidecar.metadata = serde_json::Value::Null;
        for dependency in sidecar.dependencies.iter_mut().filter(|one| one.name == "nic-dtk") {
            dependency.req = "*".parse().unwrap();
        }
        let expected = [
            "nic-sidecar has no one to five keywords",
            "nic-sidecar has no readme of its own",
            "nic-sidecar has no docs.rs target",
            "nic-sidecar uses nic-dtk without a version",
        ];
        assert_eq!(find(&sidecar), expected);
    }
}
