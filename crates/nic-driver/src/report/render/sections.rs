//! What is told, in which order: blocks that each form of a report writes in its own way.

use super::block::{Block, Cell, Row, Tone, heading, table};
use super::picture;
use super::swap_sections::{restore_blocks, swap_blocks};
use crate::report::times::{clock, day, duration, signed_duration, when};
use crate::report::{
    Blocked, Checkpoint, Comparison, Ended, Handover, Level, Night, Report, TimelineRow, Verdict,
};

/// A report's blocks.
pub(super) fn of_report(report: &Report) -> Vec<Block> {
    let Some(Verdict { level, text, next }) = report.verdict.clone() else {
        return vec![Block::Text("The journal is empty: nothing has happened yet.".to_owned())];
    };
    let mut blocks = vec![Block::Verdict { level, text, next }];
    if report.nights.len() > 1 {
        let rows = report.nights.iter().map(|night| {
            let how = Cell::toned(night.verdict.level.word(), tone_of(night.verdict.level));
            let number = Cell::number(night.number.to_string());
            [
                number,
                when(night.from).into(),
                Cell::took(night.took_ms),
                how,
                night.verdict.text.clone().into(),
            ]
        });
        blocks.push(table(["night", "from", "took", "ended", "how"], rows));
    }
    for night in &report.nights {
        night_blocks(&mut blocks, night, report.nights.len() > 1);
    }
    blocks
}

fn tone_of(level: Level) -> Tone {
    match level {
        Level::Ready | Level::Done => Tone::Good,
        Level::Blocked | Level::RolledBack | Level::NotOver => Tone::Odd,
        Level::Failed | Level::Degraded => Tone::Bad,
    }
}

/// The blocks of two nights side by side.
pub(super) fn of_comparison(comparison: &Comparison) -> Vec<Block> {
    let [one, other] = comparison.nights;
    let rows = comparison.rows.iter().map(|row| {
        let tone = match row.difference_ms {
            Some(1..) => Tone::Odd,
            Some(_) => Tone::Good,
            None if row.one != row.other => Tone::Odd,
            None => Tone::Plain,
        };
        let difference = match row.difference_ms {
            Some(milliseconds) => signed_duration(milliseconds),
            None => (if row.one == row.other { "equal" } else { "differs" }).to_owned(),
        };
        let side = |text: &Option<String>| Cell::from(text.clone().unwrap_or_else(|| "-".to_owned()));
        let difference = Cell { is_number: row.difference_ms.is_some(), ..Cell::toned(difference, tone) };
        [Cell::from(row.what.clone()), side(&row.one), side(&row.other), difference]
    });
    vec![
        heading(1, format!("Nights {one} and {other}, side by side")),
        table(["", "the one", "the other", "difference"], rows),
    ]
}

fn night_blocks(blocks: &mut Vec<Block>, night: &Night, is_one_of_several: bool) {
    blocks.push(heading(1, format!("Night {}: {} to {}", night.number, when(night.from), when(night.until))));
    if is_one_of_several {
        let Verdict { level, text, next } = night.verdict.clone();
        blocks.push(Block::Verdict { level, text, next });
    }
    blocks.push(Block::Facts(facts(night)));
    blocks.extend(picture::of_night(night).map(Block::Picture));
    phase_blocks(blocks, night);
    if !night.blocked.is_empty() {
        blocks.push(heading(2, "In the way"));
        blocks.push(table(["from (UTC)", "for", "seen", "what"], night.blocked.iter().map(blocked)));
    }
    for (position, swap) in night.swaps.iter().enumerate() {
        swap_blocks(blocks, night, position + 1, swap);
    }
    let alone = night.restores.iter().filter(|restore| restore.swap.is_none() && !restore.is_quiet());
    alone.for_each(|restore| restore_blocks(blocks, restore, &[]));
    checkpoint_blocks(blocks, &night.checkpoints);
    if !night.handovers.is_empty() {
        blocks.push(heading(2, "From one driver container's request to stop to readiness under the next"));
        let columns = ["from (UTC)", "took", "build", "install", "swap", "restore", "the rest"];
        blocks.push(table(columns, night.handovers.iter().map(handover)));
    }
    step_blocks(blocks, night);
    if !night.unknown.is_empty() {
        blocks.push(heading(2, "Lines of another version, which this one cannot read"));
        let rows = night.unknown.iter().map(|line| {
            let writer = line.writer.clone().unwrap_or_else(|| "not told".to_owned());
            [Cell::from(when(line.at)), line.kind.clone().into(), writer.into()]
        });
        blocks.push(table(["time", "kind", "version"], rows));
    }
}

fn facts(night: &Night) -> Vec<(&'static str, String)> {
    let node = &night.node;
    let told = |text: &Option<String>| text.clone().unwrap_or_else(|| "not told".to_owned());
    let list = |names: &[String]| if names.is_empty() { "not told".to_owned() } else { names.join(", ") };
    let mut facts = vec![
        ("host", told(&node.host)),
        ("kernel", told(&node.kernel)),
        ("boot", node.boot_id.clone()),
        ("NIC family", list(&node.families)),
        ("nic-driver", list(&node.versions)),
        ("took", duration(night.took_ms)),
    ];
    if night.lost_lines > 0 {
        facts.push((
            "journal",
            format!("{} lines could not be written, and are missing here", night.lost_lines),
        ));
    }
    facts
}

fn blocked(blocked: &Blocked) -> [Cell; 4] {
    let took = match blocked.until {
        Some(_) => Cell::took(blocked.took_ms),
        None => Cell::number(format!("{} and still there", duration(blocked.took_ms))),
    };
    let times = if blocked.times == 1 { "once".to_owned() } else { format!("{} times", blocked.times) };
    let what = Cell::toned(blocked.what.clone(), Tone::Odd);
    [format!("{} {}", day(blocked.from), clock(blocked.from)).into(), took, times.into(), what]
}

fn checkpoint_blocks(blocks: &mut Vec<Block>, checkpoints: &[Checkpoint]) {
    let mut rows: Vec<Row> = Vec::new();
    let mut told: Option<&Checkpoint> = None;
    for checkpoint in checkpoints {
        // A reload that was not due has two, which are as the one before them.
        if told
            .is_some_and(|told| told.modules == checkpoint.modules && checkpoint.moment == checkpoint.label)
        {
            continue;
        }
        rows.push(Row::Group(format!(
            "{} {} {}",
            day(checkpoint.at),
            clock(checkpoint.at),
            checkpoint.moment
        )));
        for module in &checkpoint.modules {
            let cells: [Cell; 3] = [
                format!("  {}", module.module).into(),
                module.version_text().into(),
                module.identity_text().into(),
            ];
            rows.push(cells.into());
        }
        told = Some(checkpoint);
    }
    if !rows.is_empty() {
        blocks.push(heading(2, "Checkpoints: which modules were loaded"));
        blocks.push(table(["time (UTC), moment, module", "version", "srcversion, else build-id"], rows));
    }
}

fn handover(handover: &Handover) -> [Cell; 7] {
    [
        format!("{} {}", day(handover.from), clock(handover.from)).into(),
        Cell::took(handover.took_ms),
        Cell::took(handover.build_ms),
        Cell::took(handover.install_ms),
        Cell::took(handover.swap_ms),
        Cell::took(handover.restore_ms),
        Cell::took(handover.rest_ms()),
    ]
}

fn phase_blocks(blocks: &mut Vec<Block>, night: &Night) {
    let phases = night.timeline.iter().filter(|row| row.step.is_none());
    let rows = phases.map(|row| {
        let exit = match (&row.exit, &row.exit_name) {
            (Some(code), Some(name)) => format!("{code} {name}"),
            (Some(code), None) => code.to_string(),
            (None, _) => "-".to_owned(),
        };
        let at = format!("{} {}", day(row.at), clock(row.at));
        [at.into(), row.phase.clone().into(), took_of(row), exit.into(), outcome(row)]
    });
    blocks.push(heading(2, "Phases"));
    blocks.push(table(["time (UTC)", "phase", "took", "exit", "outcome"], rows));
}

fn step_blocks(blocks: &mut Vec<Block>, night: &Night) {
    let mut today = String::new();
    let mut rows: Vec<Row> = Vec::new();
    for row in &night.timeline {
        let of_day = day(row.at);
        if of_day != today {
            rows.push(Row::Group(format!("{of_day} UTC")));
            today = of_day;
        }
        let what = match &row.step {
            None => row.phase.clone(),
            Some(step) if row.stage.is_some() => format!("    {step}"),
            Some(step) => format!("  {step}"),
        };
        rows.push([clock(row.at).into(), what.into(), took_of(row), outcome(row)].into());
    }
    blocks.push(heading(2, "Steps"));
    blocks.push(table(["time (UTC)", "phase or step", "took", "outcome"], rows));
}

fn took_of(row: &TimelineRow) -> Cell {
    row.took_ms.map_or_else(|| Cell::number("-"), Cell::took)
}

fn outcome(row: &TimelineRow) -> Cell {
    match row.ended {
        Ended::Ok => Cell::from(row.outcome.clone()),
        Ended::Failed => Cell::toned(format!("FAILED: {}", row.outcome), Tone::Bad),
        Ended::Blocked => Cell::toned(format!("BLOCKED: {}", row.outcome), Tone::Odd),
        Ended::CutOff | Ended::NotOver => Cell::toned(row.outcome.clone(), Tone::Odd),
    }
}
