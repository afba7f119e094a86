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
}

impl Verdict {
    /// The line for scenario `name`, without a line end.
    #[must_use]
    pub fn line(&self, name: &str) -> String {
        match self {
            Self::Pass => format!("{VERDICT}PASS {name}"),
            Self::Fail(reason) => format!("{VERDICT}FAIL {name}: {}", reason.replace(['\n', '\r'], "; ")),
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
            "FAIL" => {
                let (about, reason) = rest.split_once(": ")?;
                (about == name).then(|| Self::Fail(reason.trim_end().to_owned()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_survives_the_console() {
        for verdict in [Verdict::Pass, Verdict::Fail("VF 3: mtu was 1400, is 1500".into())] {
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
