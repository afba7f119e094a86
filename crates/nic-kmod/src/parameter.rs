//! How a parameter is said to the kernel, and whether it was taken.

use std::fmt;

use nic_host::{Foreign, ForeignWord, Host, ReadError};

use crate::ModuleName;
use crate::loaded::folder;

/// A parameter that cannot be said to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the parameter {} cannot have the value {}: {why}", ForeignWord(name), Foreign(value))]
pub struct UnsayableParameter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Whether a text can be the name of a parameter: it becomes an argument of modprobe, behind `--`, and part of a path in sysfs.
#[must_use]
pub fn is_parameter_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !text.is_empty() && text.chars().all(is_plain) && !text.starts_with('.')
}

/// `NAME=VALUE` as the kernel takes it, with quotation marks where the value has white space (`next_arg` in `lib/cmdline.c`).
///
/// What hands it over joins all parameters with blanks: kmod's `insmod` does not quote, and its `modprobe` for a blank alone
/// (`module_options_from_array` in `tools/modprobe.c`), and leaves what begins with a quotation mark as it is.
///
/// # Errors
/// When the kernel would take it for something else.
fn argument(name: &str, value: &str) -> Result<String, UnsayableParameter> {
    let unsayable = |why| Err(UnsayableParameter { name: name.to_owned(), value: value.to_owned(), why });
    if !is_parameter_name(name) {
        return unsayable("its name has other characters than letters, digits, _, - and ., or begins with .");
    }
    if value.contains('"') {
        return unsayable("a quotation mark within a value ends it");
    }
    if value.contains('\0') {
        return unsayable("a NUL ends all parameters");
    }
    // `isspace` of the kernel's `lib/ctype.c` takes a no-break space of Latin-1 for one, too, which is a byte of many characters in UTF-8.
    let is_space = |byte: u8| matches!(byte, b'\t'..=b'\r' | b' ' | 0xa0);
    let quote = if value.bytes().any(is_space) { "\"" } else { "" };
    Ok(format!("{name}={quote}{value}{quote}"))
}

/// Each of these as [`argument`] says it.
pub(crate) fn arguments<'a>(
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<String>, UnsayableParameter> {
    parameters.into_iter().map(|(name, value)| argument(name, value)).collect()
}

/// A parameter that a loaded module does not have as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterDifference {
    /// Its name.
    pub name: String,
    /// What was asked for.
    pub wanted: String,
    /// What the module has; `None` where it shows no such parameter.
    pub found: Option<String>,
}

impl fmt::Display for ParameterDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Some(found) => write!(
                f,
                "{} is {} and not {}",
                ForeignWord(&self.name),
                Foreign(found),
                Foreign(&self.wanted)
            ),
            None => {
                write!(f, "{} is not shown, and was to be {}", ForeignWord(&self.name), Foreign(&self.wanted))
            }
        }
    }
}

/// Those of `wanted` that the loaded module does not have.
///
/// # Errors
/// When a parameter of the module's cannot be read.
pub fn not_taken<'a>(
    host: &Host,
    module: &ModuleName,
    wanted: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<ParameterDifference>, ReadError> {
    let mut differences = Vec::new();
    for (name, value) in wanted {
        let found = host.attribute(folder(module).join("parameters").join(name))?;
        // Reading takes white space from the ends.
        if found.as_deref() != Some(value.trim()) {
            differences.push(ParameterDifference { name: name.to_owned(), wanted: value.to_owned(), found });
        }
    }
    Ok(differences)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::name;

    #[test]
    fn fault_7_3_white_space_is_quoted_and_what_cannot_be_said_is_refused() {
        assert_eq!(argument("prof_sel", "2").unwrap(), "prof_sel=2");
        assert_eq!(argument("hw_guid", "").unwrap(), "hw_guid=");
        for value in ["a b", "a\tb", "a\nb", " a", "straß à"] {
            assert_eq!(argument("text", value).unwrap(), format!("text=\"{value}\""));
        }
        for (name, value) in
            [("text", "a\"b"), ("text", "\"a b\""), ("text", "a\0b"), ("a b", "1"), ("", "1"), ("..", "1")]
        {
            let error = argument(name, value).unwrap_err();
            assert!(error.to_string().starts_with(&format!("the parameter {name} cannot have")), "{error}");
        }
    }

    #[test]
    fn fault_7_3_what_a_module_has_not_taken_is_named() {
        let tree = tempfile::tempdir().unwrap();
        let parameters = tree.path().join("sys/module/igb/parameters");
        std::fs::create_dir_all(&parameters).unwrap();
        std::fs::write(parameters.join("text"), "a b\n").unwrap();
        std::fs::write(parameters.join("depth"), "16\n").unwrap();
        let host = Host::at(tree.path());
        let wanted = [("text", "a b"), ("depth", "32"), ("gone", "1")];
        let found = not_taken(&host, &name("igb"), wanted).unwrap();
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["depth is \"16\" and not \"32\"", "gone is not shown, and was to be \"1\""]);
    }
}
