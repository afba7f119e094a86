//! What is told of a swap and of its restores.

use std::collections::BTreeMap;

use super::block::{Block, Cell, Row, Tone, folded, heading, table};
use super::picture;
use crate::report::times::{clock, duration, when};
use crate::report::{ModuleIdentity, Night, Restore, SettingOutcome, Swap, SwapKind, VfReport, VfTimes};

/// What is told of a swap.
pub(super) fn swap_blocks(blocks: &mut Vec<Block>, night: &Night, number: usize, swap: &Swap) {
    let driver = |module: &Option<ModuleIdentity>| {
        module.as_ref().map_or_else(|| "not told".to_owned(), ModuleIdentity::version_text)
    };
    let module = swap.after.as_ref().or(swap.before.as_ref());
    let module = module.map(|module| format!(" of {}", module.module)).unwrap_or_default();
    let (kind, before, after) = (swap.kind.noun(), driver(&swap.before), driver(&swap.after));
    blocks.push(heading(2, format!("Swap {number}: {kind}{module}, {before} to {after}")));
    let away = match swap.away_ms {
        Some(away) => format!("The NICs were away from {} for {}.", when(swap.from), duration(away)),
        None => {
            format!("The NICs were away from {}, and have not been verified to be back.", when(swap.from))
        }
    };
    let note = match swap.kind {
        SwapKind::RolledBack => " The driver that came did not come up; the one before was loaded again.",
        _ => "",
    };
    blocks.push(Block::Text(format!("{away}{note}")));
    blocks.extend(picture::of_swap(night, swap).map(Block::Picture));
    let columns = ["PF", "netdev", "VFs", "critical window", "driver gone", "netdev back", "away"];
    let rows = swap.pfs.iter().map(|pf| {
        [
            pf.pf.clone().into(),
            Cell::or_dash(pf.netdev.as_deref()),
            Cell::number(pf.vfs.map_or_else(|| "-".to_owned(), |vfs| vfs.to_string())),
            took(pf.critical_ms),
            clock(pf.from).into(),
            Cell::after(pf.netdev_back_ms),
            took(pf.away_ms),
        ]
    });
    // An earlier version did not tell which PFs they were.
    if !swap.pfs.is_empty() {
        blocks.push(table(columns, rows));
    }
    if number == 1 {
        blocks.push(Block::Note(
            "Critical window: from the removal of the VFs until the PF's own restore had ended. Away: from when its \
             driver went until it was read back and verified.",
        ));
    }
    if !swap.addresses.is_empty() {
        let rows = swap.addresses.iter().map(|one| {
            [
                Cell::from(one.address.clone()),
                one.link.clone().into(),
                one.pf.clone().into(),
                clock(one.from).into(),
                took(one.away_ms),
            ]
        });
        blocks.push(table(["address", "on", "of PF", "from (UTC)", "away"], rows));
    }
    let of_swap = night.restores.iter().filter(|restore| restore.swap == Some(number));
    of_swap.for_each(|restore| restore_blocks(blocks, restore, &swap.vfs));
}

/// How long something took that may not have ended.
fn took(milliseconds: Option<u64>) -> Cell {
    milliseconds.map_or_else(|| Cell::toned("not back", Tone::Bad), Cell::took)
}

/// How many of each there are, with the word for one and for several.
fn listed(counts: &[(usize, &str, &str)]) -> String {
    let some = counts.iter().filter(|(count, ..)| *count > 0);
    let told: Vec<String> = some
        .map(|(count, one, several)| format!("{count} {}", if *count == 1 { one } else { several }))
        .collect();
    if told.is_empty() { "nothing".to_owned() } else { told.join(", ") }
}

/// What came of a restore; `times` are those of its VFs, from the swap's beginning.
pub(super) fn restore_blocks(blocks: &mut Vec<Block>, restore: &Restore, times: &[VfTimes]) {
    let vfs = restore.vfs.len();
    let verified = restore.verified_vfs();
    blocks.push(heading(
        3,
        format!("Restore, read back at {}: {verified} of {vfs} VFs verified", when(restore.at)),
    ));
    blocks.push(Block::Text(format!(
        "Given back: {}. Not as before: {}.",
        listed(&[
            (restore.steps, "change of PFs and VFs", "changes of PFs and VFs"),
            (restore.settings_given_back.len(), "setting of netdevs", "settings of netdevs"),
            (restore.network_given_back.len(), "part of what stood on them", "parts of what stood on them"),
        ]),
        match (restore.settings.len(), restore.wrong_settings()) {
            (0, _) => "nothing".to_owned(),
            (all, 0) => format!("{}, none of them wrong", listed(&[(all, "setting", "settings")])),
            (all, wrong) => format!("{}, {wrong} of them WRONG", listed(&[(all, "setting", "settings")])),
        },
    )));
    vf_blocks(blocks, &restore.vfs, times);
    if !restore.settings.is_empty() {
        blocks.push(table(
            ["not as before", "setting", "was", "is", "meaning"],
            restore.settings.iter().map(setting),
        ));
    }
    if !restore.failures.is_empty() {
        let rows = restore.failures.iter().map(|failed| {
            let cause = Cell::toned(failed.cause.clone(), Tone::Bad);
            [Cell::from(failed.of.clone()), failed.step.clone().into(), cause]
        });
        blocks.push(table(["could not be done", "step", "cause"], rows));
    }
    if !restore.left_to.is_empty() {
        let rows = restore.left_to.iter().map(|left| {
            let how = if left.did_all {
                Cell::toned("all is back", Tone::Good)
            } else {
                Cell::toned("not all is back", Tone::Bad)
            };
            [Cell::from(left.link.clone()), left.manager.clone().into(), how]
        });
        blocks.push(table(["left to a manager", "manager", "how"], rows));
    }
    let settings = restore.settings_given_back.iter().map(|line| ["netdev".into(), Cell::from(line.clone())]);
    let network = restore.network_given_back.iter().map(|line| ["on top".into(), Cell::from(line.clone())]);
    let count = restore.settings_given_back.len() + restore.network_given_back.len();
    if count > 0 {
        let fold = format!("Each of {count} settings and parts that were given back");
        blocks.push(folded(fold, ["of", "what"], settings.chain(network)));
    }
}

fn vf_blocks(blocks: &mut Vec<Block>, vfs: &[VfReport], times: &[VfTimes]) {
    if vfs.is_empty() {
        return;
    }
    let mut pfs: Vec<&str> = vfs.iter().map(|vf| vf.pf.as_str()).collect();
    pfs.sort_unstable();
    pfs.dedup();
    let rows = pfs.into_iter().map(|pf| {
        let of_pf = || vfs.iter().filter(|vf| vf.pf == pf);
        let count = |is: fn(&&VfReport) -> bool| of_pf().filter(is).count();
        let (all, verified) = (of_pf().count(), count(|vf| vf.verified));
        let slowest = of_pf().max_by_key(|vf| vf.waited_ms);
        let slowest = slowest.and_then(|vf| Some(format!("{} (VF {})", duration(vf.waited_ms?), vf.index)));
        let tone = if verified == all { Tone::Good } else { Tone::Bad };
        [
            pf.into(),
            Cell::toned(format!("{verified} of {all}"), tone),
            Cell::number(count(|vf| vf.first_seen_as.is_some()).to_string()),
            Cell::number(count(|vf| vf.retried).to_string()),
            Cell::or_dash(slowest.as_deref()),
        ]
    });
    blocks.push(table(["VFs of PF", "verified", "renamed by udev", "bound twice", "slowest netdev"], rows));
    let wrong: Vec<&VfReport> = vfs.iter().filter(|vf| !vf.verified || vf.retried).collect();
    let columns = ["VF", "address", "name", "first seen as", "bound", "netdev", "done", "steps", "result"];
    if !wrong.is_empty() {
        blocks.push(table(columns, vf_rows(wrong, times)));
    }
    let fold = format!("Each of {} VFs", vfs.len());
    blocks.push(folded(fold, columns, vf_rows(vfs, times)));
}

/// VFs by their PF.
fn vf_rows<'a>(vfs: impl IntoIterator<Item = &'a VfReport>, times: &[VfTimes]) -> Vec<Row> {
    let times: BTreeMap<(&str, u32), &VfTimes> =
        times.iter().map(|times| ((times.pf.as_str(), times.index), times)).collect();
    let mut rows: Vec<Row> = Vec::new();
    let mut of_pf = None;
    for one in vfs {
        if of_pf != Some(&one.pf) {
            rows.push(Row::Group(format!("VFs of {}", one.pf)));
            of_pf = Some(&one.pf);
        }
        rows.push(vf(one, times.get(&(one.pf.as_str(), one.index)).copied()).into());
    }
    rows
}

fn vf(vf: &VfReport, times: Option<&VfTimes>) -> [Cell; 9] {
    let result = match (vf.verified, vf.retried) {
        (true, false) => Cell::toned("verified", Tone::Good),
        (true, true) => Cell::toned("verified, bound twice", Tone::Odd),
        (false, _) => Cell::toned("WRONG", Tone::Bad),
    };
    [
        Cell::number(vf.index.to_string()),
        Cell::or_dash(vf.address.as_deref()),
        Cell::or_dash(vf.name.as_deref()),
        Cell::or_dash(vf.first_seen_as.as_deref()),
        Cell::after(times.and_then(|times| times.bound_ms)),
        Cell::after(times.and_then(|times| times.arrived_ms)),
        Cell::after(times.and_then(|times| times.done_ms)),
        Cell::number(vf.steps.to_string()),
        result,
    ]
}

fn setting(setting: &SettingOutcome) -> [Cell; 5] {
    let meaning = match setting.gravity.as_str() {
        "unsupported" => Cell::toned("the driver has no such setting", Tone::Odd),
        "stated" => Cell::toned("cannot be equal, no fault", Tone::Plain),
        "not_saved" => Cell::toned("could not be read before", Tone::Odd),
        _ => Cell::toned("WRONG", Tone::Bad),
    };
    [
        setting.of.clone().into(),
        setting.setting.clone().into(),
        Cell::or_dash(setting.saved.as_deref()),
        setting.found.clone().into(),
        meaning,
    ]
}
