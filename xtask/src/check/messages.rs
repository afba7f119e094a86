//! Messages that do not name their subject: whoever reads one line of a log, or one error in a chain, does not know who "it" is.

use std::path::Path;

use super::sources;

/// With what no message begins.
const WITHOUT_SUBJECT: [&str; 5] = ["it ", "its ", "not ", "tried ", "they "];

/// What a message stands in: the attribute of thiserror, and the macros of tracing.
const HOLDERS: [&str; 6] = [
    "#[error(",
    "tracing::error!(",
    "tracing::warn!(",
    "tracing::info!(",
    "tracing::debug!(",
    "tracing::trace!(",
];

/// Finds them in all files below `folder`; paths are told from `root`.
pub(super) fn find(folder: &Path, root: &Path) -> anyhow::Result<Vec<String>> {
    let tell = |message: &String| format!("the message {message:?} does not begin with its subject");
    sources::find(folder, root, without_subject, tell)
}

/// Line numbers and messages.
fn without_subject(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for holder in HOLDERS {
        for at in sources::in_code(text, holder) {
            let begin = at + holder.len();
            let Some((offset, message)) = text.get(begin..).and_then(message) else { continue };
            let words = message.to_lowercase();
            if WITHOUT_SUBJECT.iter().any(|beginning| words.starts_with(beginning)) {
                let line = text.get(..begin + offset).unwrap_or_default().matches('\n').count() + 1;
                found.push((line, message));
            }
        }
    }
    found.sort_unstable();
    found
}

/// The first literal that is an argument of its own, and no field's value; `arguments` begins behind the parenthesis. With
/// its offset.
fn message(arguments: &str) -> Option<(usize, String)> {
    let mut depth = 0_usize;
    let mut before = '(';
    let mut chars = arguments.char_indices().peekable();
    while let Some((at, one)) = chars.next() {
        match one {
            '"' => {
                let mut literal = String::new();
                while let Some((_, inner)) = chars.next() {
                    match inner {
                        '"' => break,
                        '\\' => literal.extend(chars.next().map(|(_, escaped)| escaped)),
                        _ => literal.push(inner),
                    }
                }
                if depth == 0 && matches!(before, '(' | ',') {
                    return Some((at, literal));
                }
            }
            // The character of a quote, which opens no literal.
            '\'' if arguments.get(at..).is_some_and(|rest| rest.starts_with("'\"'")) => {
                chars.next();
                chars.next();
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return None,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if !one.is_whitespace() {
            before = one;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn messages_without_a_subject_are_found_where_they_stand() {
        let rows: [(&str, &[usize]); 10] = [
            ("    #[error(\"it is gone\")]\n", &[1]),
            ("    #[error(\"the PF is gone\")]\n", &[]),
            ("    #[error(\n        \"Not begun: {}\",\n        text(\"it is\"),\n    )]\n", &[2]),
            ("    #[error(transparent)]\n    Other(\"it \")\n", &[]),
            ("\ntracing::warn!(path = %path, why = \"it is\", \"they are gone\");\n", &[2]),
            ("tracing::warn!(why = \"it is\", \"the PF is gone\");\n", &[]),
            ("tracing::info!(why = join(\"it \", '\"'), \"its name\");\n", &[1]),
            ("tracing::debug!(%error, \"itself\");\ntracing::error!(\"nothing \\\"it \\\"\");\n", &[]),
            ("// tracing::error!(\"it is\");\nlet text = \"tracing::error!(\\\"it is\";\n", &[]),
            (
                "tracing::error!(\n    error,\n    \"tried {n} times\"\n);\ntracing::trace!(\"it is\")\n",
                &[3, 5],
            ),
        ];
        for (text, lines) in rows {
            let found: Vec<usize> = without_subject(text).into_iter().map(|(line, _)| line).collect();
            assert_eq!(found, lines, "{text}");
        }
    }

    #[test]
    fn the_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("src")).unwrap();
        fs::write(folder.path().join("src/a.rs"), "\n#[error(\"it is gone\")]\n").unwrap();
        let found = find(&folder.path().join("src"), folder.path()).unwrap();
        assert_eq!(found, ["src/a.rs:2: the message \"it is gone\" does not begin with its subject"]);
    }
}
