//! Pictures as data: lanes with bars and marks, over a time. What they look like is [`super::svg`]'s.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::report::times::{clock, duration};
use crate::report::{Ended, Night, Swap, TimelineRow, VfTimes};

/// On how many VFs of a PF each is marked in the PF's lane.
const MOST_MARKS: usize = 32;

/// Lanes over a time.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) title: String,
    pub(super) from: Timestamp,
    pub(super) length_ms: u64,
    pub(super) lanes: Vec<Lane>,
    /// Lanes that are looked at when something is to be known of each.
    pub(super) folded: Option<(String, Vec<Lane>)>,
}

/// A lane.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) bars: Vec<Bar>,
    /// Moments, in milliseconds from the picture's beginning.
    pub(super) marks: Vec<(u64, String)>,
}

/// Something that lasted.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) from_ms: u64,
    pub(super) length_ms: u64,
    pub(super) look: Look,
    /// What is told of it where somebody points at it.
    pub(super) title: String,
}

/// How something looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Work,
    Step,
    Away,
    Window,
    Back,
    Bad,
    Open,
    Waiting,
}

impl Look {
    /// The name of its style, and what it means.
    pub(super) const ALL: [(Self, &'static str, &'static str); 8] = [
        (Self::Work, "work", "phase"),
        (Self::Step, "step", "step"),
        (Self::Window, "window", "critical window"),
        (Self::Away, "away", "away"),
        (Self::Back, "back", "coming back"),
        (Self::Bad, "bad", "failed or cut off"),
        (Self::Open, "open", "no end yet"),
        (Self::Waiting, "waiting", "blocked"),
    ];

    pub(super) fn class(self) -> &'static str {
        Self::ALL.iter().find(|(look, ..)| *look == self).map_or("work", |(_, class, _)| class)
    }
}

fn ms(from: Timestamp, at: Timestamp) -> u64 {
    u64::try_from(at.duration_since(from).as_millis()).unwrap_or(0)
}

/// A whole night: phases, the NICs, what was in the way. `None` where nothing took any time.
pub(super) fn of_night(night: &Night) -> Option<Picture> {
    let length_ms = night.took_ms;
    if length_ms == 0 {
        return None;
    }
    let mut lanes: Vec<Lane> = Vec::new();
    for row in night.timeline.iter().filter(|row| row.step.is_none()) {
        let bar = of_row(night.from, length_ms, row, Look::Work);
        add(&mut lanes, &row.phase, bar);
    }
    for swap in &night.swaps {
        let from_ms = ms(night.from, swap.from);
        let length_ms = swap.away_ms.unwrap_or_else(|| length_ms.saturating_sub(from_ms));
        let title = format!("NICs away from {} for {}", clock(swap.from), ended(swap.away_ms));
        add(&mut lanes, "NICs", Bar { from_ms, length_ms, look: Look::Away, title });
    }
    for blocked in &night.blocked {
        let title = format!(
            "in the way from {} for {}: {}",
            clock(blocked.from),
            duration(blocked.took_ms),
            blocked.what
        );
        let (from_ms, length_ms) = (ms(night.from, blocked.from), blocked.took_ms);
        add(&mut lanes, "in the way", Bar { from_ms, length_ms, look: Look::Waiting, title });
    }
    Some(Picture {
        title: format!("Night {}", night.number),
        from: night.from,
        length_ms,
        lanes,
        folded: None,
    })
}

/// A swap alone: its steps, PFs, VFs and addresses, from its beginning to when the last is back.
pub(super) fn of_swap(night: &Night, swap: &Swap) -> Option<Picture> {
    let until_back = |from: Timestamp, away: Option<u64>| ms(swap.from, from) + away.unwrap_or(0);
    let pfs = swap.pfs.iter().map(|pf| until_back(pf.from, pf.away_ms));
    let addresses = swap.addresses.iter().map(|one| until_back(one.from, one.away_ms));
    let vfs = swap.vfs.iter().filter_map(|vf| vf.done_ms.or(vf.arrived_ms).or(vf.bound_ms));
    let longest = pfs.chain(addresses).chain(vfs).chain(swap.away_ms).max().filter(|longest| *longest > 0)?;
    let length_ms = longest + longest / 20;
    let mut lanes: Vec<Lane> = Vec::new();
    let in_time = |row: &&TimelineRow| row.at >= swap.from && ms(swap.from, row.at) <= longest;
    for row in night.timeline.iter().filter(in_time) {
        let Some(step) = &row.step else { continue };
        let lane = match &row.stage {
            Some(stage) => format!("{} stages", stage.pf),
            None => format!("{} steps", row.phase),
        };
        let look = if step.starts_with("load ") || row.stage.is_some() { Look::Back } else { Look::Step };
        add(&mut lanes, &lane, of_row(swap.from, length_ms, row, look));
    }
    for pf in &swap.pfs {
        let lane = format!("PF {}", pf.pf);
        let window = pf.critical_ms.unwrap_or(length_ms);
        let title = format!("PF {}: critical window of {}", pf.pf, ended(pf.critical_ms));
        add(
            &mut lanes,
            &lane,
            Bar { from_ms: ms(swap.from, pf.critical_from), length_ms: window, look: Look::Window, title },
        );
        let from_ms = ms(swap.from, pf.from);
        let back = pf
            .netdev_back_ms
            .map_or_else(String::new, |back| format!(", netdev back after {}", duration(back)));
        let title = format!("PF {}: away from {} for {}{back}", pf.pf, clock(pf.from), ended(pf.away_ms));
        let away = pf.away_ms.unwrap_or_else(|| length_ms.saturating_sub(from_ms));
        add(&mut lanes, &lane, Bar { from_ms, length_ms: away, look: Look::Away, title });
    }
    for one in &swap.addresses {
        let from_ms = ms(swap.from, one.from);
        let title = format!(
            "{} on {}: away from {} for {}",
            one.address,
            one.link,
            clock(one.from),
            ended(one.away_ms)
        );
        let away = one.away_ms.unwrap_or_else(|| length_ms.saturating_sub(from_ms));
        add(&mut lanes, &one.address, Bar { from_ms, length_ms: away, look: Look::Away, title });
    }
    let folded = vf_lanes(&mut lanes, &swap.vfs, length_ms);
    Some(Picture {
        title: format!("Swap from {}", clock(swap.from)),
        from: swap.from,
        length_ms,
        lanes,
        folded,
    })
}

/// One lane for a PF's VFs; a lane of its own for each that has failed; and one for each, which is folded.
fn vf_lanes(lanes: &mut Vec<Lane>, vfs: &[VfTimes], length_ms: u64) -> Option<(String, Vec<Lane>)> {
    let mut of_pf: BTreeMap<&str, Vec<&VfTimes>> = BTreeMap::new();
    for vf in vfs {
        of_pf.entry(&vf.pf).or_default().push(vf);
    }
    for (pf, vfs) in of_pf {
        let first = vfs
            .iter()
            .filter_map(|vf| vf.bound_ms.or(vf.arrived_ms).or(vf.done_ms))
            .min()
            .unwrap_or(length_ms);
        let last = vfs.iter().filter_map(|vf| vf.done_ms).max().unwrap_or(length_ms);
        let failed = vfs.iter().filter(|vf| vf.failure.is_some()).count();
        let title = format!(
            "{} VFs of {pf}: first bound at +{}, last configured at +{}, {failed} failed",
            vfs.len(),
            duration(first),
            duration(last)
        );
        let away = Bar { from_ms: 0, length_ms: first, look: Look::Away, title: title.clone() };
        let back = Bar { from_ms: first, length_ms: last.saturating_sub(first), look: Look::Back, title };
        let done = |vf: &&VfTimes| {
            Some((vf.done_ms?, format!("VF {} configured at +{}", vf.index, duration(vf.done_ms?))))
        };
        // More than that are a black bar.
        let marks = if vfs.len() <= MOST_MARKS { vfs.iter().filter_map(done).collect() } else { Vec::new() };
        lanes.push(Lane { name: format!("{} VFs of {pf}", vfs.len()), bars: vec![away, back], marks });
        lanes.extend(vfs.iter().filter(|vf| vf.failure.is_some()).map(|vf| vf_lane(vf, length_ms)));
    }
    let each = vfs.iter().map(|vf| vf_lane(vf, length_ms)).collect();
    (!vfs.is_empty()).then(|| (format!("Each of {} VFs", vfs.len()), each))
}

fn vf_lane(vf: &VfTimes, length_ms: u64) -> Lane {
    let bound = vf.bound_ms.or(vf.arrived_ms).or(vf.done_ms).unwrap_or(length_ms);
    let done = vf.done_ms.unwrap_or(length_ms);
    let how = match &vf.failure {
        Some(failure) => format!("failed: {failure}"),
        None => format!("bound at +{}, configured at +{}", duration(bound), duration(done)),
    };
    let title = format!("VF {} of {}: {how}", vf.index, vf.pf);
    let look = if vf.failure.is_some() { Look::Bad } else { Look::Back };
    let away = Bar { from_ms: 0, length_ms: bound, look: Look::Away, title: title.clone() };
    let back = Bar { from_ms: bound, length_ms: done.saturating_sub(bound), look, title };
    Lane { name: format!("VF {} of {}", vf.index, vf.pf), bars: vec![away, back], marks: Vec::new() }
}

fn of_row(from: Timestamp, length_ms: u64, row: &TimelineRow, look: Look) -> Bar {
    let from_ms = ms(from, row.at);
    let left = length_ms.saturating_sub(from_ms);
    let look = match row.ended {
        Ended::Ok => look,
        Ended::Failed | Ended::CutOff => Look::Bad,
        Ended::Blocked => Look::Waiting,
        Ended::NotOver => Look::Open,
    };
    let what = row.step.as_ref().unwrap_or(&row.phase);
    let title = format!("{what}: from {}, {}: {}", clock(row.at), ended(row.took_ms), row.outcome);
    Bar { from_ms, length_ms: row.took_ms.unwrap_or(left).min(left), look, title }
}

fn ended(milliseconds: Option<u64>) -> String {
    milliseconds.map_or_else(|| "no end in the journal".to_owned(), duration)
}

fn add(lanes: &mut Vec<Lane>, name: &str, bar: Bar) {
    match lanes.iter_mut().find(|lane| lane.name == name) {
        Some(lane) => lane.bars.push(bar),
        None => lanes.push(Lane { name: name.to_owned(), bars: vec![bar], marks: Vec::new() }),
    }
}
