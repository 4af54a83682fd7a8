//! The report of a run: one page that needs nothing else, with everything that happened on one time axis,
//! the figures, the checks, and the line that replays it.
//!
//! There is no script in it, and nothing is fetched from elsewhere: it can be mailed, archived, and opened
//! in ten years.

mod checks;
mod fidelity;
mod hosts;
mod peers;
mod replicas;
mod svg;

use std::fmt::Write as _;

use crate::checks::Violation;
use crate::figures::{Figures, Sheet, rows, seconds};
use crate::history::{History, MarkKind, State};
use crate::time::At;

use self::svg::{Axis, clock, escaped};

/// What a report is made of.
#[derive(Debug)]
pub struct Material<'a> {
    pub title: &'a str,
    /// What it shows, and what to look at; may be empty.
    pub about: &'a str,
    pub look_at: &'a str,
    pub sheet: &'a Sheet,
    pub figures: &'a Figures,
    pub violations: &'a [Violation],
    pub history: &'a History,
    /// When the timeline began.
    pub origin: At,
    /// How long an engine of this run takes for a start, least and most.
    pub start_ms: (u64, u64),
    /// Gossip was modelled, and not chitchat's own.
    pub modelled: bool,
    /// The line that replays the run.
    pub replay: &'a str,
}

const STYLE: &str = include_str!("style.css");
/// More of these are not listed one by one.
const LISTED: usize = 120;

/// So few samples that a drawing stays small: each run of neighbours becomes one.
fn thinned<T, U>(samples: &[T], most: usize, one: impl Fn(&[T]) -> U) -> Vec<U> {
    samples.chunks(samples.len().div_ceil(most).max(1)).map(one).collect()
}

/// The page.
pub fn html(material: &Material<'_>) -> String {
    let history = material.history;
    let from = peers::shown_from(material.origin);
    let to = history.samples.last().map_or(material.origin, |sample| sample.at);
    let axis = Axis { from, to, origin: material.origin };
    let shown = History {
        samples: history.samples.iter().filter(|s| s.at >= from).copied().collect(),
        hosts: history.hosts.clone(),
    };
    let drawn = Material { history: &shown, ..*material };
    let mut page = head(material);
    page.push_str("<section><h2>Replicas</h2>\n");
    page.push_str(LEGEND);
    page.push_str(&replicas::served(&shown, material.figures, &axis));
    page.push_str(&replicas::actions(&drawn, &axis));
    page.push_str("</section>\n<section><h2>Hosts</h2>\n");
    page.push_str(&states(&shown));
    page.push_str(&hosts::rows(&shown, &axis));
    page.push_str("</section>\n");
    page.push_str(&happenings(material, &axis));
    page.push_str(&figures(material.sheet));
    page.push_str(&checked(material));
    page.push_str(&peers::section(material));
    page.push_str(&fidelity::section(material.modelled));
    let _ = write!(
        page,
        "<section><h2>Again</h2>\n<p>The same program with the same seed does the same thing, to the last byte of the trace.</p>\n<pre>{}</pre>\n<pre>seed {} trace {} violations {}</pre></section>\n</main></body></html>\n",
        escaped(material.replay),
        material.sheet.seed,
        escaped(&material.sheet.trace),
        material.sheet.violations
    );
    page
}

const LEGEND: &str = "<p class=\"legend\"><i class=\"k-wanted\"></i>wanted <i class=\"k-served\"></i>served <i class=\"k-doubled\"></i>served twice <i class=\"k-band\"></i>a fault lasts <i class=\"k-command\"></i>a command <i class=\"k-heal\"></i>healed; the numbers are those of the list below</p>\n";

fn head(material: &Material<'_>) -> String {
    let sheet = material.sheet;
    let verdict = match sheet.violations {
        0 => "<span class=\"good\">every check held</span>".to_owned(),
        1 => "<span class=\"bad\">1 violation</span>".to_owned(),
        n => format!("<span class=\"bad\">{n} violations</span>"),
    };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{STYLE}</style></head>\n<body><main>\n<header><p class=\"over\">shoal simulation <b>{name}</b> seed {seed} {verdict}</p>\n<h1>{title}</h1>\n",
        title = escaped(material.title),
        name = escaped(&sheet.what),
        seed = sheet.seed,
    );
    if !material.about.is_empty() {
        let _ = writeln!(page, "<p>{}</p>", escaped(material.about));
    }
    if !material.look_at.is_empty() {
        let _ = writeln!(page, "<p><b>Look at:</b> {}</p>", escaped(material.look_at));
    }
    let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), seconds);
    let cards = [
        ("a loss is noticed", time(sheet.first_detected.max_ms), "at the latest"),
        ("all slots served again", time(sheet.recovered.max_ms), "longest outage"),
        (
            "replicas ready",
            format!("{}%", sheet.running.least_per_mille / 10),
            "of the wanted, at least",
        ),
        (
            "starts",
            format!("{} / {}", sheet.moves.all(), sheet.moves.least()),
            "made / least possible",
        ),
        ("false verdicts", sheet.false_verdicts.to_string(), "about hosts that were well"),
        (
            "on the wire",
            format!(
                "{:.0} B/s",
                sheet.wire.get("all").map_or(0.0, |all| all.bytes_per_node_second)
            ),
            "per node",
        ),
    ];
    page.push_str("<div class=\"cards\">");
    for (name, value, what) in cards {
        let _ = write!(
            page,
            "<div><small>{name}</small><strong>{value}</strong><small>{what}</small></div>"
        );
    }
    page.push_str("</div></header>\n");
    page
}

fn states(history: &History) -> String {
    let shown: Vec<String> = State::ALL
        .into_iter()
        .filter(|state| history.hosts.iter().any(|row| row.states.iter().any(|(_, s)| s == state)))
        .map(|state| format!("<i class=\"{}\"></i>{}", hosts::class(state), state.name()))
        .collect();
    let share = hosts::share(history.hosts.len());
    let merged = if share > 1 {
        format!("; {share} hosts share a row, which shows the worst state and the sum of replicas")
    } else {
        String::new()
    };
    format!(
        "<p class=\"legend\">{} <i class=\"k-load\"></i>replicas{merged}</p>\n",
        shown.join(" ")
    )
}

fn happenings(material: &Material<'_>, axis: &Axis) -> String {
    let marks = &material.figures.marks;
    if marks.is_empty() {
        return String::new();
    }
    let mut page = "<section><h2>What was done</h2>\n<div class=\"wide\"><table><thead><tr><th>no.</th><th>at</th><th>until</th><th>what</th></tr></thead><tbody>\n".to_owned();
    for (n, mark) in marks.iter().take(LISTED).enumerate() {
        let kind = match mark.kind {
            MarkKind::Fault => "fault",
            MarkKind::Command => "command",
            MarkKind::Heal => "heal",
            MarkKind::Note => "note",
        };
        let until = mark.until.map(|until| clock(axis.seconds(until))).unwrap_or_default();
        let _ = writeln!(
            page,
            "<tr class=\"m-{kind}\"><td>{}</td><td>{}</td><td>{until}</td><td>{}</td></tr>",
            n + 1,
            clock(axis.seconds(mark.at)),
            escaped(&mark.text)
        );
    }
    page.push_str("</tbody></table></div>\n");
    if marks.len() > LISTED {
        let _ = writeln!(page, "<p>and {} more.</p>", marks.len() - LISTED);
    }
    page.push_str("</section>\n");
    page
}

fn figures(sheet: &Sheet) -> String {
    let mut page =
        "<section><h2>Figures</h2>\n<div class=\"wide\"><table class=\"figures\"><tbody>\n"
            .to_owned();
    for (name, value) in rows(sheet) {
        let _ = writeln!(page, "<tr><th>{}</th><td>{}</td></tr>", escaped(&name), escaped(&value));
    }
    page.push_str("</tbody></table></div></section>\n");
    page
}

fn checked(material: &Material<'_>) -> String {
    let mut page = "<section><h2>Checks</h2>\n<p>Safety after every step, what is bounded in time once a second, the rest after everything was healed.</p>\n<ul class=\"checks\">\n".to_owned();
    for (name, what, found) in checks::tallied(material.violations) {
        let (class, mark) = if found == 0 { ("good", "held") } else { ("bad", "violated") };
        let times = if found > 1 { format!(" {found} times") } else { String::new() };
        let _ = writeln!(
            page,
            "<li><span class=\"{class}\">{mark}{times}</span> <b>{}</b> {}</li>",
            escaped(&name),
            escaped(what)
        );
    }
    page.push_str("</ul>\n");
    if !material.violations.is_empty() {
        page.push_str("<ol class=\"violations\">\n");
        for violation in material.violations.iter().take(LISTED) {
            let _ = writeln!(page, "<li>{}</li>", escaped(&violation.to_string()));
        }
        page.push_str("</ol>\n");
    }
    page.push_str("</section>\n");
    page
}

#[cfg(test)]
mod tests;
