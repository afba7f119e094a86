//! Whose file is in the place of the names rule. What is somebody else's is neither replaced nor removed: the path is a setting, and a
//! wrong one must not cost anybody a rule.

use std::io;
use std::path::Path;

use nic_host::{Host, ReadError, WriteError};

/// How this program's rule begins.
pub(super) const HEADER: &str = "# Written by nic-driver";

/// What udev calls an interface by its device's place on the bus: the name that the usual policy gives it.
pub(super) const PATH_NAME: &str = "ID_NET_NAME_PATH";

/// The names that the rule changes: by place on the bus, by slot. Not `ID_NET_NAME_ONBOARD`, which firmware gives.
pub(super) const CHANGED_NAMES: [&str; 2] = [PATH_NAME, "ID_NET_NAME_SLOT"];

/// The longest file that is looked at, in bytes: a rule has some hundred.
const LONGEST_RULE: u64 = 64 << 10;

/// What is in the place of the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nothing.
    Nothing,
    /// This program's rule, or another driver container's: one that ended left it. An empty file says nothing to udev, and is what
    /// a container has left that was killed while it wrote in place.
    Left,
    /// Somebody else's file, a link, or something else than a file.
    Foreign,
}

impl Origin {
    /// Looks at what is at `path`.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn find(host: &Host, path: &Path) -> Result<Self, ReadError> {
        let Ok(found) = host.path(path).symlink_metadata() else { return Ok(Self::Nothing) };
        if !found.is_file() || found.len() > LONGEST_RULE {
            return Ok(Self::Foreign);
        }
        let bytes = host.read_bytes_up_to(path, LONGEST_RULE)?;
        Ok(std::str::from_utf8(&bytes).map_or(Self::Foreign, Self::of_text))
    }

    /// Goes by what the lines do, joined where a `\` ends them, as udev does (udev(7)).
    fn of_text(text: &str) -> Self {
        if text.is_empty() {
            return Self::Left;
        }
        let joined = text.replace("\\\n", "");
        let mut rules =
            joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let only_ours = rules.clone().all(|rule| renames(rule) || frames(rule));
        let is_left = only_ours && (rules.any(renames) || text.starts_with(HEADER));
        if is_left { Self::Left } else { Self::Foreign }
    }
}

/// Whether a rule does nothing but take the port out of one of the names that udev has made: this program's does, and so does each of the
/// driver container that this program replaces.
fn renames(rule: &str) -> bool {
    CHANGED_NAMES.iter().any(|name| {
        let property = format!("ENV{{{name}}}");
        let program = format!("\"/bin/sh -c 'echo $env{{{name}}} | sed ");
        let mut takes_out = false;
        let only = tokens(rule).all(|token| {
            let Some((key, value)) = token.split_once('=') else { return false };
            match key.trim_end_matches('!') {
                "ACTION" | "SUBSYSTEM" | "DRIVERS" => true,
                "PROGRAM" => {
                    takes_out =
                        value.trim_start_matches('=').starts_with(&program) && value.contains("s/np[01]");
                    takes_out
                }
                key => key == property,
            }
        });
        only && takes_out
    })
}

/// Whether a rule only leads past those that rename: the other container's jumps over them.
fn frames(rule: &str) -> bool {
    let mut tokens = tokens(rule);
    match (tokens.next(), tokens.next(), tokens.next()) {
        (Some(label), None, None) => label == format!("LABEL={LABEL}"),
        (Some(condition), Some(jump), None) => {
            matches!(condition, r#"ACTION!="add""# | r#"SUBSYSTEM!="net""#) && jump == format!("GOTO={LABEL}")
        }
        _ => false,
    }
}

/// The other container's label.
const LABEL: &str = "\"mlnx_ofed_name_end\"";

/// The parts of a rule: at commas outside quotation marks.
fn tokens(rule: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let at_comma = move |character: char| {
        is_quoted ^= character == '"';
        character == ',' && !is_quoted
    };
    rule.split(at_comma).map(str::trim).filter(|token| !token.is_empty())
}

/// What is said where somebody else's file is in the rule's place.
pub(super) fn foreign(host: &Host, path: &Path, action: &str) -> WriteError {
    WriteError {
        path: host.path(path),
        action: action.to_owned(),
        source: io::Error::other(
            "what is there is neither this program's names rule nor a driver container's: MLX_UDEV_RULES_FILE names somebody else's file, which is not touched",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the incumbent's two programs write: one in a frame of jumps, the other a line each.
    const INCUMBENTS: [&str; 2] = [
        r#"ACTION!="add", GOTO="mlnx_ofed_name_end"
SUBSYSTEM!="net", GOTO="mlnx_ofed_name_end"

# Names without their port.

DRIVERS=="mlx5_core", ENV{ID_NET_NAME_PATH}!="", \
PROGRAM="/bin/sh -c 'echo $env{ID_NET_NAME_PATH} | sed -r -e s/np[01]$// -e s/np[01]v/v/'", \
        ENV{ID_NET_NAME_PATH}="$result"

LABEL="mlnx_ofed_name_end"
"#,
        r#"ACTION=="add", SUBSYSTEM=="net", DRIVERS=="igb|igbvf", ENV{ID_NET_NAME_SLOT}!="", PROGRAM="/bin/sh -c 'echo $env{ID_NET_NAME_SLOT} | sed -e s/np[01]$// -e s/np[01]v/v/'", ENV{ID_NET_NAME_SLOT}="%c"
"#,
    ];

    #[test]
    fn trial_w8_a_rule_is_known_by_what_it_does() {
        let renaming = INCUMBENTS[1].trim_end();
        let ours = format!("{HEADER}.\n# Names without their port.\n{renaming}\n");
        for left in [&*ours, HEADER, INCUMBENTS[0], INCUMBENTS[1], ""] {
            assert_eq!(Origin::of_text(left), Origin::Left, "{left}");
        }
        let admins = r#"SUBSYSTEM=="net", ACTION=="add", ATTR{address}=="00:11:22:33:44:55", NAME="uplink"
"#;
        for foreign in [
            admins,
            &format!("{ours}{admins}"),
            &format!("{}{admins}", INCUMBENTS[0]),
            // The same rule, and something else with it.
            &format!("{renaming}, NAME=\"uplink\"\n"),
            &format!("{renaming}, RUN+=\"/bin/true\"\n"),
            "# Nothing is renamed on this node.\n",
            "[Match]\nName=eth0\n",
            "LABEL=\"mlnx_ofed_name_end\"\n",
            "\n",
        ] {
            assert_eq!(Origin::of_text(foreign), Origin::Foreign, "{foreign}");
        }
    }
}
