//! The same outage under other orchestrators' rules, beside what shoal did in this run.

use std::fmt::Write as _;

use super::Material;
use super::svg::{Drawing, LEFT, WIDTH, escaped};
use crate::figures::seconds;
use crate::history::{Mark, MarkKind};
use crate::peers::{Forecast, Outage, Window, forecasts};
use crate::time::At;

/// The largest loss of hosts in the run: crashes and freezes are what the models speak of.
pub(super) fn outage(material: &Material<'_>) -> Option<Outage> {
    let lost = |mark: &&Mark| {
        mark.kind == MarkKind::Fault
            && ["crash", "freeze", "rack-loss", "zone-loss"].contains(&mark.what())
            && mark.hosts.len() < material.history.hosts.len()
            && !mark.hosts.is_empty()
    };
    let mark = material.figures.marks.iter().filter(lost).max_by_key(|mark| mark.hosts.len())?;
    let ran = |host: &crate::links::HostIx| {
        let replicas = &material.history.hosts.get(host.i())?.replicas;
        replicas.iter().rev().find(|(at, _)| *at < mark.at).map(|(_, count)| *count)
    };
    Some(Outage {
        hosts: material.history.hosts.len() as u64,
        lost: mark.hosts.len() as u64,
        replicas: mark.hosts.iter().filter_map(ran).sum(),
        start_ms: material.start_ms,
    })
}

fn window(window: Option<Window>) -> String {
    match window {
        None => "never".to_owned(),
        Some((least, most)) => format!("{} to {}", short(least), short(most)),
    }
}

fn short(ms: u64) -> String {
    if ms < 10_000 { seconds(ms) } else { format!("{} s", (ms + 500) / 1000) }
}

fn bars(material: &Material<'_>, forecasts: &[Forecast]) -> String {
    let most = forecasts.iter().filter_map(|f| f.all_ms).map(|(_, most)| most).max().unwrap_or(0);
    let own = material.sheet.recovered.max_ms.unwrap_or(0);
    let scale = (WIDTH - LEFT - 130.0) / most.max(own).max(1) as f64;
    let x = |ms: u64| LEFT + ms as f64 * scale;
    let mut drawing =
        Drawing::new(30.0 * (forecasts.len() + 1) as f64 + 6.0, "time to full recovery");
    drawing.text(LEFT - 8.0, 19.0, "end", "name", "shoal, this run");
    drawing.rect(x(0), 5.0, own as f64 * scale, 20.0, "own", "shoal");
    drawing.text(x(own) + 8.0, 19.0, "start", "tick", &short(own));
    for (n, forecast) in forecasts.iter().enumerate() {
        let y = 30.0 * (n + 1) as f64 + 5.0;
        drawing.text(LEFT - 8.0, y + 14.0, "end", "name", forecast.name);
        let Some((least, most)) = forecast.all_ms else {
            drawing.text(x(0) + 4.0, y + 14.0, "start", "never", "never");
            continue;
        };
        let (noticed, _) = forecast.noticed_ms.unwrap_or_default();
        drawing.rect(x(0), y, (x(noticed) - x(0)).max(0.0), 20.0, "unnoticed", "not noticed yet");
        drawing.rect(
            x(noticed),
            y,
            x(least) - x(noticed),
            20.0,
            "waiting",
            "noticed, not recovered",
        );
        drawing.rect(x(least), y, x(most) - x(least), 20.0, "maybe", "recovered within this");
        drawing.text(x(most) + 8.0, y + 14.0, "start", "tick", &window(forecast.all_ms));
    }
    drawing.end()
}

pub(super) fn section(material: &Material<'_>) -> String {
    let Some(outage) = outage(material) else { return String::new() };
    let forecasts = forecasts(&outage);
    let mut page = format!(
        "<section id=\"peers\"><h2>Peers beside it</h2>\n<p>The largest loss of hosts in this run, {} of {} with {} replicas, under the published rules of others. <strong>These rows are models of documented settings, not measurements</strong>; they leave out image pulls and a busy control plane, and take the engines of this simulation. shoal's own row is this run: the slowest outage in it.</p>\n",
        outage.lost, outage.hosts, outage.replicas
    );
    page.push_str(&bars(material, &forecasts));
    page.push_str("<div class=\"wide\"><table><thead><tr><th></th><th>noticed</th><th>first replacement runs</th><th>all run</th></tr></thead><tbody>\n");
    let own = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), seconds);
    let sheet = material.sheet;
    // Writing into a string cannot fail.
    let _ = writeln!(
        page,
        "<tr class=\"ours\"><td>shoal, this run</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        own(sheet.first_detected.max_ms),
        own(sheet.first_recovered.max_ms),
        own(sheet.recovered.max_ms)
    );
    for forecast in &forecasts {
        let _ = writeln!(
            page,
            "<tr><td>{} (model)</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(forecast.name),
            window(forecast.noticed_ms),
            window(forecast.first_ms),
            window(forecast.all_ms)
        );
    }
    page.push_str("</tbody></table></div>\n<dl class=\"models\">\n");
    for forecast in &forecasts {
        let sources: Vec<String> = forecast.sources.iter().map(|source| escaped(source)).collect();
        let _ = writeln!(
            page,
            "<dt>{}</dt><dd>{}.<br>{}.<br><span class=\"source\">Sources: {}.</span></dd>",
            escaped(forecast.name),
            escaped(forecast.rule),
            escaped(&forecast.remarks.join("; ")),
            sources.join("; ")
        );
    }
    page.push_str("</dl></section>\n");
    page
}

/// The moment of the run before which nothing is drawn: a little before the timeline begins.
pub(super) fn shown_from(origin: At) -> At {
    At(origin.0.saturating_sub(15_000_000))
}
