//! A picture of samples: one panel for each figure, one above the other, over the same time.

use std::fmt::Write;

const WIDTH: f64 = 900.0;
const PANEL: f64 = 180.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 25.0;

/// A figure over time.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// Seconds since the start, and the figure.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Draws panels; `marks` are vertical lines, in seconds since the start.
pub(crate) fn svg(panels: &[Panel], marks: &[f64]) -> String {
    let height = panels.len() as f64 * PANEL;
    let end = panels.iter().flat_map(|panel| &panel.points).map(|(at, _)| *at).fold(1.0, f64::max);
    let x = |at: f64| LEFT + at / end * (WIDTH - LEFT - RIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, panel) in panels.iter().enumerate() {
        let (top, bottom) = (index as f64 * PANEL + TOP, (index + 1) as f64 * PANEL - BOTTOM);
        let most = panel.points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let most = if most > 0.0 { most * 1.1 } else { 1.0 };
        let y = |value: f64| bottom - value / most * (bottom - top);
        // Writing to a `String` does not fail.
        let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{}</text>", top - 8.0, panel.title);
        for mark in marks {
            let at = x(*mark);
            let _ = writeln!(out, "<path d=\"M{at:.1} {top:.1}V{bottom:.1}\" stroke=\"#eee\"/>");
        }
        let right = WIDTH - RIGHT;
        let _ = writeln!(out, "<path d=\"M{LEFT} {top:.1}V{bottom:.1}H{right}\" fill=\"none\" stroke=\"black\"/>");
        for value in [0.0, most / 2.0, most] {
            let (at, text) = (y(value), label(value));
            let _ = writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", LEFT - 6.0, at + 4.0);
        }
        for quarter in 0..=4 {
            let at = end * f64::from(quarter) / 4.0;
            let (place, under) = (x(at), bottom + 14.0);
            let _ = writeln!(out, "<text x=\"{place:.1}\" y=\"{under:.1}\" text-anchor=\"middle\">{at:.0} s</text>");
        }
        let points: Vec<String> =
            panel.points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
        let points = points.join(" ");
        let _ = writeln!(out, "<polyline points=\"{points}\" fill=\"none\" stroke=\"#1668b8\" stroke-width=\"1.5\"/>");
    }
    out.push_str("</svg>\n");
    out
}

fn label(value: f64) -> String {
    if value >= 100.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_lies_between_the_axes() {
        let panel = |points: &[(f64, f64)]| Panel { title: "x".into(), points: points.to_vec() };
        let drawn = svg(&[panel(&[(0.0, 0.0), (50.0, 7.0), (100.0, 3.0)]), panel(&[])], &[50.0]);
        let line = drawn.lines().find(|line| line.starts_with("<polyline")).unwrap();
        let points = line.split('"').nth(1).unwrap();
        let points: Vec<(f64, f64)> = points
            .split(' ')
            .map(|point| point.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap())
            .collect();
        assert_eq!(points.len(), 3);
        assert!(points.iter().all(|(x, y)| (LEFT..=WIDTH - RIGHT).contains(x) && (TOP..=PANEL - BOTTOM).contains(y)));
        assert!(points[1].1 < points[2].1 && points[2].1 < points[0].1);
    }
}
