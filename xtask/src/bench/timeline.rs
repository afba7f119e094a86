//! The timeline of a restore, as a picture: one row for each VF, one bar for each of its phases, from the journal.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use lab_guest::journal_names::{
    EVENT, INDEX, KIND, PF, PHASE, PHASE_BEGAN, PHASE_ENDED, RESTORE, RESTORE_SRIOV, STAGE, STAGE_BEGAN,
    STAGE_ENDED, STAGES, UPTIME, VF, VF_ARRIVED, VF_BOUND, VF_DONE,
};
use serde_json::Value;

/// A phase: its meaning and its colour.
const PHASES: [(&str, &str); 6] = [
    ("PF: VFs created, unprobed", "#7f8fa6"),
    ("PF: attributes of its VFs", "#b8a04a"),
    ("waits for its bind and its driver's probe", "#c0563f"),
    ("waits for netdev and udev", "#4a7fb8"),
    ("own settings", "#4f9a5b"),
    ("PF: end", "#9b6fb0"),
];

const LEFT: f64 = 190.0;
const WIDTH: f64 = 900.0;
const ROW: f64 = 13.0;
const TOP: f64 = 62.0;

/// One VF's row.
#[derive(Debug, PartialEq)]
struct Row {
    label: String,
    /// Phase, begin and end in milliseconds since the restore began.
    bars: Vec<(usize, u64, u64)>,
}

/// The picture of the last restore in a journal.
pub(super) fn svg(journal: &str) -> anyhow::Result<String> {
    let events: Vec<Value> = journal
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("no journal event: {line}")))
        .collect::<anyhow::Result<_>>()?;
    let (rows, end) = rows(&events)?;
    draw(&rows, end).context("cannot write the picture")
}

fn rows(events: &[Value]) -> anyhow::Result<(Vec<Row>, u64)> {
    let is_phase = |event: &Value, kind: &str| {
        event.get(KIND).is_some_and(|found| found == kind)
            && event.get(PHASE).is_some_and(|phase| phase == RESTORE_SRIOV)
    };
    let first = events.iter().rposition(|event| is_phase(event, PHASE_BEGAN));
    let events = events.get(first.context("the journal has no restore")?..).unwrap_or_default();
    let last = events.iter().position(|event| is_phase(event, PHASE_ENDED));
    let events = events.get(..=last.context("the restore has no end")?).unwrap_or_default();
    let begin = events.first().map_or(Ok(0), uptime)?;
    let end = events.last().map_or(Ok(0), uptime)? - begin;

    // Times of what happened, by PF and stage, and by VF.
    let mut stages: BTreeMap<(String, String, &str), u64> = BTreeMap::new();
    let mut vfs: BTreeMap<(String, u64), BTreeMap<&str, u64>> = BTreeMap::new();
    for event in events {
        let Some(restore) = event.get(RESTORE) else { continue };
        let at = uptime(event)? - begin;
        let kind = restore.get(EVENT).and_then(Value::as_str).unwrap_or_default();
        match kind {
            STAGE_BEGAN | STAGE_ENDED => {
                let word = |key| restore.get(key).map(plain).unwrap_or_default();
                stages.insert((word(PF), word(STAGE), kind), at);
            }
            VF_BOUND | VF_ARRIVED | VF_DONE => {
                let vf = restore.pointer(VF).with_context(|| format!("{kind} without its VF"))?;
                let pf = vf.get(PF).map(plain).unwrap_or_default();
                let index = vf.get(INDEX).and_then(Value::as_u64).context("a VF without its index")?;
                vfs.entry((pf, index)).or_default().insert(kind, at);
            }
            _ => {}
        }
    }
    ensure!(!vfs.is_empty(), "the restore had nothing to do with VFs");
    let rows = vfs.iter().map(|((pf, index), times)| {
        let stage = |stage: &str, kind| stages.get(&(pf.clone(), stage.to_owned(), kind)).copied();
        let time = |event: &str| times.get(event).copied();
        let spans = [
            (stage(STAGES.prepare, STAGE_BEGAN), stage(STAGES.prepare, STAGE_ENDED)),
            (stage(STAGES.admin, STAGE_BEGAN), stage(STAGES.admin, STAGE_ENDED)),
            (stage(STAGES.vfs, STAGE_BEGAN), time(VF_BOUND)),
            (time(VF_BOUND).or(stage(STAGES.vfs, STAGE_BEGAN)), time(VF_ARRIVED)),
            (time(VF_ARRIVED), time(VF_DONE)),
            (stage(STAGES.finish, STAGE_BEGAN), stage(STAGES.finish, STAGE_ENDED)),
        ];
        let bars = spans.into_iter().enumerate();
        let bars = bars.filter_map(|(phase, (from, to))| Some((phase, from?, to?)));
        Row { label: format!("{pf} VF {index}"), bars: bars.filter(|(_, from, to)| to >= from).collect() }
    });
    Ok((rows.collect(), end))
}

fn uptime(event: &Value) -> anyhow::Result<u64> {
    event.get(UPTIME).and_then(Value::as_u64).context("an event without its time")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn draw(rows: &[Row], end: u64) -> Result<String, std::fmt::Error> {
    let height = TOP + ROW * u32::try_from(rows.len()).map_or(0.0, f64::from) + 30.0;
    let width = LEFT + WIDTH + 20.0;
    let end = milliseconds(end).max(1.0);
    let x = |time: f64| LEFT + WIDTH * time / end;
    let mut svg = String::new();
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"10\">"
    )?;
    writeln!(svg, "<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>")?;
    writeln!(
        svg,
        "<text x=\"10\" y=\"18\" font-size=\"14\" fill=\"#222222\">Restore of {} VFs: {:.2} s</text>",
        rows.len(),
        end / 1000.0
    )?;
    for (phase, (meaning, colour)) in (0_u32..).zip(PHASES) {
        let left = 10.0 + f64::from(phase) * (width - 20.0) / 6.0;
        writeln!(svg, "<rect x=\"{left:.1}\" y=\"29\" width=\"9\" height=\"9\" fill=\"{colour}\"/>")?;
        writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"37\" font-size=\"8\" fill=\"#222222\">{meaning}</text>",
            left + 12.0
        )?;
    }
    let bottom = height - 26.0;
    for tick in 0..=10_u32 {
        let time = end * f64::from(tick) / 10.0;
        writeln!(
            svg,
            "<line x1=\"{0:.1}\" y1=\"{1}\" x2=\"{0:.1}\" y2=\"{bottom}\" stroke=\"#dddddd\"/>\
             <text x=\"{0:.1}\" y=\"{2}\" text-anchor=\"middle\" fill=\"#555555\">{3:.1} s</text>",
            x(time),
            TOP - 6.0,
            bottom + 12.0,
            time / 1000.0
        )?;
    }
    for (number, row) in (0_u32..).zip(rows) {
        let top = TOP + ROW * f64::from(number);
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#222222\">{}</text>",
            LEFT - 8.0,
            top + ROW - 4.0,
            row.label
        )?;
        for (phase, from, to) in &row.bars {
            let Some((meaning, colour)) = PHASES.get(*phase) else { continue };
            let (from, to) = (milliseconds(*from), milliseconds(*to));
            writeln!(
                svg,
                "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\">\
                 <title>{}: {meaning}, {:.0} ms</title></rect>",
                x(from),
                (WIDTH * (to - from) / end).max(0.5),
                ROW - 3.0,
                row.label,
                to - from
            )?;
        }
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// A restore is shorter than the 49 days that fit.
fn milliseconds(time: u64) -> f64 {
    u32::try_from(time).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> String {
        let vf = r#""part":{"vf":{"pf":"0000:01:00.0","index":0,"address":"0000:01:10.0"}}"#;
        let stage = |at, event, stage| {
            format!(
                r#"{{"uptime_ms":{at},"kind":"restore","restore":{{"event":"{event}","pf":"0000:01:00.0","stage":"{stage}"}}}}"#
            )
        };
        let of_vf = |at, event| {
            format!(r#"{{"uptime_ms":{at},"kind":"restore","restore":{{"event":"{event}",{vf}}}}}"#)
        };
        let phase = |at, kind| format!(r#"{{"uptime_ms":{at},"kind":"{kind}","phase":"restore-sriov"}}"#);
        [
            phase(100, "phase_began"),
            phase(200, "phase_ended"),
            phase(1000, "phase_began"),
            stage(1010, "stage_began", "prepare"),
            stage(1110, "stage_ended", "prepare"),
            stage(1120, "stage_began", "vfs"),
            of_vf(1200, "vf_bound"),
            of_vf(1300, "vf_arrived"),
            of_vf(1350, "vf_done"),
            stage(1360, "stage_ended", "vfs"),
            phase(1400, "phase_ended"),
        ]
        .join("\n")
    }

    #[test]
    fn the_last_restore_becomes_rows_and_bars() {
        let events: Vec<Value> = journal().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (rows, end) = rows(&events).unwrap();
        assert_eq!(end, 400);
        let bars = vec![(0, 10, 110), (2, 120, 200), (3, 200, 300), (4, 300, 350)];
        assert_eq!(rows, [Row { label: "0000:01:00.0 VF 0".to_owned(), bars }]);
    }

    #[test]
    fn the_picture_has_a_bar_for_each_phase() {
        let svg = svg(&journal()).unwrap();
        assert_eq!(svg.matches("<title>").count(), 4);
        assert!(svg.contains("Restore of 1 VFs: 0.40 s"), "{svg}");
        super::svg("{}\n").unwrap_err();
    }
}
