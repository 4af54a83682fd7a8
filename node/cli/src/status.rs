//! `shoal status`: one look at everything that matters on this node and in its view.

use serde_json::Value;

use crate::age;
use crate::client::Client;
use crate::exit::Outcome;
use crate::nodes;
use crate::output::{self, Colour, Format, Palette, say, short};

pub(crate) async fn run(client: &Client, format: Format) -> Outcome {
    let status = client.get("/shoal/v1/status").await?;
    if format == Format::Json {
        return output::json(&status);
    }
    let palette = Palette::stdout();
    for line in summary(&status, palette) {
        say(line)?;
    }
    say("")?;
    nodes::table(&status["members"])?;
    let trouble = attention(&status);
    if trouble.is_empty() {
        return Ok(());
    }
    say("")?;
    say(palette.paint(Colour::Bold, "Needs looking at"))?;
    trouble.iter().try_for_each(|line| say(format!("  {}", palette.paint(Colour::Yellow, line))))
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn summary(status: &Value, palette: Palette) -> Vec<String> {
    let node = &status["node"];
    let name = |name: &str| palette.paint(Colour::Bold, &format!("{name:<9}"));
    let services = &status["services"];
    let members = status["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let alive = members.iter().filter(|member| member["state"] == "alive").count();
    let engine = if node["engine"]["state"] == "ok" {
        format!("{} {}", text(node, "runtime"), text(node, "engine_version"))
    } else {
        format!("{}, not answering", text(node, "runtime"))
    };
    vec![
        format!(
            "{} {} at {} (shoal {}, {engine}, profile {}), started {}",
            name("Node"),
            text(node, "name"),
            text(node, "addr"),
            text(node, "shoal_version"),
            text(node, "profile"),
            age::ago(&text(node, "started")),
        ),
        format!(
            "{} {}, {alive} of {} members alive",
            name("Cluster"),
            short(&text(&status["cluster"], "id")),
            members.len()
        ),
        format!(
            "{} {}, {} of {} replicas running",
            name("Services"),
            services["count"],
            services["running"],
            services["desired"]
        ),
    ]
}

/// Everything that an operator should know, most urgent first.
fn attention(status: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let node = &status["node"];
    if node["engine"]["state"] == "unavailable" {
        lines.push(format!(
            "this node's engine does not answer since {}: {}",
            age::ago(&text(&node["engine"], "since")),
            text(&node["engine"], "reason")
        ));
    }
    let holding = &node["holding_back"];
    if !holding.is_null() {
        let seconds = holding["at_most_ms"].as_u64().unwrap_or_default().div_ceil(1000);
        lines.push(format!(
            "this node holds takeovers back for at most {seconds} s: {}",
            text(holding, "reason")
        ));
    }
    for service in status["services"]["shadowed"].as_array().into_iter().flatten() {
        lines.push(format!(
            "service {} ({}) does not run: another one of its name, {}, was created earlier",
            text(service, "name"),
            short(&text(service, "id")),
            short(&text(service, "shadowed_by")),
        ));
    }
    for conflict in status["conflicts"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{} (shoal conflicts show {})",
            text(conflict, "text"),
            short(&text(conflict, "id"))
        ));
    }
    for warning in status["warnings"].as_array().into_iter().flatten() {
        lines.push(warning.as_str().unwrap_or_default().to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_needs_looking_at_is_said_with_what_to_do() {
        let status = json!({
            "node": {
                "engine": {"state": "unavailable", "since": "2026-01-31T12:00:00Z", "reason": "no answer"},
                "holding_back": {"reason": "alone", "at_most_ms": 4500},
            },
            "services": {"shadowed": [{"name": "web", "id": "aaa", "shadowed_by": "bbb"}]},
            "conflicts": [{"id": "abcdefabcdefabcdef", "text": "CONFLICT web"}],
            "warnings": ["disk full"],
        });
        let lines = attention(&status);
        assert_eq!(lines.len(), 5);
        assert!(lines[0].contains("no answer"));
        assert!(lines[1].contains("at most 5 s: alone"));
        assert!(lines[3].contains("shoal conflicts show abcdefabcdef"));
        assert!(attention(&json!({"node": {"engine": {"state": "ok"}}})).is_empty());
    }
}
