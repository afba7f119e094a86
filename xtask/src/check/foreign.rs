//! Text of others in errors. It goes through `nic_host::Foreign`, which escapes and cuts it; a name of a field says which text is this program's
//! own. An error that shows a text otherwise breaks lines, moves a terminal's cursor, and may be of any length.

use std::path::Path;

use super::sources;

/// The fields of errors whose text this program has made: sentences and words, not quotations. What they quote has gone through `Foreign`.
const OWN: [&str; 29] = [
    "about",
    "action",
    "change",
    "command",
    "device",
    "difference",
    "doing",
    "end",
    "field",
    "found",
    "held_by",
    "holder",
    "last_lines",
    "last_words",
    "life",
    "log",
    "modules",
    "notes",
    "part",
    "path",
    "pattern",
    "purpose",
    "reason",
    "root",
    "stored",
    "variable",
    "what",
    "why",
    "writer",
];
/// Errors whose only field is such a text.
const OWN_SENTENCES: [&str; 3] = ["MalformedError", "NotReady", "NotVerified"];

/// Finds them in all files below `folder`; paths are told from `root`.
pub(super) fn find(folder: &Path, root: &Path) -> anyhow::Result<Vec<String>> {
    let tell =
        |field: &String| format!("the text {field} is shown as it is: Foreign(…), or a name of the list OWN");
    sources::find(folder, root, raw, tell)
}

/// Line numbers of `#[error(…)]`, and the fields that they show.
fn raw(text: &str) -> Vec<(usize, String)> {
    const HOLDER: &str = "#[error(";
    let mut found = Vec::new();
    for at in sources::in_code(text, HOLDER) {
        let Some((shown, item)) = text.get(at + HOLDER.len()..).and_then(|rest| split_closed(rest, '('))
        else {
            continue;
        };
        let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        if OWN_SENTENCES.iter().any(|name| item.split('(').next().is_some_and(|head| head.ends_with(name))) {
            continue;
        }
        let fields = fields(item).into_iter().filter(|(name, kind)| {
            let is_text = ["String", "str>", "OsString"].iter().any(|text| kind.contains(text));
            is_text && !OWN.contains(&name.as_str()) && shows(shown, name)
        });
        found.extend(fields.map(|(name, _)| (line, name)));
    }
    found
}

/// What stands before the bracket that closes one that is open, and what stands behind it.
fn split_closed(text: &str, open: char) -> Option<(&str, &str)> {
    let close = if open == '(' { ')' } else { '}' };
    let mut depth = 0_usize;
    let mut chars = text.char_indices();
    while let Some((at, one)) = chars.next() {
        match one {
            '"' => {
                while chars.next().is_some_and(|(_, inner)| {
                    if inner == '\\' {
                        chars.next();
                    }
                    inner != '"'
                }) {}
            }
            one if one == open => depth += 1,
            one if one == close && depth == 0 => return Some((text.get(..at)?, text.get(at + 1..)?)),
            one if one == close => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The names and types of the fields of what stands behind the attribute: a struct, or a variant.
fn fields(item: &str) -> Vec<(String, String)> {
    let code: String =
        item.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let Some(at) =
        code.find(['(', '{', ',', ';', '}'].as_slice()).filter(|_| !code.trim_start().starts_with("#["))
    else {
        // Another attribute in between, such as `#[source]`.
        return code.split_once("]\n").map(|(_, rest)| fields(rest)).unwrap_or_default();
    };
    let open = code.get(at..).and_then(|rest| rest.chars().next()).unwrap_or_default();
    if open != '(' && open != '{' {
        return Vec::new();
    }
    let Some((inner, _)) = code.get(at + 1..).and_then(|rest| split_closed(rest, open)) else {
        return Vec::new();
    };
    let plain: String =
        inner.lines().filter(|line| !line.trim_start().starts_with("#[")).collect::<Vec<_>>().join("\n");
    let parts = top_level(&plain);
    let named = |(place, part): (usize, &str)| {
        let part = part.trim().trim_start_matches("#[from]").trim_start_matches("#[source]").trim();
        let part = part.strip_prefix("pub ").unwrap_or(part);
        if open == '(' {
            return (!part.is_empty()).then(|| (place.to_string(), part.to_owned()));
        }
        part.split_once(':').map(|(name, kind)| (name.trim().to_owned(), kind.trim().to_owned()))
    };
    parts.into_iter().enumerate().filter_map(named).collect()
}

/// Split at the commas that stand in no bracket and in no literal.
fn top_level(text: &str) -> Vec<&str> {
    let (mut depth, mut in_literal, mut escaped, mut start) = (0_i32, false, false, 0);
    let mut parts = Vec::new();
    for (at, one) in text.char_indices() {
        match one {
            _ if escaped => escaped = false,
            '\\' if in_literal => escaped = true,
            '"' => in_literal = !in_literal,
            _ if in_literal => {}
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' | '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(text.get(start..));
    parts
}

/// Whether an attribute's arguments show a field, and not through `Foreign`.
fn shows(arguments: &str, field: &str) -> bool {
    let is_word = |text: &str, at: usize| {
        let ends = |one: Option<char>| !one.is_some_and(|one| one.is_alphanumeric() || one == '_');
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        ends(before) && ends(text.get(at + field.len()..).and_then(|rest| rest.chars().next()))
    };
    let parts = top_level(arguments);
    let in_literal = |part: &str| {
        part.match_indices(&format!("{{{field}")).any(|(at, _)| is_word(part, at + 1))
            || (field == "0" && part.contains("{}") && parts.len() == 1)
    };
    let in_argument = |part: &str| {
        let is_field = |at: usize| {
            let before = part.get(..at).unwrap_or_default();
            is_word(part, at) && (field.parse::<usize>().is_err() || before.ends_with('.'))
        };
        !part.contains("Foreign") && part.match_indices(field).any(|(at, _)| is_field(at))
    };
    parts
        .iter()
        .any(|part| if part.trim_start().starts_with('"') { in_literal(part) } else { in_argument(part) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_an_error_shows_as_it_is_is_found() {
        let rows: [(&str, &[&str]); 14] = [
            ("#[error(\"{line:?} is no line\")]\nstruct A { line: String }", &["line"]),
            ("#[error(\"{} is no line\", Foreign(line))]\nstruct A { line: String }", &[]),
            (
                "#[error(\"{} is no line\", line)]\nstruct A {\n    /// One, two.\n    line: String,\n}",
                &["line"],
            ),
            ("    #[error(\"{0:?} is no name\")]\n    Name(String),", &["0"]),
            ("    #[error(\"{} is no name\", .0.join(\" \"))]\n    Name(Vec<String>),", &["0"]),
            ("    #[error(\"{} is no name\", Foreign(.0))]\n    Name(String),", &[]),
            ("    #[error(\"cannot {action} {name}\")]\n    A { action: String, name: ModuleName },", &[]),
            ("    #[error(\"{after:?}\")]\n    A { after: Duration, line: String },", &[]),
            ("    #[error(transparent)]\n    A(#[from] B),", &[]),
            ("    #[error(\"x\")]\n    A,\n    B(String),", &[]),
            (
                "    #[error(\"{word}\")]\n    #[non_exhaustive]\n    A {\n        word: &'static str,\n    },",
                &[],
            ),
            ("    #[error(\"{}\", f(line.as_deref()))]\n    A { line: Option<String>, o: u8 },", &["line"]),
            ("    #[error(\"{liner}\")]\n    A { line: String, liner: u8 },", &[]),
            ("// #[error(\"{line}\")]\nstruct A { line: String }", &[]),
        ];
        for (text, fields) in rows {
            let found: Vec<String> = raw(text).into_iter().map(|(_, field)| field).collect();
            assert_eq!(found, fields, "{text}");
        }
    }
}
