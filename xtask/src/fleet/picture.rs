//! An upgrade as a picture: how many nodes are upgraded, cordoned and without NICs, over time.

use super::outcome::as_f64;
use super::play::{Fate, Played, edges};

const WIDTH: u32 = 960;
/// Where each chart begins, from above, and how high it is.
const CHARTS: [(u32, u32); 3] = [(60, 150), (270, 110), (440, 110)];
const LEFT: u32 = 80;
const RIGHT: u32 = 40;
const HEIGHT: u32 = 600;

/// A number of nodes that changes: moments, and by how much.
struct Line<'a> {
    title: &'a str,
    class: &'a str,
    steps: Vec<(u64, i64)>,
}

pub(super) fn svg(played: &Played) -> String {
    let until = played.nodes.iter().map(|node| node.cordoned.to).max().unwrap_or(1).max(1);
    let upgraded = played.nodes.iter().filter(|node| node.fate == Fate::Upgraded);
    let lines = [
        Line {
            title: "nodes upgraded",
            class: "done",
            steps: upgraded.map(|node| (node.cordoned.to, 1)).collect(),
        },
        Line {
            title: "nodes cordoned",
            class: "cordoned",
            steps: edges(played.nodes.iter().map(|node| node.cordoned)),
        },
        Line {
            title: "nodes without NICs",
            class: "away",
            steps: edges(played.nodes.iter().filter_map(|node| node.away)),
        },
    ];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>An upgrade of a fleet</title>\n<style>\n\
         svg {{ background: #fff; fill: #222 }} .axis {{ stroke: #999; fill: none }} .done {{ fill: #2a7 }} .cordoned {{ fill: #c90 }} \
         .away {{ fill: #c33 }}\n\
         @media (prefers-color-scheme: dark) {{ svg {{ background: #161616; fill: #ddd }} .axis {{ stroke: #666 }} }}\n\
         </style>\n<text x=\"{LEFT}\" y=\"26\" font-size=\"17\">{} nodes in {}</text>\n",
        played.nodes.len(),
        hours_and_minutes(until),
    );
    for (line, (top, height)) in lines.into_iter().zip(CHARTS) {
        svg.push_str(&chart(line, until, top, height));
    }
    let base = HEIGHT - 26;
    for tick in 0..=6_u64 {
        let at = until * tick / 6;
        let x = x_of(at, until);
        svg.push_str(&format!(
            "<text x=\"{x:.1}\" y=\"{base}\" text-anchor=\"middle\">{}</text>\n",
            hours_and_minutes(at)
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

/// One number over time, as an area of steps. Of what happens within one pixel, the most is drawn.
fn chart(mut line: Line<'_>, until: u64, top: u32, height: u32) -> String {
    line.steps.sort_unstable();
    let pixels = usize::try_from(WIDTH - LEFT - RIGHT).unwrap_or(1);
    let mut highest = vec![0_i64; pixels + 1];
    let (mut now, mut most, mut next) = (0_i64, 1_i64, 0);
    for (pixel, here) in highest.iter_mut().enumerate() {
        *here = now;
        let pixel = u64::try_from(pixel + 1).unwrap_or(u64::MAX);
        let end = u128::from(until) * u128::from(pixel) / u128::from(u64::try_from(pixels).unwrap_or(1));
        while let Some((_, step)) = line.steps.get(next).filter(|(at, _)| u128::from(*at) < end) {
            now += step;
            *here = (*here).max(now);
            next += 1;
        }
        most = most.max(*here);
    }
    let bottom = top + height;
    let mut path = format!("M{LEFT} {bottom}");
    for (pixel, here) in highest.iter().enumerate() {
        let share =
            as_f64(u64::try_from(*here).unwrap_or_default()) / as_f64(u64::try_from(most).unwrap_or(1));
        let y = f64::from(bottom) - share * f64::from(height);
        let x = pixel + usize::try_from(LEFT).unwrap_or_default();
        path.push_str(&format!("L{x} {y:.1}"));
    }
    let right = WIDTH - RIGHT;
    path.push_str(&format!("L{right} {bottom}Z"));
    format!(
        "<text x=\"{LEFT}\" y=\"{}\">{}</text>\n<path class=\"{}\" d=\"{path}\"/>\n\
         <path class=\"axis\" d=\"M{LEFT} {top}V{bottom}H{right}\"/>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{most}</text>\n<text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">0</text>\n",
        top - 8,
        line.title,
        line.class,
        LEFT - 8,
        top + 12,
        LEFT - 8,
    )
}

fn x_of(at: u64, until: u64) -> f64 {
    f64::from(LEFT) + as_f64(at) / as_f64(until) * f64::from(WIDTH - LEFT - RIGHT)
}

fn hours_and_minutes(ms: u64) -> String {
    let minutes = ms / super::MINUTE_MS;
    format!("{}:{:02} h", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_within_a_pixel_is_drawn() {
        let steps = vec![(0, 1), (1, 1), (2, -2), (500_000, 1), (1_000_000, -1)];
        let drawn = chart(Line { title: "nodes", class: "away", steps }, 1_000_000, 100, 100);
        // The two of the first moments are the highest, the later one half as high.
        assert!(drawn.contains("M80 200L80 100.0L81 200.0"), "{drawn}");
        assert!(drawn.contains("L500 150.0"), "{drawn}");
        assert!(drawn.contains("text-anchor=\"end\">2</text>"), "{drawn}");
    }

    #[test]
    fn times_are_hours_and_minutes() {
        assert_eq!(hours_and_minutes(3 * 3_600_000 + 5 * 60_000), "3:05 h");
    }
}
