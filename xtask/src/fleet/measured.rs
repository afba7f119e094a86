//! What reports of nights tell of upgrades: how long, how long without NICs, how often they fail.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use serde::Deserialize;

/// The form of a report that is read here, as `docs/report.schema.json` has it.
const SCHEMA: u32 = 1;

/// A report, as far as it is asked.
#[derive(Debug, Deserialize)]
struct Report {
    schema: u32,
    nights: Vec<Night>,
}

#[derive(Debug, Deserialize)]
struct Night {
    verdict: Verdict,
    swaps: Vec<Swap>,
    handovers: Vec<Handover>,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    level: String,
}

#[derive(Debug, Deserialize)]
struct Swap {
    kind: String,
    from: Timestamp,
    away_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Handover {
    from: Timestamp,
    took_ms: u64,
    build_ms: u64,
    swap_ms: u64,
    restore_ms: u64,
}

/// A handover from one driver container to the next, which a node of the fleet may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Upgrade {
    pub(super) build_ms: u64,
    /// Everything but the build, the swap and the restore.
    pub(super) other_ms: u64,
    /// The swap with the restore.
    pub(super) swap_ms: u64,
    /// How long the NICs were away.
    pub(super) away_ms: u64,
}

/// How often nodes fail, as shares of one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    /// They have their NICs, with the driver that they had.
    pub(super) back: f64,
    /// They lack something that they had.
    pub(super) dark: f64,
}

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) upgrades: Vec<Upgrade>,
    /// How long NICs were away on nodes that went back.
    pub(super) back_away_ms: Vec<u64>,
    pub(super) rates: Rates,
    pub(super) nights: Nights,
}

/// How many nights there were with a swap, and how they ended.
#[derive(Debug, Default)]
pub(super) struct Nights {
    all: u32,
    back: u32,
    dark: u32,
}

impl Measured {
    /// Takes what a report tells.
    pub(super) fn add(&mut self, text: &str) -> anyhow::Result<()> {
        let report: Report =
            serde_json::from_str(text).context("it is no report of `nic-driver report --output json`")?;
        ensure!(
            report.schema == SCHEMA,
            "it is of schema {}, and {SCHEMA} is what is read here",
            report.schema
        );
        for night in &report.nights {
            // Only nights that have tried tell how often it fails.
            if night.swaps.is_empty() {
                continue;
            }
            self.nights.all += 1;
            match night.verdict.level.as_str() {
                "rolled_back" => self.nights.back += 1,
                "degraded" => self.nights.dark += 1,
                _ => {}
            }
            let rolled_back = night.swaps.iter().filter(|swap| swap.kind == "rolled_back");
            self.back_away_ms.extend(rolled_back.filter_map(|swap| swap.away_ms));
            self.upgrades.extend(night.handovers.iter().filter_map(|one| one.upgrade(&night.swaps)));
        }
        Ok(())
    }

    /// What was measured with all reports.
    pub(super) fn finish(mut self) -> anyhow::Result<Self> {
        ensure!(
            !self.upgrades.is_empty(),
            "no report tells of a handover with its swap; one is in the journal when a container was replaced by another one, \
             and the driver with it"
        );
        let share = |count: u32| f64::from(count) / f64::from(self.nights.all);
        self.rates = Rates { back: share(self.nights.back), dark: share(self.nights.dark) };
        Ok(self)
    }

    pub(super) fn describe(&self, files: &[PathBuf]) -> String {
        format!(
            "Measured, of {} reports: handovers {}; nights with a swap {}, of them gone back {}, left degraded {}\n",
            files.len(),
            self.upgrades.len(),
            self.nights.all,
            self.nights.back,
            self.nights.dark
        )
    }
}

impl Handover {
    /// With the swap that was in it, and had an end.
    fn upgrade(&self, swaps: &[Swap]) -> Option<Upgrade> {
        let until = self
            .from
            .checked_add(jiff::SignedDuration::from_millis(i64::try_from(self.took_ms).ok()?))
            .ok()?;
        let swap = swaps.iter().find(|swap| self.from <= swap.from && swap.from <= until)?;
        let swap_ms = self.swap_ms.saturating_add(self.restore_ms);
        Some(Upgrade {
            build_ms: self.build_ms,
            other_ms: self.took_ms.saturating_sub(self.build_ms).saturating_sub(swap_ms),
            swap_ms,
            away_ms: swap.away_ms?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHT: &str = include_str!("../../../fixtures/documented-night/report.json");

    #[test]
    fn the_documented_night_has_one_handover() {
        let mut measured = Measured::default();
        measured.add(NIGHT).expect("the fixture is a report");
        let measured = measured.finish().expect("it tells of a handover");
        assert_eq!(measured.upgrades.len(), 1);
        assert_eq!(measured.rates, Rates::default());
        let upgrade = measured.upgrades[0];
        assert!(
            upgrade.build_ms > 0 && upgrade.swap_ms > 0 && upgrade.away_ms > 0 && upgrade.other_ms > 0,
            "{upgrade:?}"
        );
    }

    #[test]
    fn rates_are_of_nights_that_have_tried() {
        let night = |level: &str, kind: &str| {
            format!(
                r#"{{"verdict":{{"level":"{level}"}},"handovers":[{{"from":"2026-01-01T00:00:00Z","took_ms":900,"build_ms":100,
                "install_ms":5,"swap_ms":200,"restore_ms":300}}],"swaps":[{{"kind":"{kind}","from":"2026-01-01T00:00:00.5Z",
                "away_ms":400}}]}}"#
            )
        };
        let idle = r#"{"verdict":{"level":"done"},"handovers":[],"swaps":[]}"#;
        let nights = [night("ready", "upgrade"), night("rolled_back", "rolled_back"), idle.to_owned()];
        let text = format!(r#"{{"schema":1,"nights":[{}]}}"#, nights.join(","));
        let mut measured = Measured::default();
        measured.add(&text).expect("it is a report");
        let measured = measured.finish().expect("it tells of handovers");
        let upgrade = Upgrade { build_ms: 100, other_ms: 300, swap_ms: 500, away_ms: 400 };
        assert_eq!(measured.upgrades, [upgrade; 2]);
        assert_eq!(measured.back_away_ms, [400]);
        assert_eq!(measured.rates, Rates { back: 0.5, dark: 0.0 });
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for (text, reason) in [
            ("{}", "it is no report"),
            (r#"{"schema":2,"nights":[]}"#, "schema 2"),
            (r#"{"schema":1,"nights":[]}"#, "no report tells of a handover"),
        ] {
            let mut measured = Measured::default();
            let error =
                measured.add(text).and_then(|()| measured.finish().map(drop)).expect_err("it is refused");
            assert!(format!("{error:#}").contains(reason), "{error:#}");
        }
    }
}
