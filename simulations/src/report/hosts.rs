//! The third drawing: each host as a row, what it was and how many replicas it ran.

use super::svg::{Axis, Drawing, LEFT};
use crate::history::{History, HostRow, State};
use crate::time::At;

/// More hosts than this share rows.
const MOST_ROWS: usize = 60;

/// The colour of a state, by the name of its class.
pub(super) fn class(state: State) -> &'static str {
    match state {
        State::Up => "s-up",
        State::Absent => "s-absent",
        State::Off => "s-off",
        State::Frozen => "s-frozen",
        State::NoShoal => "s-noshoal",
        State::NoEngine => "s-noengine",
        State::Slow => "s-slow",
        State::CutOff => "s-cut",
    }
}

/// Neighbouring hosts as one row: the worst that any of them is, and the sum of their replicas.
fn merged(rows: &[HostRow]) -> HostRow {
    if let [one] = rows {
        return one.clone();
    }
    let mut moments: Vec<At> =
        rows.iter().flat_map(|row| row.states.iter().map(|(at, _)| *at)).collect();
    moments.extend(rows.iter().flat_map(|row| row.replicas.iter().map(|(at, _)| *at)));
    moments.sort();
    moments.dedup();
    let mut merged = HostRow {
        name: format!("{} ... ({})", rows[0].name, rows.len()),
        zone: rows[0].zone.clone(),
        ..HostRow::default()
    };
    for at in moments {
        let worst = rows.iter().filter_map(|row| value(&row.states, at)).max().unwrap_or(State::Up);
        let sum: u64 = rows.iter().filter_map(|row| value(&row.replicas, at)).sum();
        if merged.states.last().is_none_or(|(_, last)| *last != worst) {
            merged.states.push((at, worst));
        }
        if merged.replicas.last().is_none_or(|(_, last)| *last != sum) {
            merged.replicas.push((at, sum));
        }
    }
    merged
}

fn value<T: Copy>(changes: &[(At, T)], at: At) -> Option<T> {
    let after = changes.partition_point(|(changed, _)| *changed <= at);
    after.checked_sub(1).map(|n| changes[n].1)
}

/// So many hosts share a row.
pub(super) fn share(hosts: usize) -> usize {
    hosts.div_ceil(MOST_ROWS).max(1)
}

pub(super) fn rows(history: &History, axis: &Axis) -> String {
    let rows: Vec<HostRow> = history.hosts.chunks(share(history.hosts.len())).map(merged).collect();
    let high = (720.0 / rows.len().max(1) as f64).clamp(11.0, 26.0);
    let most = rows.iter().flat_map(|row| row.replicas.iter().map(|(_, n)| *n)).max().unwrap_or(0);
    let bottom = 4.0 + high * rows.len() as f64;
    let mut drawing = Drawing::new(bottom + 20.0, "hosts over time");
    for (n, row) in rows.iter().enumerate() {
        let y = 4.0 + high * n as f64;
        let ends = row.states.iter().skip(1).map(|(at, _)| *at).chain([axis.to]);
        for ((at, state), end) in row.states.iter().zip(ends) {
            if end >= axis.from {
                let (x, until) = (axis.x(*at), axis.x(end));
                let title = format!("{}: {}", row.name, state.name());
                drawing.rect(x, y, until - x, high - 2.0, class(*state), &title);
            }
        }
        // Replicas grow from the row's floor.
        let floor = y + high - 2.0;
        let points: Vec<(f64, f64)> = row
            .replicas
            .iter()
            .chain(row.replicas.last().map(|(_, n)| (axis.to, *n)).as_ref())
            .map(|(at, n)| (axis.x(*at), floor - *n as f64 / most.max(1) as f64 * (high - 4.0)))
            .collect();
        drawing.steps(&points, Some(floor), "load");
        let name: String = row.name.chars().take(16).collect();
        drawing.text(LEFT - 8.0, y + high / 2.0 + 3.0, "end", "name", &name);
    }
    drawing.grid(axis, bottom, true);
    drawing.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_share_a_row_show_the_worst_and_the_sum() {
        let row = |states: &[(u64, State)], replicas: &[(u64, u64)]| HostRow {
            name: "h".to_owned(),
            zone: String::new(),
            states: states.iter().map(|(at, state)| (At(*at), *state)).collect(),
            replicas: replicas.iter().map(|(at, n)| (At(*at), *n)).collect(),
        };
        let one = row(&[(0, State::Up), (5, State::Off), (9, State::Up)], &[(0, 2), (5, 0)]);
        let two = row(&[(0, State::Up)], &[(0, 3), (6, 5)]);
        let both = merged(&[one, two]);
        assert_eq!(both.states, [(At(0), State::Up), (At(5), State::Off), (At(9), State::Up)]);
        assert_eq!(both.replicas, [(At(0), 5), (At(5), 3), (At(6), 5)]);
        assert_eq!((share(60), share(61), share(600)), (1, 2, 10));
    }
}
