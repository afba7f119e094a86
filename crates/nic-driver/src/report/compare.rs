//! Two nights side by side.

use schemars::JsonSchema;
use serde::Serialize;

use super::night::Night;
use super::swaps::Swap;
use super::times::{duration, when};

/// Two nights side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Comparison {
    /// The version of this form.
    pub schema: u32,
    /// The numbers of the two.
    pub nights: [usize; 2],
    /// What is compared, in order.
    pub rows: Vec<ComparisonRow>,
}

/// One thing that is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ComparisonRow {
    /// What it is.
    pub what: String,
    /// In the first night; `None` where there is no such thing in it.
    pub one: Option<String>,
    /// In the second night.
    pub other: Option<String>,
    /// What the second takes more than the first, in milliseconds, where both are durations; negative where it takes less.
    pub difference_ms: Option<i64>,
}

impl Comparison {
    pub(super) fn of(one: &Night, other: &Night) -> Self {
        let mut rows = vec![
            text("began", Some(when(one.from)), Some(when(other.from))),
            text("ended", Some(ended(one)), Some(ended(other))),
            text("driver before", driver(one, true), driver(other, true)),
            text("driver after", driver(one, false), driver(other, false)),
            time("all of it", Some(one.took_ms), Some(other.took_ms)),
        ];
        for phase in both(phases(one), phases(other)) {
            rows.push(time(&phase, phase_ms(one, &phase), phase_ms(other, &phase)));
        }
        rows.push(time("in the way", blocked_ms(one), blocked_ms(other)));
        let swaps = one.swaps.len().max(other.swaps.len());
        for number in 0..swaps {
            let (in_one, in_other) = (one.swaps.get(number), other.swaps.get(number));
            let which = if swaps == 1 { String::new() } else { format!("swap {}: ", number + 1) };
            let mut row = |what: &str, of: &dyn Fn(&Swap) -> Option<u64>| {
                rows.push(time(&format!("{which}{what}"), in_one.and_then(of), in_other.and_then(of)));
            };
            row("NICs away", &|swap| swap.away_ms);
            for pf in both(pfs(in_one), pfs(in_other)) {
                let of_pf = |swap: &Swap| swap.pfs.iter().find(|away| away.pf == pf).cloned();
                row(&format!("PF {pf} away"), &|swap| of_pf(swap)?.away_ms);
                row(&format!("PF {pf} critical window"), &|swap| of_pf(swap)?.critical_ms);
            }
            for address in both(addresses(in_one), addresses(in_other)) {
                row(&format!("{address} away"), &|swap| {
                    swap.addresses.iter().find(|away| away.address == address)?.away_ms
                });
            }
        }
        rows.push(text("VFs verified", vfs(one), vfs(other)));
        rows.push(text("settings that are wrong", wrong(one), wrong(other)));
        rows.retain(|row| row.one.is_some() || row.other.is_some());
        Self { schema: super::SCHEMA, nights: [one.number, other.number], rows }
    }
}

fn text(what: &str, one: Option<String>, other: Option<String>) -> ComparisonRow {
    ComparisonRow { what: what.to_owned(), one, other, difference_ms: None }
}

fn time(what: &str, one: Option<u64>, other: Option<u64>) -> ComparisonRow {
    let signed = |ms: Option<u64>| ms.and_then(|ms| i64::try_from(ms).ok());
    let difference_ms = signed(one).zip(signed(other)).map(|(one, other)| other - one);
    ComparisonRow { what: what.to_owned(), one: one.map(duration), other: other.map(duration), difference_ms }
}

/// What is in one or in both, in the first one's order.
fn both(one: Vec<String>, other: Vec<String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in one.into_iter().chain(other) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// The phases that a container does not go around the others with.
fn phases(night: &Night) -> Vec<String> {
    let rows = night.timeline.iter().filter(|row| row.step.is_none() && row.phase != "run");
    rows.map(|row| row.phase.clone()).collect()
}

fn phase_ms(night: &Night, phase: &str) -> Option<u64> {
    let rows = night.timeline.iter().filter(|row| row.step.is_none() && row.phase == phase);
    let took: Vec<u64> = rows.filter_map(|row| row.took_ms).collect();
    (!took.is_empty()).then(|| took.iter().sum())
}

fn blocked_ms(night: &Night) -> Option<u64> {
    night.blocked.iter().map(|blocked| blocked.took_ms).max()
}

fn pfs(swap: Option<&Swap>) -> Vec<String> {
    swap.map(|swap| swap.pfs.iter().map(|pf| pf.pf.clone()).collect()).unwrap_or_default()
}

fn addresses(swap: Option<&Swap>) -> Vec<String> {
    swap.map(|swap| swap.addresses.iter().map(|one| one.address.clone()).collect()).unwrap_or_default()
}

fn ended(night: &Night) -> String {
    night.verdict.level.word().to_owned()
}

fn driver(night: &Night, before: bool) -> Option<String> {
    let module = if before { &night.swaps.first()?.before } else { &night.swaps.last()?.after };
    module.as_ref().map(|module| format!("{} {}", module.version_text(), module.identity_text()))
}

fn vfs(night: &Night) -> Option<String> {
    let restore = night.restores.last()?;
    Some(format!("{} of {}", restore.verified_vfs(), restore.vfs.len()))
}

fn wrong(night: &Night) -> Option<String> {
    Some(night.restores.last()?.wrong_settings().to_string())
}
