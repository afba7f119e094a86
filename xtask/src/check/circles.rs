//! Circles of files: a file that needs another one, which needs the first one, by way of whichever others.
//!
//! What a file needs its `use` lines say. A name is looked for in the file that defines it: a facade (`mod.rs`, `lib.rs`, or
//! a `plan.rs` beside its folder) that only hands a name on with `pub use` is looked through. A module and the modules
//! below it may name each other, since the upper one is where the lower ones are put together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// The modules of a crate, by path: `["lab", "vm"]`; the root is empty.
type ModulePath = Vec<String>;

/// One file of a crate, as far as it matters here.
#[derive(Debug)]
struct Module {
    file: PathBuf,
    /// The names it takes from its own crate: the module as it is named there, and the name.
    uses: Vec<(ModulePath, String)>,
    /// What it hands on from other modules, by its name here.
    hands_on: BTreeMap<String, (ModulePath, String)>,
}

/// The circles of the crate whose sources lie in `folder`, each as a sentence.
pub(super) fn find(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut modules = BTreeMap::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.with_context(|| format!("cannot walk {}", folder.display()))?;
        let file = entry.path();
        if file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let below = file.strip_prefix(folder).context("a file is outside its folder")?;
        let path = module_path(below)?;
        // Tests may look at all that they test.
        if path.last().is_some_and(|name| name == "tests") {
            continue;
        }
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let module = Module::parse(below.to_path_buf(), &path, &text);
        modules.insert(path, module);
    }
    Ok(circles_of(&modules))
}

/// `lab/vm.rs` and `lab/vm/mod.rs` are `["lab", "vm"]`; `lib.rs` and `main.rs` are the root.
fn module_path(below: &Path) -> anyhow::Result<ModulePath> {
    let mut path = Vec::new();
    for part in below.with_extension("").components() {
        let Some(part) = part.as_os_str().to_str() else { bail!("{} is not UTF-8", below.display()) };
        path.push(part.to_owned());
    }
    if path.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        path.pop();
    }
    Ok(path)
}

impl Module {
    fn parse(file: PathBuf, path: &ModulePath, text: &str) -> Self {
        let mut module = Self { file, uses: Vec::new(), hands_on: BTreeMap::new() };
        // What stands below the tests is theirs.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let code: String = text.lines().map(|line| line.split("//").next().unwrap_or_default()).fold(
            String::new(),
            |mut code, line| {
                code.push_str(line);
                code.push('\n');
                code
            },
        );
        for statement in code.split(';') {
            let Some((is_public, tree)) = use_statement(statement) else { continue };
            for (names, alias) in flatten(tree) {
                let Some((module_of, name)) = resolve(path, &names) else { continue };
                if is_public {
                    module.hands_on.insert(alias, (module_of.clone(), name.clone()));
                }
                module.uses.push((module_of, name));
            }
        }
        module
    }
}

/// The tree of a `use` statement, and whether it hands the names on. The statement stands at the end of `text`, behind what
/// closed the one before it.
fn use_statement(text: &str) -> Option<(bool, &str)> {
    let line = text.rfind("\nuse ").map(|at| (at, false));
    let handed = ["\npub use ", "\npub(crate) use ", "\npub(super) use "]
        .into_iter()
        .filter_map(|words| text.rfind(words).map(|at| (at, true)));
    let (at, is_public) = line.into_iter().chain(handed).max()?;
    let (_, tree) = text.get(at..)?.split_once("use ")?;
    Some((is_public, tree.trim()))
}

/// `a::{b, c::{self, d as e}}` → `a::b`, `a::c`, `a::c::d`, each with the name it has here.
fn flatten(tree: &str) -> Vec<(Vec<String>, String)> {
    let tree = tree.trim();
    if let Some((head, rest)) = tree.split_once('{') {
        let head: Vec<String> =
            head.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let inner = rest.strip_suffix('}').unwrap_or(rest);
        let mut all = Vec::new();
        for part in split_at_top(inner) {
            for (names, alias) in flatten(part) {
                let names: Vec<String> = head.iter().cloned().chain(names).collect();
                all.push((names, alias));
            }
        }
        return all;
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let names: Vec<String> =
        path.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let last = names.last().cloned().unwrap_or_default();
    let alias = if alias.trim().is_empty() { last } else { alias.trim().to_owned() };
    if names.is_empty() { Vec::new() } else { vec![(names, alias)] }
}

fn split_at_top(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0_usize, 0);
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.extend(text.get(from..at));
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(text.get(from..));
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// The module and the name in it, for a path within the crate; `None` for one of another crate.
fn resolve(from: &ModulePath, names: &[String]) -> Option<(ModulePath, String)> {
    let (first, rest) = names.split_first()?;
    let mut base: ModulePath = match first.as_str() {
        "crate" => Vec::new(),
        "self" => from.clone(),
        "super" => from.get(..from.len().checked_sub(1)?)?.to_vec(),
        // A child of this module, or another crate; which one is seen when the module is looked up.
        child => from.iter().cloned().chain([child.to_owned()]).collect(),
    };
    let mut rest = rest;
    while let Some((name, more)) = rest.split_first() {
        if name == "super" {
            base.pop();
            rest = more;
        } else {
            break;
        }
    }
    let (name, modules) = match rest.split_last() {
        Some((name, modules)) if name == "self" => (modules.last()?.clone(), modules),
        Some((name, modules)) => (name.clone(), modules),
        None => (String::new(), rest),
    };
    base.extend(modules.iter().cloned());
    Some((base, name))
}

fn circles_of(modules: &BTreeMap<ModulePath, Module>) -> Vec<String> {
    let mut needs: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> = BTreeMap::new();
    for (path, module) in modules {
        for (of, name) in &module.uses {
            let Some(defines) = defining(modules, of, name, 0) else { continue };
            let related = path.starts_with(defines) || defines.starts_with(path);
            if !related {
                needs.entry(path).or_default().insert(defines);
            }
        }
    }
    let mut circles = Vec::new();
    let mut known: BTreeSet<&ModulePath> = BTreeSet::new();
    for start in modules.keys() {
        if known.contains(start) {
            continue;
        }
        if let Some(way) = way_back(&needs, start) {
            known.extend(way.iter().copied());
            let files: Vec<String> = way
                .iter()
                .chain(way.first())
                .filter_map(|path| Some(modules.get(*path)?.file.display().to_string()))
                .collect();
            circles.push(format!("a circle of files: {}", files.join(" → ")));
        }
    }
    circles
}

/// The module that defines `name`, which `of` has or hands on.
fn defining<'m>(
    modules: &'m BTreeMap<ModulePath, Module>,
    of: &ModulePath,
    name: &str,
    depth: usize,
) -> Option<&'m ModulePath> {
    let as_module: ModulePath = of.iter().cloned().chain([name.to_owned()]).collect();
    if let Some((path, _)) = modules.get_key_value(&as_module) {
        return Some(path);
    }
    let (path, module) = modules.get_key_value(of)?;
    match module.hands_on.get(name) {
        // Names may be handed on several times, and not for ever.
        Some((of, name)) if depth < 8 => defining(modules, of, name, depth + 1),
        _ => Some(path),
    }
}

/// The shortest way from `start` back to itself.
fn way_back<'m>(
    needs: &BTreeMap<&'m ModulePath, BTreeSet<&'m ModulePath>>,
    start: &'m ModulePath,
) -> Option<Vec<&'m ModulePath>> {
    let mut ways = std::collections::VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in needs.get(way.last()?).into_iter().flatten() {
            if *next == start {
                return Some(way);
            }
            if seen.insert(*next) {
                ways.push_back(way.iter().copied().chain([*next]).collect());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("//! A file.\n{text}")).unwrap();
        }
        find(folder.path()).unwrap()
    }

    #[test]
    fn a_circle_is_found_and_named() {
        let found = circles(&[
            ("lib.rs", "mod a;\nmod b;\nmod c;\n\npub use a::A;\n"),
            ("a.rs", "use super::b::{self, B};\n"),
            ("b.rs", "use crate::c::C as D;\n"),
            ("c.rs", "use std::fmt;\n\nuse crate::{\n    a::A,\n};\n"),
        ]);
        assert_eq!(found, ["a circle of files: a.rs → b.rs → c.rs → a.rs"]);
    }

    #[test]
    fn a_facade_is_looked_through() {
        // `b` takes `A` from the facade of its own folder's parent, and `a` takes `B` from it.
        let found = circles(&[
            ("lib.rs", "mod plan;\nmod x;\n"),
            ("plan.rs", "mod a;\nmod b;\n\npub use self::a::A;\npub(crate) use self::b::{B, C};\n"),
            ("plan/a.rs", "use super::B;\n"),
            ("plan/b.rs", "use crate::plan::A;\n"),
            ("x.rs", "use crate::plan::{A, C};\n"),
        ]);
        assert_eq!(found, ["a circle of files: plan/a.rs → plan/b.rs → plan/a.rs"]);
    }

    #[test]
    fn what_is_no_circle_is_not_taken_for_one() {
        let found = circles(&[
            ("lib.rs", "mod a;\nmod b;\nmod c;\n\npub use a::A;\npub use b::B;\n"),
            // The one defines what the other uses; both are taken from the facade.
            ("a.rs", "use crate::B;\nuse serde::A;\n// use crate::c::C;\n"),
            ("b.rs", "use crate::c::Kind;\n\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n"),
            // A module and those below it.
            ("c.rs", "mod below;\n\nuse below::Below;\n"),
            ("c/below.rs", "use super::Kind;\n"),
            ("c/tests.rs", "use crate::a::A;\n"),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn trees_of_names_are_flattened() {
        let names: Vec<String> = flatten("crate::{a::{self, b as c}, d}")
            .into_iter()
            .map(|(names, alias)| format!("{} as {alias}", names.join("::")))
            .collect();
        assert_eq!(names, ["crate::a::self as self", "crate::a::b as c", "crate::d as d"]);
    }
}
