//! How true the modelled gossip of a run is: what `simulations fidelity` last showed, kept with the program.

use std::fmt::Write as _;

use super::svg::escaped;
use crate::fidelity::{Comparison, MARGIN_MS, MARGIN_PERCENT, kept};

/// The section; nothing for a run under chitchat itself.
pub(super) fn section(modelled: bool) -> String {
    if !modelled {
        return "<section id=\"gossip\"><h2>Gossip</h2>\n<p>This run was under chitchat itself.</p></section>\n".to_owned();
    }
    let mut page = format!(
        "<section id=\"gossip\"><h2>Gossip</h2>\n<p>Gossip was modelled in this run. The same news and the same outage under chitchat itself and under the model, as <code>simulations fidelity</code> showed them when the model was last changed; the two are taken to agree where they lie less than {MARGIN_PERCENT}% apart, or {MARGIN_MS} ms for times.</p>\n"
    );
    for comparison in kept() {
        page.push_str(&table(&comparison));
    }
    page.push_str("</section>\n");
    page
}

fn table(comparison: &Comparison) -> String {
    let mut page = format!(
        "<div class=\"wide\"><table><thead><tr><th>{} hosts, seed {}</th><th>chitchat</th><th>model</th><th></th></tr></thead><tbody>\n",
        comparison.hosts, comparison.seed
    );
    for pair in &comparison.pairs {
        let show = |value: Option<u64>| {
            value.map_or_else(|| "never".to_owned(), |value| format!("{value} {}", pair.unit))
        };
        let (class, word) = if pair.agree { ("good", "agree") } else { ("bad", "apart") };
        // Writing into a string cannot fail.
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td><span class=\"{class}\">{word}</span></td></tr>",
            escaped(&pair.what),
            show(pair.real),
            show(pair.modelled),
        );
    }
    page.push_str("</tbody></table></div>\n");
    page
}
