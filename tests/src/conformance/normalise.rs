//! What two runs of one command may differ in without meaning anything: ids, times, addresses, which host, how wide a
//! column is. The rest is kept as it is.

use std::sync::OnceLock;

use regex_lite::{Captures, Regex};
use serde_json::Value;

/// Rules in their order: a pattern and what takes its place.
const RULES: [(&str, &str); 17] = [
    // What the parts of a Swarm say to each other about an error, in front of it.
    (r"rpc error: code = [A-Za-z]+ desc = ", ""),
    (r"SWMKEY-1-[0-9A-Za-z+/]+", "KEY"),
    (r"version=\d+", "version=N"),
    (r"/tmp/shoal-bed-[0-9A-Za-z]+/", "/BED/"),
    (r"^[0-9a-z]{12}( |$)", "ID$1"),
    (r"\b[0-9a-f]{64}\b", "HEX"),
    (r"\b[0-9a-z]{25}\b", "ID"),
    // A token to join with, Swarm's and shoal's.
    (r"\bSWMTKN-1-[0-9a-z]{50}-ID\b|\bSHOAL-1-[0-9A-Za-z_-]+|\bshoal1[0-9A-Za-z_-]+", "TOKEN"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "TIME"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( \+\d{4})? [a-zA-Z]+( [a-z]+)?", "TIME"),
    (
        r"(?i)\b(about an? (second|minute|hour)|less than a second|\d+ (second|minute|hour)s?)( ago)?",
        "AGE",
    ),
    (r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}:\d+", "ADDR"),
    (r"\b10\.\d{1,3}\.\d{1,3}\.\d{1,3}\b", "ADDR"),
    (r"\bh\d\b", "HOST"),
    (r"(ID|HEX)\.\.\.", "$1"),
    (r" {2,}", "  "),
    (r"\s+$", ""),
];

fn rules() -> &'static [(Regex, &'static str)] {
    static COMPILED: OnceLock<Vec<(Regex, &'static str)>> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let compiled = RULES.iter().map(|(pattern, to)| (Regex::new(pattern), *to));
        #[expect(clippy::expect_used, reason = "constants, compiled by a test below")]
        compiled.map(|(regex, to)| (regex.expect("a good pattern"), to)).collect()
    })
}

fn short_id() -> &'static Regex {
    static COMPILED: OnceLock<Regex> = OnceLock::new();
    #[expect(clippy::expect_used, reason = "a constant")]
    COMPILED.get_or_init(|| Regex::new(r"\b[0-9a-z]{12}\b").expect("a good pattern"))
}

/// One line of text.
pub fn line(text: &str) -> String {
    let mut text = text.trim_end().to_owned();
    for (regex, to) in rules() {
        text = regex.replace_all(&text, *to).into_owned();
    }
    // The first twelve letters of an id. Words of twelve letters have no digit in them.
    let shortened = |found: &Captures<'_>| {
        let word = &found[0];
        let mixed = word.bytes().any(|b| b.is_ascii_digit());
        if mixed { "ID".to_owned() } else { word.to_owned() }
    };
    short_id().replace_all(&text, shortened).trim_end().to_owned()
}

/// What a command printed, as lines to compare: JSON as one line for each value in it, text line by line.
pub fn output(text: &str) -> Vec<String> {
    if let Ok(value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str::<Value>(text) {
        let mut lines = Vec::new();
        flatten("", &value, &mut lines);
        return lines;
    }
    progress_left_out(text.lines().map(line).filter(|line| !line.is_empty()))
}

/// How far a command that waits had come depends on the moment; that it came to its end does not.
fn progress_left_out(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    let mut last_progress = None;
    for line in lines {
        let (first, rest) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
        let is_slot = first.split_once('/').is_some_and(|(slot, of)| {
            !slot.is_empty() && [slot, of].iter().all(|n| n.bytes().all(|b| b.is_ascii_digit()))
        });
        if line.starts_with("overall progress: ") {
            last_progress = Some(line);
        } else if matches!(first, "job progress" | "active tasks") {
            // A job says at its end that it is complete.
        } else if !is_slot && (first != "ID" || rest.contains(' ')) && !rest.starts_with("Waiting ")
        {
            kept.push(line);
        }
    }
    kept.extend(last_progress);
    kept
}

/// `[].Spec.Name="web"`, a line for each value; lists without numbers, for most have no order.
fn flatten(path: &str, value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, inner) in map {
                let inner_path =
                    if path.is_empty() { line(key) } else { format!("{path}.{}", line(key)) };
                // Only that it rises counts.
                if path.ends_with("Version") && key == "Index" && inner.is_u64() {
                    out.push(format!("{inner_path}=N"));
                } else {
                    flatten(&inner_path, inner, out);
                }
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for inner in list {
                flatten(&format!("{path}[]"), inner, out);
            }
        }
        Value::String(text) => out.push(format!("{path}={:?}", line(text))),
        other => out.push(format!("{path}={other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_nothing_goes_and_the_rest_stays() {
        for (text, left) in [
            ("m0f3kq8xw1y2z3a4b5c6d7e8f   web    replicated  3/3", "ID  web  replicated  3/3"),
            ("m0f3kq8xw1y2 conformances", "ID conformances"),
            ("web.1  h2  Running 12 seconds ago", "web.1  HOST  Running AGE"),
            ("Running about a minute ago  ", "Running AGE"),
            ("at 2026-11-23T08:23:04.123456789Z from 10.77.0.3:7946", "at TIME from ADDR"),
            ("Created at: 2026-11-23 08:23:04.1234 +0000 utc", "Created at: TIME"),
        ] {
            assert_eq!(line(text), left);
        }
    }

    #[test]
    fn json_becomes_a_line_for_each_value() {
        let text = r#"[{"Version": {"Index": 12}, "Spec": {"Ports": [], "N": 3, "T": "h1"}}]"#;
        assert_eq!(
            output(text),
            ["[].Version.Index=N", "[].Spec.Ports=[]", "[].Spec.N=3", "[].Spec.T=\"HOST\""]
        );
    }

    #[test]
    fn progress_is_reduced_to_its_end() {
        let text = "overall progress: 0 out of 2 tasks\n1/2:\n2/2: preparing\n\
                    overall progress: 2 out of 2 tasks\nverify: Waiting 5 seconds to verify that tasks are stable...\n\
                    verify: Service x converged\n";
        assert_eq!(
            output(text),
            ["verify: Service x converged", "overall progress: 2 out of 2 tasks"]
        );
    }
}
