//! The sources of a crate, one file after the other, and what stands in them.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// Looks at all files below `folder`: `look` finds lines with what is wrong in them, and `tell` says so. Paths are told from `root`.
pub(super) fn find<T>(
    folder: &Path,
    root: &Path,
    look: impl Fn(&str) -> Vec<(usize, T)>,
    tell: impl Fn(&T) -> String,
) -> anyhow::Result<Vec<String>> {
    let mut violations = Vec::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.with_context(|| format!("cannot walk {}", folder.display()))?;
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let shown = path.strip_prefix(root).unwrap_or(path).display();
        violations.extend(look(&text).iter().map(|(line, what)| format!("{shown}:{line}: {}", tell(what))));
    }
    Ok(violations)
}

/// Where each of these stands in code, and not in a comment or in a string that speaks of one.
pub(super) fn in_code<'a>(text: &'a str, holder: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(holder).map(|(at, _)| at).filter(|at| {
        let line_so_far = text.get(..*at).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
        !line_so_far.contains("//") && !line_so_far.contains('"')
    })
}
