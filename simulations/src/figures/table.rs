//! The figures as a table for people: what, how much, in what.

use super::{Sheet, Times};

/// Milliseconds as seconds with two digits.
pub fn seconds(ms: u64) -> String {
    format!("{}.{:02} s", ms / 1000, ms % 1000 / 10)
}

fn times(times: &Times) -> String {
    match (times.p50_ms, times.p99_ms, times.max_ms) {
        (Some(p50), Some(p99), Some(max)) => format!(
            "p50 {}, p99 {}, max {} ({})",
            seconds(p50),
            seconds(p99),
            seconds(max),
            times.count
        ),
        _ => "nothing to measure".to_owned(),
    }
}

fn per_mille(share: u64) -> String {
    format!("{}.{}%", share / 10, share % 10)
}

/// Names and values, in the order in which they are read.
pub fn rows(sheet: &Sheet) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    row("hosts, replicas wanted", format!("{}, {}", sheet.hosts, sheet.wanted));
    row("simulated", seconds(sheet.simulated_ms));
    row("loss to first verdict", times(&sheet.first_detected));
    row("loss to each observer's verdict", times(&sheet.detected));
    row("outage to first slot served again", times(&sheet.first_recovered));
    row("outage to all slots served again", times(&sheet.recovered));
    row("each slot not served", times(&sheet.gaps));
    let settled = sheet.settled_ms.map_or_else(|| "not asked for".to_owned(), seconds);
    row("healed to every slot exactly once", settled);
    row(
        "wanted replicas that were ready",
        format!("{} at least", per_mille(sheet.running.least_per_mille)),
    );
    row(
        "gap-seconds, duplicate-seconds",
        format!("{}, {}", sheet.gap_seconds, sheet.duplicate_seconds),
    );
    row("starts, stops", format!("{}, {}", sheet.starts, sheet.stops));
    let moves = sheet.moves;
    row(
        "starts against the least possible",
        format!(
            "{} against {} ({} new, {} lost, {} updated, {} drained; beyond it {} tried again, {} served elsewhere)",
            moves.all(),
            moves.least(),
            moves.created,
            moves.lost,
            moves.updated,
            moves.drained,
            moves.again,
            moves.elsewhere
        ),
    );
    row("false verdicts", sheet.false_verdicts.to_string());
    let balance = sheet.balance;
    row(
        "replicas on a host at the end",
        format!("{} to {} on {} hosts", balance.least, balance.most, balance.hosts),
    );
    row("commands acknowledged, refused", format!("{}, {}", sheet.acknowledged, sheet.refused));
    let faults: Vec<String> = sheet.faults.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
    row("faults", if faults.is_empty() { "none".to_owned() } else { faults.join(", ") });
    for (kind, wire) in &sheet.wire {
        row(
            &format!("sent: {kind}"),
            format!(
                "{:.2} messages, {:.0} bytes per node and second",
                wire.messages_per_node_second, wire.bytes_per_node_second
            ),
        );
    }
    if let Some(pace) = sheet.pace {
        row(
            "speed",
            format!(
                "{} for {}: {:.2} simulated hours per second",
                seconds(pace.real_ms),
                seconds(sheet.simulated_ms),
                pace.hours_per_second
            ),
        );
    }
    rows
}

/// Two columns.
pub fn table(sheet: &Sheet) -> String {
    let rows = rows(sheet);
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> =
        rows.iter().map(|(name, value)| format!("  {name:<width$}  {value}")).collect();
    lines.join("\n")
}
