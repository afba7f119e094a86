//! The `.sha256` file: what the files are, and what went into their build.

use std::collections::BTreeMap;

use super::plain_files::PlainFile;

/// What a `.sha256` file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checksums {
    /// The comment lines, without their `# `.
    pub(super) inputs: String,
    /// SHA-256 by file name.
    pub(super) files: BTreeMap<String, String>,
}

impl Checksums {
    /// The form of sha256sum(1), which passes over lines that begin with `#`.
    pub(super) fn render(&self) -> String {
        let inputs = self.inputs.lines().map(|line| format!("# {line}\n"));
        inputs.chain(self.files.iter().map(|(name, sum)| format!("{sum}  {name}\n"))).collect()
    }

    /// `None` where a line is neither a comment nor of that form, or where the text was cut off.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut checksums = Self { inputs: String::new(), files: BTreeMap::new() };
        if !text.ends_with('\n') {
            return None;
        }
        for line in text.lines() {
            if let Some(input) = line.strip_prefix("# ") {
                checksums.inputs.push_str(input);
                checksums.inputs.push('\n');
                continue;
            }
            let (sum, name) = line.split_once("  ")?;
            let is_sum = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_sum || name.is_empty() {
                return None;
            }
            checksums.files.insert(name.to_owned(), sum.to_owned());
        }
        Some(checksums)
    }

    /// The first difference between what was stored and what is found.
    pub(super) fn difference(&self, found: &[PlainFile]) -> Option<String> {
        let found: BTreeMap<&str, &str> =
            found.iter().map(|file| (file.name.as_str(), file.sha256.as_str())).collect();
        let changed = self.files.iter().find_map(|(name, sum)| match found.get(name.as_str()) {
            None => Some(format!("{name} is missing")),
            Some(other) if other != sum => Some(format!("{name} has changed")),
            Some(_) => None,
        });
        changed.or_else(|| {
            let added = found.keys().find(|name| !self.files.contains_key(**name));
            added.map(|name| format!("{name} was added"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let sum = "ab".repeat(32);
        let checksums = Checksums {
            inputs: "kernel: 6.8\nflags: --x\n".to_owned(),
            files: BTreeMap::from([("a.rpm".to_owned(), sum.clone()), ("b c.rpm".to_owned(), sum.clone())]),
        };
        let text = checksums.render();
        assert_eq!(text, format!("# kernel: 6.8\n# flags: --x\n{sum}  a.rpm\n{sum}  b c.rpm\n"));
        assert_eq!(Checksums::parse(&text), Some(checksums));
        // Cut off anywhere it is either refused, or lacks a line that then is a difference.
        for end in 0..text.len() {
            let parsed = Checksums::parse(&text[..end]);
            assert!(parsed.is_none_or(|parsed| parsed.files.len() < 2), "{end}");
        }
        for other in ["d41d8cd98f00b204e9800998ecf8427e\n", "# \n\n", "x  y\n"] {
            assert_eq!(Checksums::parse(other), None, "{other:?}");
        }
    }
}
