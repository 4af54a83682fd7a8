//! How a plan is shown to people: one line that says it all, then what moves, what waits, and what
//! becomes of the hosts.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::exit::Outcome;
use crate::output::{self, Colour, Palette, bytes, cores, say};

/// Reasons of waiting that are shown; more are counted.
const REASONS: usize = 8;

pub(crate) fn print(answer: &Value) -> Outcome {
    let palette = Palette::stdout();
    let colour = if answer["whole"] == true { Colour::Green } else { Colour::Yellow };
    say(format!("Suppose: {}", text(answer, "supposed")))?;
    say(palette.paint(colour, text(answer, "summary")))?;
    section(
        palette,
        "Services",
        &["SERVICE", "RUNNING", "ON EACH NODE", "IN EACH ZONE", "REMARKS"],
        services(answer),
    )?;
    section(palette, "At once", &["SERVICE", "WHAT", "FROM", "TO", "REPLICAS"], at_once(answer))?;
    section(
        palette,
        "Later, to even out load",
        &["SERVICE", "WHAT", "FROM", "TO", "REPLICAS"],
        later(answer),
    )?;
    section(
        palette,
        "Nodes that change",
        &["NODE", "ZONE", "STATE", "REPLICAS", "CPU", "MEMORY", ""],
        nodes(answer),
    )?;
    lines(palette, "Left waiting", &waiting(answer), Colour::Yellow)?;
    let notes: Vec<String> = list(answer, "notes").map(words).collect();
    lines(palette, "Note", &notes, Colour::Cyan)?;
    let asked = text(&answer["asked"], "name");
    say("")?;
    say(format!(
        "This is {asked}'s view at this moment; a candidate that is late is stepped in for by the next."
    ))
}

fn section(palette: Palette, title: &str, headers: &[&str], rows: Vec<Vec<String>>) -> Outcome {
    if rows.is_empty() {
        return Ok(());
    }
    say("")?;
    say(palette.paint(Colour::Bold, title))?;
    output::table(headers, &rows)
}

fn lines(palette: Palette, title: &str, lines: &[String], colour: Colour) -> Outcome {
    if lines.is_empty() {
        return Ok(());
    }
    say("")?;
    say(palette.paint(Colour::Bold, title))?;
    lines.iter().try_for_each(|line| say(format!("  {}", palette.paint(colour, line))))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn words(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// `3` or, where it changes, `3 -> 5`.
fn change(before: &str, after: &str) -> String {
    if before == after { after.to_owned() } else { format!("{before} -> {after}") }
}

fn services(answer: &Value) -> Vec<Vec<String>> {
    let of = |service: &Value, when: &str| {
        format!("{}/{}", service["running"][when], service["wanted"][when])
    };
    let rows = list(answer, "services").map(|service| {
        let spread = |when: &str, what: fn(&Value) -> String| what(&service["spread"][when]);
        let zones = change(&spread("before", in_zones), &spread("end", in_zones));
        vec![
            text(service, "name").to_owned(),
            change(&of(service, "before"), &of(service, "after")),
            change(&spread("before", on_hosts), &spread("end", on_hosts)),
            zones,
            list(service, "remarks").map(words).collect::<Vec<_>>().join("; "),
        ]
    });
    rows.collect()
}

/// The fewest and the most replicas on a node that has any.
fn on_hosts(spread: &Value) -> String {
    let counts = || list(spread, "hosts").filter_map(|host| host["replicas"].as_u64());
    match (counts().min(), counts().max()) {
        (Some(min), Some(max)) if min == max => format!("{min} on {}", counts().count()),
        (Some(min), Some(max)) => format!("{min} to {max} on {}", counts().count()),
        _ => "-".to_owned(),
    }
}

fn in_zones(spread: &Value) -> String {
    let zones = spread["zones"].as_object();
    let named: Vec<String> = zones
        .into_iter()
        .flatten()
        .filter(|(zone, _)| !zone.is_empty())
        .map(|(zone, count)| format!("{zone} {count}"))
        .collect();
    named.join(", ")
}

/// Moves of one kind from one node to another are one row.
type Rows = BTreeMap<(String, &'static str, String, String), Vec<Value>>;

fn add(rows: &mut Rows, service: &Value, what: &'static str, one: &Value) {
    let name = |key: &str| text(&one[key], "name").to_owned();
    let key = (text(service, "name").to_owned(), what, name("from"), name("to"));
    rows.entry(key).or_default().push(one["slot"].clone());
}

fn shown(rows: Rows) -> Vec<Vec<String>> {
    let dash = |name: String| if name.is_empty() { "-".to_owned() } else { name };
    rows.into_iter()
        .map(|((service, what, from, to), slots)| {
            vec![service, what.to_owned(), dash(from), dash(to), ranges(&slots)]
        })
        .collect()
}

fn at_once(answer: &Value) -> Vec<Vec<String>> {
    let mut rows = Rows::new();
    for service in list(answer, "services") {
        for one in list(service, "moves") {
            let what = match text(one, "kind") {
                "replaces" => "starts elsewhere",
                "relieves" => "is handed over",
                _ => "starts",
            };
            add(&mut rows, service, what, one);
        }
        for stop in list(service, "stops") {
            let one = serde_json::json!({ "from": stop["node"], "slot": stop["slot"] });
            add(&mut rows, service, "stops", &one);
        }
    }
    shown(rows)
}

fn later(answer: &Value) -> Vec<Vec<String>> {
    let mut rows = Rows::new();
    for service in list(answer, "services") {
        list(service, "later").for_each(|one| add(&mut rows, service, "is pulled", one));
    }
    shown(rows)
}

/// `1-3, 7`; global services have one on a node, and no number.
fn ranges(slots: &[Value]) -> String {
    let mut numbers: Vec<u64> = slots.iter().filter_map(Value::as_u64).collect();
    if numbers.len() < slots.len() {
        return String::new();
    }
    numbers.sort_unstable();
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let one = |(first, last): &(u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    parts.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn nodes(answer: &Value) -> Vec<Vec<String>> {
    let rows = list(answer, "hosts").filter_map(|host| {
        let amount = |when: &str, key: &str| host["reserved"][when][key].as_u64().unwrap_or(0);
        let (before, end) = (&host["replicas"]["before"], &host["replicas"]["end"]);
        let state = |when: &str| host["state"][when].as_str().unwrap_or("not there");
        if before == end && state("before") == state("after") {
            return None;
        }
        let of = |key: &str, show: fn(u64) -> String| {
            let now = change(&show(amount("before", key)), &show(amount("end", key)));
            match host["capacity"][key].as_u64() {
                Some(capacity) if capacity > 0 => format!("{now} of {}", show(capacity)),
                _ => now,
            }
        };
        Some(vec![
            text(host, "name").to_owned(),
            text(host, "zone").to_owned(),
            change(state("before"), state("after")),
            change(&before.to_string(), &end.to_string()),
            of("cpu_milli", cores),
            of("memory_bytes", bytes),
            if host["tight"] == true { "tight" } else { "" }.to_owned(),
        ])
    });
    rows.collect()
}

fn waiting(answer: &Value) -> Vec<String> {
    // One reason often stands for many replicas.
    let mut reasons: BTreeMap<(String, String), Vec<Value>> = BTreeMap::new();
    for service in list(answer, "services") {
        for one in list(service, "pending") {
            let stays = text(&one["stays_on"], "name");
            let stays =
                if stays.is_empty() { String::new() } else { format!("stays on {stays}: ") };
            let key = (text(service, "name").to_owned(), format!("{stays}{}", text(one, "why")));
            reasons.entry(key).or_default().push(one["slot"].clone());
        }
    }
    let all = reasons.len();
    let mut lines: Vec<String> = reasons
        .into_iter()
        .take(REASONS)
        .map(|((service, why), slots)| format!("{service} {}: {why}", ranges(&slots)))
        .collect();
    if all > REASONS {
        lines.push(format!("and for {} more reasons: --format json has them", all - REASONS));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn slots_are_written_as_ranges() {
        let slots: Vec<Value> = [3, 1, 2, 7, 9, 10].iter().map(|n| json!(n)).collect();
        assert_eq!(ranges(&slots), "1-3, 7, 9-10");
        assert_eq!(ranges(&[json!("0abc")]), "");
        assert_eq!(change("3", "3"), "3");
        assert_eq!(change("3", "5"), "3 -> 5");
    }
}
