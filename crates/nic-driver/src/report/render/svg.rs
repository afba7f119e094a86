//! A picture as SVG within a page of HTML, whose style is the page's.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use super::escaped::Escaped;
use super::picture::{Lane, Look, Picture};

/// Where lanes begin, and how wide they are.
const LEFT: u64 = 200;
const WIDTH: u64 = 780;
/// The height of the axis, of a lane, and of one of many.
const AXIS: usize = 26;
const LANE: usize = 22;
const NARROW_LANE: usize = 12;
/// About how many times the axis names.
const TICKS: u64 = 8;

pub(super) fn write(page: &mut String, picture: &Picture) {
    page.push_str("<figure>");
    drawing(page, picture, &picture.title, &picture.lanes, LANE);
    legend(page, picture);
    if let Some((name, lanes)) = &picture.folded {
        let _ = write!(page, "<details><summary>{}</summary>", Escaped(name));
        drawing(page, picture, name, lanes, NARROW_LANE);
        page.push_str("</details>");
    }
    page.push_str("</figure>\n");
}

fn drawing(page: &mut String, picture: &Picture, title: &str, lanes: &[Lane], lane_height: usize) {
    let height = AXIS + lanes.len() * lane_height + 4;
    let _ = write!(
        page,
        "<svg viewBox=\"0 0 {} {height}\" role=\"img\" aria-label=\"{}\" class=\"{}\">",
        LEFT + WIDTH + 20,
        Escaped(title),
        if lane_height == LANE { "lanes" } else { "lanes narrow" },
    );
    for (at, label) in ticks(picture) {
        let x = x(picture, at);
        let _ = write!(
            page,
            "<line class=\"tick\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{AXIS}\" y2=\"{height}\"/><text class=\"axis\" x=\"{x:.1}\" y=\"{}\">{label}</text>",
            AXIS - 8
        );
    }
    for (number, lane) in lanes.iter().enumerate() {
        let y = AXIS + number * lane_height;
        let _ = write!(
            page,
            "<g><line class=\"floor\" x1=\"0\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/><text class=\"lane\" x=\"{}\" y=\"{}\">{}<title>{}</title></text>",
            LEFT + WIDTH,
            LEFT - 8,
            y + lane_height * 7 / 10,
            Escaped(&shortened(&lane.name)),
            Escaped(&lane.name),
        );
        for bar in &lane.bars {
            let from = x(picture, bar.from_ms);
            let width = (x(picture, bar.from_ms + bar.length_ms) - from).max(1.5);
            let inset = if bar.look == Look::Away { lane_height / 4 } else { lane_height / 8 };
            let _ = write!(
                page,
                "<rect class=\"{}\" x=\"{from:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"{}\"><title>{}</title></rect>",
                bar.look.class(),
                y + inset,
                lane_height - 2 * inset,
                Escaped(&bar.title),
            );
        }
        for (at, title) in &lane.marks {
            let x = x(picture, *at);
            let _ = write!(
                page,
                "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{}\"><title>{}</title></line>",
                y + 3,
                y + lane_height - 3,
                Escaped(title),
            );
        }
        page.push_str("</g>");
    }
    page.push_str("</svg>");
}

/// What the looks mean that are in the picture.
fn legend(page: &mut String, picture: &Picture) {
    page.push_str("<figcaption>");
    for (look, class, meaning) in Look::ALL {
        if picture.lanes.iter().any(|lane| lane.bars.iter().any(|bar| bar.look == look)) {
            let _ = write!(page, "<span><i class=\"{class}\"></i>{meaning}</span> ");
        }
    }
    page.push_str("Times are UTC. Point at a bar for more.</figcaption>");
}

#[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
fn x(picture: &Picture, at_ms: u64) -> f64 {
    let at = at_ms.min(picture.length_ms) as f64;
    LEFT as f64 + at / picture.length_ms.max(1) as f64 * WIDTH as f64
}

/// Round times within the picture, and how the axis names them.
fn ticks(picture: &Picture) -> Vec<(u64, String)> {
    const ROUND: [u64; 18] = [
        10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
        3_600_000, 7_200_000, 21_600_000,
    ];
    let step = ROUND.into_iter().find(|step| picture.length_ms / step <= TICKS).unwrap_or(86_400_000);
    let began = u64::try_from(picture.from.as_millisecond()).unwrap_or(0);
    let first = began.next_multiple_of(step) - began;
    let form = if step < 1000 { "%H:%M:%S%.3f" } else { "%H:%M:%S" };
    let label = |at: u64| {
        let after = SignedDuration::from_millis(i64::try_from(at).unwrap_or(0));
        picture.from.checked_add(after).unwrap_or(Timestamp::UNIX_EPOCH).strftime(form).to_string()
    };
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    (first..picture.length_ms).step_by(step).map(|at| (at, label(at))).collect()
}

/// What the room beside a lane takes.
fn shortened(name: &str) -> String {
    const LONGEST: usize = 30;
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    name.chars().take(LONGEST - 1).chain(['…']).collect()
}
