//! A command line, a variable or a file of settings that is wrong, told as any other error: in one line on stderr, and as an object on stdout
//! where JSON is asked for. clap would tell it in several, with what it quotes in full.

use std::ffi::OsString;

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use nic_host::ForeignWord;

use super::output;
use crate::Exit;

/// What is wrong, as clap tells it, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct UsageError {
    what: String,
}

/// Ends the process: shows help where that is asked for, and tells what is wrong else.
pub(super) fn end(error: Error, command_line: &[OsString]) -> ! {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        error.exit();
    }
    let error = UsageError { what: in_one_line(error) };
    if asks_for_json(command_line) {
        output::tell_as_json(&error, Exit::Usage);
    }
    std::process::exit(output::tell(&error, Exit::Usage) as i32)
}

/// Without the usage of all options, which `--help` tells, and with what it quotes escaped and cut.
fn in_one_line(mut error: Error) -> String {
    let quoted: Vec<(ContextKind, String)> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) => Some((kind, ForeignWord(text).to_string())),
            _ => None,
        })
        .collect();
    for (kind, text) in quoted {
        error.insert(kind, ContextValue::String(text));
    }
    let text = error.render().to_string();
    let mut line = String::new();
    for paragraph in text.trim().strip_prefix("error: ").unwrap_or(&text).trim().split("\n\n") {
        if paragraph.starts_with("Usage:") || paragraph.starts_with("For more information") {
            continue;
        }
        for part in paragraph.lines().map(str::trim) {
            let goes_on = part.starts_with('[') || line.is_empty();
            line.push_str(if goes_on && line.is_empty() {
                ""
            } else if goes_on {
                " "
            } else {
                "; "
            });
            line.push_str(part);
        }
    }
    line
}

/// What the command line says, as far as it can be read: it is wrong somewhere.
fn asks_for_json(command_line: &[OsString]) -> bool {
    let follows = command_line
        .windows(2)
        .any(|pair| matches!(pair, [option, value] if option == "--output" && value == "json"));
    follows || command_line.iter().any(|one| one == "--output=json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_asked_for_in_either_way() {
        for (line, expected) in [
            ("nic-driver --output json status", true),
            ("nic-driver status --output=json", true),
            ("nic-driver status --output text", false),
            ("nic-driver json --output", false),
        ] {
            let line: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(asks_for_json(&line), expected, "{line:?}");
        }
    }
}
