//! The lines by which a guest speaks to the host over its serial console.
//!
//! The console also carries kernel messages, so each line is recognised by its prefix. Whatever has no prefix is kept in
//! the log and otherwise ignored.

/// Starts the one line that decides a run.
pub const VERDICT: &str = "LAB-VERDICT: ";
/// Starts a line of progress, shown while the scenario runs.
pub const PROGRESS: &str = "LAB: ";
/// A processor of the guest is at work and its timer runs; the processor's number follows.
pub const ALIVE: &str = "LAB-ALIVE: ";
/// Starts a line of the scenario's closing report, printed without its prefix.
pub const REPORT: &str = "LAB-REPORT: ";

/// How a scenario ended, as the guest says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The scenario saw what it must see.
    Pass,
    /// It did not; the reason is one line of text.
    Fail(String),
    /// It was not begun, because the machine did not come up; the reason is one line of text.
    NotBegun(String),
}

impl Verdict {
    /// The line for scenario `name`, without a line end.
    #[must_use]
    pub fn line(&self, name: &str) -> String {
        match self {
            Self::Pass => format!("{VERDICT}PASS {name}"),
            Self::Fail(reason) => format!("{VERDICT}FAIL {name}: {}", one_line(reason)),
            Self::NotBegun(reason) => format!("{VERDICT}NOT-BEGUN {name}: {}", one_line(reason)),
        }
    }

    /// Reads a console line. `None` when it is no verdict about scenario `name`.
    #[must_use]
    pub fn parse(line: &str, name: &str) -> Option<Self> {
        // The kernel writes to the same console and may leave an unfinished line before ours.
        let (_, rest) = line.split_once(VERDICT)?;
        let (word, rest) = rest.split_once(' ')?;
        match word {
            "PASS" => (rest.trim_end() == name).then_some(Self::Pass),
            "FAIL" => reason(rest, name).map(Self::Fail),
            "NOT-BEGUN" => reason(rest, name).map(Self::NotBegun),
            _ => None,
        }
    }
}

fn one_line(reason: &str) -> String {
    reason.replace(['\n', '\r'], "; ")
}

/// What follows the name, if it is this one.
fn reason(rest: &str, name: &str) -> Option<String> {
    let (about, reason) = rest.split_once(": ")?;
    (about == name).then(|| reason.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_survives_the_console() {
        let reason = || "VF 3: mtu was 1400, is 1500".to_owned();
        for verdict in [Verdict::Pass, Verdict::Fail(reason()), Verdict::NotBegun(reason())] {
            assert_eq!(Verdict::parse(&verdict.line("night"), "night"), Some(verdict));
        }
    }

    #[test]
    fn what_is_no_verdict_about_this_scenario_is_none() {
        for line in [
            "",
            "LAB: PASS night",
            "LAB-VERDICT: PASS nightly",
            "LAB-VERDICT: MAYBE night",
            "LAB-VERDICT: PASS",
        ] {
            assert_eq!(Verdict::parse(line, "night"), None, "{line}");
        }
    }

    #[test]
    fn a_reason_stays_on_its_line() {
        assert_eq!(Verdict::Fail("a\nb".into()).line("x"), "LAB-VERDICT: FAIL x: a; b");
    }
}
