//! The page about parity names, for each behaviour, the tests that hold it or the heading under which it differs. They are there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use lab_guest::scenario;

const PAGE: &str = "docs/parity.md";
const DIFFERENCES: &str = "docs/differences.md";

/// The folder whose files are named without it.
const CRATES: &str = "crates";

/// What the page at `root` names, and the repository does not have.
pub(super) fn find(root: &Path) -> anyhow::Result<Vec<String>> {
    let read =
        |page: &str| fs::read_to_string(root.join(page)).with_context(|| format!("cannot read {page}"));
    let headings: BTreeSet<String> = read(DIFFERENCES)?.lines().filter_map(heading).collect();
    let mut tests_of = BTreeMap::new();
    let mut violations = Vec::new();
    for line in read(PAGE)?.lines().filter(|line| line.starts_with('|')) {
        let Some(row) = Row::parse(line) else {
            violations.push(format!("{PAGE}: a line has not three columns: {line}"));
            continue;
        };
        for problem in row.problems(&headings, |file| tests_in(root, file, &mut tests_of)) {
            violations.push(format!("{PAGE}: {}: {problem}", row.behaviour));
        }
    }
    Ok(violations)
}

/// A line of one of the page's tables.
struct Row<'page> {
    behaviour: &'page str,
    state: &'page str,
    held_by: &'page str,
}

impl<'page> Row<'page> {
    /// `None` for what has not its three columns.
    fn parse(line: &'page str) -> Option<Self> {
        let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let [behaviour, state, held_by] = *cells.as_slice() else { return None };
        Some(Self { behaviour, state, held_by })
    }

    fn problems(
        &self,
        headings: &BTreeSet<String>,
        mut tests_in: impl FnMut(&str) -> Option<BTreeSet<String>>,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        let (mut tests, mut file): (usize, Option<(&str, BTreeSet<String>)>) = (0, None);
        let mut before = "";
        for (place, text) in self.held_by.split('`').enumerate() {
            if place % 2 == 0 {
                before = text;
            } else if before.ends_with("scenario ") {
                tests += 1;
                if scenario::find(text).is_none() {
                    problems.push(format!("there is no scenario {text}"));
                }
            } else if text.ends_with(".rs") {
                file = tests_in(text).map(|tests| (text, tests));
                if file.is_none() {
                    problems.push(format!("there is no file {text}"));
                }
            } else {
                tests += 1;
                match &file {
                    Some((_, known)) if known.contains(text) => {}
                    Some((name, _)) => problems.push(format!("{name} has no test {text}")),
                    None => problems.push(format!("the test {text} is of no file")),
                }
            }
        }
        match self.state {
            "has" if tests == 0 => problems.push("no test holds it".to_owned()),
            // The head of a table, too.
            "has" | "state" | "---" => {}
            "differs" => match anchor(self.held_by) {
                Some(anchor) if headings.contains(anchor) => {}
                Some(anchor) => problems.push(format!("{DIFFERENCES} has no heading {anchor}")),
                None => problems.push(format!("no heading of {DIFFERENCES} is named")),
            },
            other => problems.push(format!("{other:?} is neither has nor differs")),
        }
        problems
    }
}

/// What the link to the page of differences leads to.
fn anchor(cell: &str) -> Option<&str> {
    cell.split_once("(differences.md#")?.1.split(')').next()
}

/// The anchor of the heading in this line, as it is made of its text.
fn heading(line: &str) -> Option<String> {
    let text = line.strip_prefix("## ")?.to_lowercase().replace(' ', "-");
    Some(text.chars().filter(|one| one.is_alphanumeric() || *one == '-').collect())
}

/// The names of the tests in a file, which is read once.
fn tests_in(
    root: &Path,
    file: &str,
    known: &mut BTreeMap<String, Option<BTreeSet<String>>>,
) -> Option<BTreeSet<String>> {
    let read = || fs::read_to_string(root.join(CRATES).join(file)).ok().map(|text| tests(&text));
    known.entry(file.to_owned()).or_insert_with(read).clone()
}

/// The functions that stand behind an attribute which makes them tests.
fn tests(text: &str) -> BTreeSet<String> {
    let (mut found, mut is_test) = (BTreeSet::new(), false);
    for line in text.lines().map(str::trim) {
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(name) = name {
            if is_test {
                found.extend(name.split('(').next().map(str::to_owned));
            }
            is_test = false;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
#[test]
fn held() {}
#[tokio::test(start_paused = true)]
#[ignore]
async fn held_too() {}
fn helper() {}
";

    fn problems(line: &str) -> Vec<String> {
        let headings = ["## The reload", "## Certificates, FIPS, proxies"];
        let headings = headings.into_iter().filter_map(heading).collect();
        Row::parse(line).unwrap().problems(&headings, |file| (file == "a/lib.rs").then(|| tests(FILE)))
    }

    #[test]
    fn what_a_line_names_is_looked_for() {
        for line in [
            "| one | has | `a/lib.rs`: `held`, `held_too` |",
            "| one | has | scenario `entrypoint` |",
            "| one | differs | [reload](differences.md#the-reload) |",
            "| one | differs | [these](differences.md#certificates-fips-proxies): `a/lib.rs`: `held` |",
        ] {
            assert_eq!(problems(line), [""; 0], "{line}");
        }
        for (line, problem) in [
            ("| one | has | `a/lib.rs`: `helper` |", "a/lib.rs has no test helper"),
            ("| one | has | `a/lib.rs`: `held`, `gone` |", "a/lib.rs has no test gone"),
            ("| one | has | `b/lib.rs` `held` |", "there is no file b/lib.rs; the test held is of no file"),
            ("| one | has | `a/lib.rs` |", "no test holds it"),
            ("| one | has | by hand |", "no test holds it"),
            ("| one | has | scenario `noon` |", "there is no scenario noon"),
            ("| one | differs | so it is |", "no heading of docs/differences.md is named"),
            ("| one | differs | [it](differences.md#reload) |", "docs/differences.md has no heading reload"),
            ("| one | missing | |", "\"missing\" is neither has nor differs"),
        ] {
            assert_eq!(problems(line).join("; "), problem, "{line}");
        }
        assert_eq!(problems("| behaviour | state | held by |"), [""; 0]);
        assert_eq!(problems("|---|---|---|"), [""; 0]);
        assert!(Row::parse("| one | has |").is_none());
        assert!(Row::parse("| one | has | `a/lib.rs` `held`").is_none());
    }
}
