//! What a membership run measured, for people.

use std::fmt::Write as _;

use super::{NO_FALSE_VERDICT_UP_TO, PerClass, Report, Spread};

/// The reports side by side, and what the figures are.
pub fn table(reports: &[Report]) -> String {
    let mut out = String::new();
    let Some(first) = reports.first() else { return out };
    let _ = writeln!(
        out,
        "{} nodes, lan pace, seed {}, {} virtual seconds each; times are virtual: median / worst",
        first.nodes, first.seed, first.virtual_seconds
    );
    let mut row = |name: &str, cell: &dyn Fn(&Report) -> String| {
        let _ = write!(out, "{name:<44}");
        for report in reports {
            let _ = write!(out, "{:>20}", cell(report));
        }
        out.push('\n');
    };
    row("messages lost", &|r| format!("{}%", r.loss_percent));
    row("start to all in all views", &|r| r.joined_ms.map_or_else(|| "never".to_owned(), seconds));
    row("news known by all (push, chitchat)", &|r| show(r.convergence));
    row("  reached by the pushes", &|r| {
        format!("{}.{}%", r.pushed_per_mille / 10, r.pushed_per_mille % 10)
    });
    row("news known by all, chitchat alone", &|r| show(r.convergence_chitchat));
    row("crash to down at the first", &|r| show(r.detected_first));
    row("crash to down at the middle one", &|r| show(r.detected_median));
    row("crash to down at the last", &|r| show(r.detected_last));
    row("crashes not agreed on", &|r| r.undetected.to_string());
    row("idle bytes/s sent by a node", &|r| r.bytes_per_node_second.sum().to_string());
    for (name, of) in CLASSES {
        row(&format!("  {name}"), &|r| of(&r.bytes_per_node_second).to_string());
    }
    row("idle messages/s sent by a node", &|r| r.messages_per_node_second.sum().to_string());
    row("false verdicts", &|r| r.false_verdicts.to_string());
    row("living nodes called unstable for a while", &|r| r.doubts.to_string());
    row("wall ms for a virtual second", &|r| r.wall_ms_per_virtual_second.to_string());
    let _ = write!(out, "{NOTES}");
    for report in reports.iter().filter(|report| report.is_failure()) {
        let _ = write!(
            out,
            "\nFAILED: {} false verdicts at {}% loss; up to {NO_FALSE_VERDICT_UP_TO}% none is allowed",
            report.false_verdicts, report.loss_percent
        );
    }
    out
}

type Class = (&'static str, fn(&PerClass) -> u64);

const CLASSES: [Class; 4] = [
    ("probes", |c| c.probes),
    ("pushed facts", |c| c.facts),
    ("records", |c| c.records),
    ("chitchat", |c| c.chitchat),
];

const NOTES: &str = "\
Loss strikes each message by itself and nothing is sent again; the product's QUIC repeats what is larger than
a packet. Bytes are those of the messages with their frame tag and signatures: QUIC's, UDP's and IP's own are
not counted. chitchat draws from the operating system's randomness, so figures vary a little between runs.";

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}

fn show(spread: Option<Spread>) -> String {
    spread.map_or_else(
        || "never".to_owned(),
        |s| format!("{} / {}", seconds(s.median_ms), seconds(s.worst_ms)),
    )
}
