//! What came of an upgrade, in numbers.

use super::measured::Rates;
use super::play::{Fate, Played, Span, edges};
use super::{MINUTE_MS, SECOND_MS};

/// What came of one run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    /// When the last node was over with.
    until_ms: u64,
    upgraded: u64,
    back: u64,
    dark: u64,
    not_drained: u64,
    not_begun: u64,
    builds: u64,
    build_ms: u64,
    cordoned_ms: u64,
    away_ms: u64,
    /// The longest time that a node was without its NICs.
    longest_away_ms: u64,
    /// How many nodes were without at the same time, at most.
    most_away: u64,
}

impl Outcome {
    pub(super) fn of(played: &Played) -> Self {
        let of = |fate| count(played.nodes.iter().filter(|node| node.fate == fate));
        let away: Vec<Span> = played.nodes.iter().filter_map(|node| node.away).collect();
        Self {
            until_ms: played.nodes.iter().map(|node| node.cordoned.to).max().unwrap_or_default(),
            upgraded: of(Fate::Upgraded),
            back: of(Fate::Back),
            dark: of(Fate::Dark),
            not_drained: of(Fate::NotDrained),
            not_begun: played.not_begun.into(),
            builds: count(played.builds.iter()),
            build_ms: played.builds.iter().sum(),
            cordoned_ms: played.nodes.iter().map(|node| node.cordoned.ms()).sum(),
            away_ms: away.iter().map(|span| span.ms()).sum(),
            longest_away_ms: away.iter().map(|span| span.ms()).max().unwrap_or_default(),
            most_away: most_at_a_time(&away),
        }
    }
}

fn count(of: impl Iterator) -> u64 {
    u64::try_from(of.count()).unwrap_or(u64::MAX)
}

/// How many of these overlap at most.
fn most_at_a_time(spans: &[Span]) -> u64 {
    let (mut now, mut most) = (0_i64, 0_i64);
    for (_, step) in edges(spans.iter().copied()) {
        now += step;
        most = most.max(now);
    }
    u64::try_from(most).unwrap_or_default()
}

/// The numbers of all runs: the middle one, the least and the most of each.
pub(super) fn table(rates: Rates, outcomes: &[Outcome]) -> String {
    let minutes = |ms: u64| format!("{:.1}", as_f64(ms) / as_f64(MINUTE_MS));
    let hours = |ms: u64| format!("{:.1}", as_f64(ms) / as_f64(60 * MINUTE_MS));
    let seconds = |ms: u64| format!("{:.1}", as_f64(ms) / as_f64(SECOND_MS));
    let plain = |number: u64| number.to_string();
    type Row<'a> = (&'a str, fn(&Outcome) -> u64, &'a dyn Fn(u64) -> String);
    let rows: [Row<'_>; 12] = [
        ("until all is over, h", |one| one.until_ms, &hours),
        ("nodes upgraded", |one| one.upgraded, &plain),
        ("nodes that went back", |one| one.back, &plain),
        ("nodes left dark until somebody came", |one| one.dark, &plain),
        ("nodes that could not be drained", |one| one.not_drained, &plain),
        ("nodes never begun with", |one| one.not_begun, &plain),
        ("builds", |one| one.builds, &plain),
        ("building, h", |one| one.build_ms, &hours),
        ("cordoned, node hours", |one| one.cordoned_ms, &hours),
        ("without NICs, node minutes", |one| one.away_ms, &minutes),
        ("longest without NICs, s", |one| one.longest_away_ms, &seconds),
        ("most nodes without NICs at a time", |one| one.most_away, &plain),
    ];
    let mut text = format!(" ({:.2} % go back, {:.2} % dark)\n", rates.back * 100.0, rates.dark * 100.0);
    text.push_str(&format!(" {:<38} {:>10} {:>10} {:>10}\n", "", "middle", "least", "most"));
    for (name, number, form) in rows {
        let mut all: Vec<u64> = outcomes.iter().map(number).collect();
        all.sort_unstable();
        let at = |index: usize| all.get(index).map_or_else(String::new, |number| form(*number));
        let (middle, least, most) = (at(all.len() / 2), at(0), at(all.len().saturating_sub(1)));
        text.push_str(&format!(" {name:<38} {middle:>10} {least:>10} {most:>10}\n"));
    }
    text
}

/// For printing: a figure of more than 2^53 milliseconds would be of 285,000 years.
#[expect(clippy::cast_precision_loss, reason = "figures are printed with one digit behind the point")]
pub(super) fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::super::play::Node;
    use super::*;

    #[test]
    fn sums_and_peaks() {
        let node = |fate, from, away: Option<(u64, u64)>| Node {
            fate,
            cordoned: Span { from, to: from + 100 },
            away: away.map(|(from, to)| Span { from, to }),
        };
        let played = Played {
            nodes: vec![
                node(Fate::Upgraded, 0, Some((10, 50))),
                node(Fate::Back, 0, Some((40, 80))),
                node(Fate::Upgraded, 50, Some((80, 90))),
                node(Fate::NotDrained, 60, None),
            ],
            not_begun: 2,
            builds: vec![5, 6],
            stopped_at: None,
        };
        let expected = Outcome {
            until_ms: 160,
            upgraded: 2,
            back: 1,
            dark: 0,
            not_drained: 1,
            not_begun: 2,
            builds: 2,
            build_ms: 11,
            cordoned_ms: 400,
            away_ms: 90,
            longest_away_ms: 40,
            most_away: 2,
        };
        assert_eq!(Outcome::of(&played), expected);
    }

    #[test]
    fn spans_that_touch_do_not_overlap() {
        let span = |from, to| Span { from, to };
        assert_eq!(most_at_a_time(&[span(0, 5), span(5, 9), span(5, 6)]), 2);
        assert_eq!(most_at_a_time(&[]), 0);
    }
}
