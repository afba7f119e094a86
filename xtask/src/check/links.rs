//! Links in the documents lead somewhere, and the book has every page.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;

/// The list of the book's pages.
const SUMMARY: &str = "docs/SUMMARY.md";

/// Links of the repository at `root` that lead nowhere, and pages below docs/ that are not in the book.
pub(super) fn find(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut pages = BTreeMap::new();
    let folders = walkdir::WalkDir::new(root)
        .into_iter()
        .filter_entry(|entry| !["target", ".git"].iter().any(|name| entry.file_name() == *name));
    for entry in folders {
        let entry = entry.context("cannot walk the repository")?;
        if entry.path().extension().is_some_and(|extension| extension == "md") {
            let path = entry.path().strip_prefix(root).context("a path outside of the repository")?;
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("cannot read {}", entry.path().display()))?;
            pages.insert(path.to_path_buf(), text);
        }
    }
    let anchors: BTreeMap<&Path, BTreeSet<String>> =
        pages.iter().map(|(path, text)| (path.as_path(), anchors(text))).collect();
    let mut violations = Vec::new();
    let mut in_the_book = BTreeSet::from([PathBuf::from(SUMMARY)]);
    for (page, text) in &pages {
        for link in links(text) {
            let (path, anchor) =
                link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            let target = if path.is_empty() { page.clone() } else { beside(page, path) };
            if !root.join(&target).exists() {
                violations.push(format!("{} links to {link}, which is not there", page.display()));
            } else if let (Some(anchor), Some(anchors)) = (anchor, anchors.get(target.as_path()))
                && !anchors.contains(anchor)
            {
                violations.push(format!("{} links to {link}, and there is no such heading", page.display()));
            }
            if page == Path::new(SUMMARY) {
                in_the_book.insert(target);
            }
        }
    }
    let of_docs = pages.keys().filter(|page| page.starts_with("docs"));
    violations.extend(
        of_docs
            .filter(|page| !in_the_book.contains(*page))
            .map(|page| format!("{SUMMARY} lacks {}", page.display())),
    );
    Ok(violations)
}

/// What lies at `path` beside the page.
fn beside(page: &Path, path: &str) -> PathBuf {
    let mut target = page.parent().unwrap_or(Path::new("")).to_path_buf();
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir => {
                target.pop();
            }
            Component::CurDir => {}
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => target.push(component),
        }
    }
    target
}

/// The lines that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .scan(false, |is_code, line| {
            let fence = line.trim_start().starts_with("```");
            let is_prose = !*is_code && !fence;
            *is_code ^= fence;
            Some(is_prose.then_some(line))
        })
        .flatten()
}

/// Where a text links to within the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    prose(text)
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.contains("://") && !link.starts_with("mailto:"))
}

/// The headings of a text, as links name them.
fn anchors(text: &str) -> BTreeSet<String> {
    prose(text)
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

/// A heading as links name it: lower case, without punctuation, with `-` for each blank.
fn anchor(heading: &str) -> String {
    heading
        .chars()
        .filter(|one| one.is_alphanumeric() || matches!(one, ' ' | '-' | '_'))
        .flat_map(char::to_lowercase)
        .map(|one| if one == ' ' { '-' } else { one })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_nowhere_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("docs/decisions")).unwrap();
        let page = "# A page\n\n## `two` words, and more\n[a](decisions/b.md#b) [b](#two-words-and-more) [c](#three) [d](gone.md)\n\
            ```\n[code](nowhere.md)\n```\n[e](../README.md) [f](https://example.com/x)\n";
        fs::write(root.join("docs/a.md"), page).unwrap();
        fs::write(root.join("docs/decisions/b.md"), "# B\n[a](../a.md#a-page) [g](../a.md#none)\n").unwrap();
        fs::write(root.join("README.md"), "[docs](docs/)\n").unwrap();
        fs::write(root.join("docs/SUMMARY.md"), "- [a](a.md)\n").unwrap();
        let expected = [
            "docs/a.md links to #three, and there is no such heading",
            "docs/a.md links to gone.md, which is not there",
            "docs/decisions/b.md links to ../a.md#none, and there is no such heading",
            "docs/SUMMARY.md lacks docs/decisions/b.md",
        ];
        assert_eq!(find(root).unwrap(), expected);
    }
}
