//! The first two drawings: replicas wanted, served and doubled over time, with the faults behind them; and
//! starts, stops and verdicts.

use membership::member::MemberState;

use super::svg::{Axis, Drawing, LEFT};
use super::{Material, thinned};
use crate::figures::Figures;
use crate::history::{History, MarkKind, Sample};
use crate::time::{At, Span};

const TOP: f64 = 22.0;
const TALL: f64 = 190.0;
const BARS: f64 = 64.0;
const LANE: f64 = 16.0;

/// Faults as bands over the whole height, commands and notes as lines, both with their numbers.
fn bands(drawing: &mut Drawing, axis: &Axis, figures: &Figures, bottom: f64) {
    let mut last_label = f64::MIN;
    for (n, mark) in figures.marks.iter().enumerate() {
        let (x, number) = (axis.x(mark.at), (n + 1).to_string());
        let until = mark.until.map(|until| axis.x(until));
        match mark.kind {
            MarkKind::Fault => {
                if let Some(until) = until {
                    drawing.rect(x, TOP, until - x, bottom - TOP, "band", &mark.text);
                }
                drawing.line((x, TOP - 6.0), (x, bottom), "fault");
            }
            MarkKind::Heal => drawing.line((x, TOP - 6.0), (x, bottom), "heal"),
            MarkKind::Command | MarkKind::Note => {
                drawing.line((x, TOP - 6.0), (x, bottom), "command");
            }
        }
        if x > last_label + 14.0 {
            drawing.text(x, TOP - 9.0, "middle", "number", &number);
            last_label = x;
        }
    }
}

/// What each of `columns` pixels shows: the least served and the most doubled of its samples.
fn columns(samples: &[Sample]) -> Vec<Sample> {
    thinned(samples, 1000, |some| Sample {
        at: some[0].at,
        wanted: some.iter().map(|s| s.wanted).max().unwrap_or(0),
        ready: some.iter().map(|s| s.ready).min().unwrap_or(0),
        copies: some.iter().map(|s| s.copies).max().unwrap_or(0),
        ..some[some.len() - 1]
    })
}

pub(super) fn served(history: &History, figures: &Figures, axis: &Axis) -> String {
    let samples = columns(&history.samples);
    let most = samples.iter().map(|s| s.wanted.max(s.ready + s.copies)).max().unwrap_or(0).max(1);
    let bottom = TOP + TALL;
    let y = |value: u64| bottom - value as f64 / (most as f64 * 1.06) * TALL;
    let mut drawing = Drawing::new(bottom + 20.0, "replicas over time");
    drawing.grid(axis, bottom, true);
    for part in [0, most / 2, most] {
        drawing.text(LEFT - 8.0, y(part) + 4.0, "end", "tick", &part.to_string());
        drawing.line((LEFT, y(part)), (axis.x(axis.to), y(part)), "grid");
    }
    let points = |value: &dyn Fn(&Sample) -> u64| -> Vec<(f64, f64)> {
        samples.iter().map(|s| (axis.x(s.at), y(value(s)))).collect()
    };
    drawing.steps(&points(&|s| s.ready + s.copies), Some(bottom), "doubled");
    drawing.steps(&points(&|s| s.ready), Some(bottom), "served");
    bands(&mut drawing, axis, figures, bottom);
    drawing.steps(&points(&|s| s.wanted), None, "wanted");
    drawing.text(12.0, TOP + 10.0, "start", "name", "replicas");
    drawing.end()
}

pub(super) fn actions(material: &Material<'_>, axis: &Axis) -> String {
    let (history, figures) = (material.history, material.figures);
    let middle = 8.0 + BARS / 2.0;
    let mut drawing =
        Drawing::new(8.0 + BARS + 2.0 * LANE + 26.0, "starts, stops and verdicts over time");
    let bottom = 8.0 + BARS + 2.0 * LANE;
    drawing.grid(axis, bottom, true);
    let every: Vec<(At, u64, u64)> = history
        .samples
        .windows(2)
        .map(|pair| (pair[0].at, pair[1].starts - pair[0].starts, pair[1].stops - pair[0].stops))
        .collect();
    let bars = thinned(&every, 400, |some| {
        (some[0].0, some.iter().map(|b| b.1).sum::<u64>(), some.iter().map(|b| b.2).sum::<u64>())
    });
    let from = axis.from;
    let bars: Vec<_> = bars.into_iter().filter(|(at, ..)| *at >= from).collect();
    let most = bars.iter().map(|(_, starts, stops)| *starts.max(stops)).max().unwrap_or(0).max(1);
    let width = (axis.x(axis.to) - LEFT) / bars.len().max(1) as f64;
    for (at, starts, stops) in bars {
        let (x, high) = (axis.x(at), |n: u64| n as f64 / most as f64 * (BARS / 2.0));
        if starts > 0 {
            let title = format!("{starts} starts");
            drawing.rect(x, middle - high(starts), width - 0.4, high(starts), "starts", &title);
        }
        if stops > 0 {
            drawing.rect(x, middle, width - 0.4, high(stops), "stops", &format!("{stops} stops"));
        }
    }
    drawing.line((LEFT, middle), (axis.x(axis.to), middle), "grid");
    drawing.text(12.0, middle - 8.0, "start", "name", "starts");
    drawing.text(12.0, middle + 18.0, "start", "name", "stops");
    drawing.text(LEFT - 8.0, 18.0, "end", "tick", &most.to_string());
    for (lane, (state, class, name)) in [
        (MemberState::Down, "down", "called down"),
        (MemberState::Unstable, "unstable", "unstable"),
    ]
    .into_iter()
    .enumerate()
    {
        let y = 8.0 + BARS + LANE * lane as f64;
        drawing.text(12.0, y + 11.0, "start", "name", name);
        let mut before: Option<(u64, u64)> = None;
        let fell: Vec<At> =
            figures.verdicts.iter().filter(|(.., to)| *to == state).map(|(at, ..)| *at).collect();
        for at in fell {
            // One mark for each pixel's worth, however many nodes said so.
            let slot = axis.x(at) as u64;
            before = match before {
                Some((last, n)) if last == slot => Some((last, n + 1)),
                _ => {
                    drawing.rect(
                        axis.x(at),
                        y + 2.0,
                        1.4,
                        LANE - 5.0,
                        class,
                        &said(axis, at, name),
                    );
                    Some((slot, 1))
                }
            };
        }
    }
    drawing.end()
}

fn said(axis: &Axis, at: At, what: &str) -> String {
    let since = at.since(axis.origin);
    format!("{what} {since} after the beginning", since = Span(since.0))
}
