//! `cargo xtask touched`: which crates' tests and which scenarios a change touches, and how to run them.

mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use cargo_metadata::Metadata;
use clap::Args;
use lab_guest::areas;
use lab_guest::scenario::{SCENARIOS, Scenario, Suite};

use crate::{lab, workspace};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What the files are compared with; otherwise where this branch has left `main`
    #[arg(long, value_name = "REVISION")]
    since: Option<String>,
}

/// A crate of the workspace.
#[derive(Debug)]
struct Member {
    name: String,
    /// Its folder in the workspace, with a slash at its end.
    folder: String,
    /// The crates of the workspace that it uses, in its tests, too.
    uses: Vec<String>,
}

/// What a change touches.
#[derive(Debug, Default, PartialEq, Eq)]
struct Touched {
    /// Crates, each with why.
    crates: BTreeMap<String, Why>,
    /// Scenarios of the suite, in its order.
    scenarios: Vec<&'static str>,
    /// Those that run on demand alone.
    on_demand: Vec<&'static str>,
}

/// Why a crate's tests are to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// A file of it, or one that its tests read, has changed.
    Changed,
    /// It uses a crate that has changed.
    UsesChanged,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let metadata = workspace::metadata()?;
    let root = metadata.workspace_root.as_std_path();
    let base = match &arguments.since {
        Some(since) => since.clone(),
        None => git(root, &["merge-base", "main", "HEAD"])
            .context("cannot tell where this branch has left `main`; say `--since REVISION`")?
            .trim()
            .to_owned(),
    };
    let files = changed(root, &base)?;
    let touched = touched(&files, &members(&metadata), SCENARIOS);
    println!("{} files have changed since {base}, with what is not committed", files.len());
    print!("{}", describe(&touched));
    Ok(())
}

/// All files that are others than at `base`, with what is not committed and what git does not know yet.
fn changed(root: &Path, base: &str) -> anyhow::Result<BTreeSet<String>> {
    let known = git(root, &["diff", "--name-only", "--no-renames", "-z", base, "--"])?;
    let unknown = git(root, &["ls-files", "--others", "--exclude-standard", "-z"])?;
    let names = known.split('\0').chain(unknown.split('\0'));
    Ok(names.filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect())
}

fn git(root: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    lab::process::output(Command::new("git").current_dir(root).args(arguments))
}

fn members(metadata: &Metadata) -> Vec<Member> {
    let packages = metadata.workspace_packages();
    let member = |package: &&cargo_metadata::Package| {
        let folder = package.manifest_path.parent()?.strip_prefix(&metadata.workspace_root).ok()?;
        let uses = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
        Some(Member {
            name: package.name.to_string(),
            folder: format!("{folder}/"),
            uses: uses.map(|dependency| dependency.name.clone()).collect(),
        })
    };
    packages.iter().filter_map(member).collect()
}

/// What these files touch.
fn touched(files: &BTreeSet<String>, members: &[Member], scenarios: &'static [Scenario]) -> Touched {
    let mut crates = BTreeMap::new();
    for file in files {
        // The guest's folder is below that of xtask.
        let own = members.iter().filter(|member| file.starts_with(&member.folder));
        if let Some(own) = own.max_by_key(|member| member.folder.len()) {
            crates.insert(own.name.clone(), Why::Changed);
        }
        let readers = paths::READ_BY.iter().filter(|(prefix, _)| file.starts_with(prefix));
        crates.extend(readers.map(|(_, reader)| ((*reader).to_owned(), Why::Changed)));
        if paths::READ_BY_ALL.iter().any(|prefix| file.starts_with(prefix)) {
            crates.extend(members.iter().map(|member| (member.name.clone(), Why::Changed)));
        }
    }
    // Until nobody is left that uses one of them.
    loop {
        let uses_one = |member: &&Member| member.uses.iter().any(|used| crates.contains_key(used));
        let more: Vec<_> = members
            .iter()
            .filter(|member| !crates.contains_key(&member.name))
            .filter(uses_one)
            .map(|member| (member.name.clone(), Why::UsesChanged))
            .collect();
        if more.is_empty() {
            break;
        }
        crates.extend(more);
    }

    let touched_areas: BTreeSet<_> = files.iter().flat_map(|file| paths::areas(file)).collect();
    let is_touched = |scenario: &&Scenario| {
        areas::of(scenario.name).iter().any(|area| touched_areas.contains(area))
            || files.contains(&file_of(scenario.name))
    };
    let of_suite = |wanted: &[Suite]| {
        let due = scenarios.iter().filter(is_touched).filter(|scenario| wanted.contains(&scenario.suite));
        due.map(|scenario| scenario.name).collect::<Vec<_>>()
    };
    Touched {
        scenarios: of_suite(&[Suite::Test, Suite::TestOnNewest, Suite::TestOnOldest]),
        on_demand: of_suite(&[Suite::OnDemand]),
        crates,
    }
}

/// The file of a scenario, where it has one of its own.
fn file_of(scenario: &str) -> String {
    format!("xtask/guest/src/scenarios/{}.rs", scenario.replace('-', "_"))
}

/// In words, and the commands at the end.
fn describe(touched: &Touched) -> String {
    let with = |why| {
        let names: Vec<_> =
            touched.crates.iter().filter(|(_, one)| **one == why).map(|(name, _)| name.as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(" ") }
    };
    let list = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(" ") };
    let mut text = format!(
        "crates that have changed:   {}\ncrates that use them:       {}\nscenarios:                  {}\n",
        with(Why::Changed),
        with(Why::UsesChanged),
        list(&touched.scenarios)
    );
    if !touched.on_demand.is_empty() {
        text.push_str(&format!("on demand, they take hours: {}\n", list(&touched.on_demand)));
    }
    text.push_str("\ncargo fmt --all\ncargo xtask check\n");
    if !touched.crates.is_empty() {
        let packages: String = touched.crates.keys().map(|name| format!(" -p {name}")).collect();
        text.push_str(&format!("cargo clippy{packages} --all-targets -- -D warnings\n"));
        text.push_str(&format!("cargo test{packages}\n"));
    }
    if !touched.scenarios.is_empty() {
        let named: String = touched.scenarios.iter().map(|name| format!(" --scenario {name}")).collect();
        text.push_str(&format!("cargo xtask test{named}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, folder: &str, uses: &[&str]) -> Member {
        let uses = uses.iter().map(|used| (*used).to_owned()).collect();
        Member { name: name.to_owned(), folder: folder.to_owned(), uses }
    }

    fn workspace() -> Vec<Member> {
        vec![
            member("nic-host", "crates/nic-host/", &[]),
            member("nic-kmod", "crates/nic-kmod/", &["nic-host"]),
            member("nic-topology", "crates/nic-topology/", &["nic-host"]),
            member("nic-driver", "crates/nic-driver/", &["nic-host", "nic-kmod", "nic-topology"]),
            member("lab-guest", "xtask/guest/", &["nic-driver"]),
            member("xtask", "xtask/", &["lab-guest"]),
        ]
    }

    fn of(files: &[&str]) -> Touched {
        let files = files.iter().map(|file| (*file).to_owned()).collect();
        touched(&files, &workspace(), SCENARIOS)
    }

    #[test]
    fn a_change_touches_who_uses_it_and_the_scenarios_about_it() {
        let all = ["nic-host", "nic-kmod", "nic-topology", "nic-driver", "lab-guest", "xtask"];
        let rows: [(&str, [&[&str]; 3]); 9] = [
            ("docs/lab.md", [&[], &[], &[]]),
            ("docs/exit-codes.md", [&["nic-driver"], &["lab-guest", "xtask"], &[]]),
            ("Cargo.lock", [&all, &[], &[]]),
            (
                "crates/nic-kmod/src/users/sockets.rs",
                [
                    &["nic-kmod"],
                    &["nic-driver", "lab-guest", "xtask"],
                    &["remote-storage", "blockers", "signed-modules"],
                ],
            ),
            (
                "crates/nic-topology/src/plan.rs",
                [
                    &["nic-topology"],
                    &["nic-driver", "lab-guest", "xtask"],
                    &["idempotent", "network", "nothing-owed", "no-driver"],
                ],
            ),
            ("crates/nic-driver/tests/cli/help.rs", [&["nic-driver"], &["lab-guest", "xtask"], &[]]),
            ("crates/nic-driver/src/lock.rs", [&["nic-driver"], &["lab-guest", "xtask"], &["signals"]]),
            // Its own scenario, and what shows that the lab stands.
            (
                "xtask/guest/src/scenarios/way_back.rs",
                [&["lab-guest"], &["xtask"], &["boot", "packages", "way-back"]],
            ),
            ("xtask/src/bench.rs", [&["xtask"], &[], &[]]),
        ];
        for (file, [changed, users, scenarios]) in rows {
            let touched = of(&[file]);
            let with = |why| -> BTreeSet<&str> {
                let crates = touched.crates.iter().filter(|(_, one)| **one == why);
                crates.map(|(name, _)| name.as_str()).collect()
            };
            assert_eq!(with(Why::Changed), changed.iter().copied().collect(), "{file}");
            assert_eq!(with(Why::UsesChanged), users.iter().copied().collect(), "{file}");
            assert_eq!(touched.scenarios, scenarios, "{file}");
        }
    }

    #[test]
    fn what_takes_hours_is_named_and_not_in_the_command() {
        let touched = of(&["crates/nic-driver/src/stop.rs"]);
        assert_eq!(touched.on_demand, ["deadlines"]);
        let text = describe(&touched);
        assert!(text.contains("on demand, they take hours: deadlines\n"), "{text}");
        assert!(text.ends_with("cargo xtask test --scenario signals --scenario hanging-numvfs\n"), "{text}");
    }

    #[test]
    fn the_commands_name_all_that_is_touched() {
        let text = describe(&of(&["crates/nic-kmod/src/users.rs", "README.md"]));
        let packages = "-p lab-guest -p nic-driver -p nic-kmod -p xtask";
        assert!(text.contains(&format!("\ncargo test {packages}\n")), "{text}");
        let nothing = describe(&of(&["README.md"]));
        assert!(
            nothing.ends_with("scenarios:                  none\n\ncargo fmt --all\ncargo xtask check\n"),
            "{nothing}"
        );
    }

    #[test]
    fn files_that_git_does_not_know_yet_have_changed_too() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
        let run = |arguments: &[&str]| {
            let identity = ["-c", "user.name=lab", "-c", "user.email=lab@example.org"];
            git(root, &[&identity[..], arguments].concat()).unwrap()
        };
        run(&["init", "-q"]);
        for name in ["same", "committed", "edited", "moved"] {
            write(name, "old\n");
        }
        run(&["add", "."]);
        run(&["commit", "-q", "-m", "first"]);
        let base = run(&["rev-parse", "HEAD"]).trim().to_owned();
        write("committed", "new\n");
        run(&["mv", "moved", "moved-to"]);
        run(&["commit", "-q", "-a", "-m", "second"]);
        write("edited", "new\n");
        write("new", "new\n");
        let expected = ["committed", "edited", "moved", "moved-to", "new"];
        assert_eq!(changed(root, &base).unwrap().into_iter().collect::<Vec<_>>(), expected);
    }
}
