//! Reading what people write on the command line, in the docker CLI's grammar: `1m30s`, `64m`, `0.5`,
//! `type=bind,source=/a,target=/b`, `mode=host,target=80,published=8080`.
//!
//! All results are in the API's units: nanoseconds, bytes, billionths of a core.

use serde_json::{Map, Value, json};

/// A duration as Go writes it: `300ms`, `1.5s`, `1h30m`. In nanoseconds.
pub(crate) fn duration(text: &str) -> Result<i64, String> {
    const UNITS: [(&str, i64); 7] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let wrong = || format!("'{text}' is not a duration: write it like 500ms, 10s or 1m30s");
    if text == "0" {
        return Ok(0);
    }
    let (mut rest, mut total) = (text, 0_i64);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let unit = UNITS.iter().find(|(name, _)| *name == &tail[..end]).ok_or_else(wrong)?.1;
        let part = scaled(number, unit).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &tail[end..];
    }
    Ok(total)
}

/// A decimal number times `unit`, cut to a whole, without floating point.
fn scaled(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut value = whole.checked_mul(i128::from(unit))?;
    // Eighteen digits are finer than any unit.
    let fraction = fraction.get(..fraction.len().min(18))?;
    if !fraction.is_empty() {
        let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        value += fraction.parse::<i128>().ok()? * i128::from(unit) / scale;
    }
    i64::try_from(value).ok()
}

/// `64m`, `1.5g`, `512MiB`, `1000`: powers of 1024, as everywhere in Docker. In bytes.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    let wrong = || format!("'{text}' is not an amount of memory: write it like 64m or 1.5g");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(wrong()),
    };
    scaled(number, 1 << unit).ok_or_else(wrong)
}

/// Cores, as a decimal number. In billionths.
pub(crate) fn cpus(text: &str) -> Result<i64, String> {
    scaled(text.trim(), 1_000_000_000)
        .ok_or_else(|| format!("'{text}' is not a number of cores: write it like 0.5 or 2"))
}

/// 0 to 1; kept as it was written, so that 0.4 stays 0.4.
pub(crate) fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err(format!("'{text}' is not a ratio: write a number from 0 to 1")),
    }
}

/// `KEY=VALUE`; a key alone has an empty value.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        Err(format!("'{text}' has no name"))
    } else {
        Ok((key.to_owned(), value.to_owned()))
    }
}

/// `KEY=VALUE`, or `KEY` to take the value from our own environment, where it has one.
pub(crate) fn env(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('=') {
        return Err(format!("invalid environment variable: '{text}'"));
    }
    if text.contains('=') {
        return Ok(text.to_owned());
    }
    Ok(std::env::var(text).map_or_else(|_| text.to_owned(), |value| format!("{text}={value}")))
}

/// Splits at commas, with double quotes around fields that hold some.
fn fields(text: &str) -> Vec<String> {
    let (mut out, mut field, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(std::mem::take(&mut field)),
            _ => field.push(c),
        }
    }
    out.push(field);
    out
}

/// `--publish`: the long form, or `[PUBLISHED:]TARGET[/PROTOCOL]`, which means ingress.
pub(crate) fn publish(text: &str) -> Result<Value, String> {
    if text.contains('=') { publish_long(text) } else { publish_short(text) }
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("'{text}' is not a port: write a number from 1 to 65535")),
    }
}

fn publish_long(text: &str) -> Result<Value, String> {
    let mut out = Map::new();
    out.insert("Protocol".to_owned(), json!("tcp"));
    let mut mode = "ingress".to_owned();
    for field in fields(text) {
        let (key, value) =
            field.split_once('=').ok_or(format!("invalid field '{field}' in '{text}'"))?;
        match key {
            "protocol" if matches!(value, "tcp" | "udp" | "sctp") => {
                out.insert("Protocol".to_owned(), json!(value));
            }
            "mode" if matches!(value, "host" | "ingress") => value.clone_into(&mut mode),
            "target" => {
                out.insert("TargetPort".to_owned(), json!(port(value)?));
            }
            "published" => {
                out.insert("PublishedPort".to_owned(), json!(port(value)?));
            }
            _ => return Err(format!("invalid field '{field}' in '{text}'")),
        }
    }
    if !out.contains_key("TargetPort") {
        return Err(format!("'{text}' names no target port"));
    }
    out.insert("PublishMode".to_owned(), json!(mode));
    Ok(Value::Object(out))
}

fn publish_short(text: &str) -> Result<Value, String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(format!("'{protocol}' is not a protocol: tcp, udp or sctp"));
    }
    let mut out = Map::new();
    out.insert("Protocol".to_owned(), json!(protocol));
    match ports.split_once(':') {
        Some((published, target)) => {
            out.insert("TargetPort".to_owned(), json!(port(target)?));
            out.insert("PublishedPort".to_owned(), json!(port(published)?));
        }
        None => {
            out.insert("TargetPort".to_owned(), json!(port(ports)?));
        }
    }
    out.insert("PublishMode".to_owned(), json!("ingress"));
    Ok(Value::Object(out))
}

/// `--mount type=bind|volume|tmpfs,source=…,target=…[,readonly][,…]`
pub(crate) fn mount(text: &str) -> Result<Value, String> {
    let mut out = Map::new();
    out.insert("Type".to_owned(), json!("volume"));
    for field in fields(text) {
        let (key, value) = field.split_once('=').unwrap_or((&field, ""));
        let flag = || match value {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("invalid value for {key}: {value}")),
        };
        if !field.contains('=') && !matches!(key, "readonly" | "ro" | "volume-nocopy") {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        }
        match key {
            "type" if matches!(value, "bind" | "volume" | "tmpfs") => {
                out.insert("Type".to_owned(), json!(value));
            }
            "source" | "src" => {
                out.insert("Source".to_owned(), json!(value));
            }
            "target" | "dst" | "destination" => {
                out.insert("Target".to_owned(), json!(value));
            }
            "readonly" | "ro" => {
                out.insert("ReadOnly".to_owned(), json!(flag()?));
            }
            "bind-propagation" => put(&mut out, &["BindOptions", "Propagation"], json!(value)),
            "volume-nocopy" => put(&mut out, &["VolumeOptions", "NoCopy"], json!(flag()?)),
            "volume-subpath" => put(&mut out, &["VolumeOptions", "Subpath"], json!(value)),
            "volume-label" => {
                let (name, value) = label(value)?;
                put(&mut out, &["VolumeOptions", "Labels", &name], json!(value));
            }
            "volume-driver" => {
                put(&mut out, &["VolumeOptions", "DriverConfig", "Name"], json!(value))
            }
            "volume-opt" => {
                let (name, value) = label(value)?;
                put(&mut out, &["VolumeOptions", "DriverConfig", "Options", &name], json!(value));
            }
            "tmpfs-size" => put(&mut out, &["TmpfsOptions", "SizeBytes"], json!(bytes(value)?)),
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8)
                    .map_err(|_| format!("invalid value for tmpfs-mode: {value}"))?;
                put(&mut out, &["TmpfsOptions", "Mode"], json!(mode));
            }
            _ => return Err(format!("unexpected key or value '{field}' in '{text}'")),
        }
    }
    if let Some(Value::Object(options)) = out.get_mut("VolumeOptions") {
        // The docker CLI sends it with every other option of a volume.
        options.entry("DriverConfig").or_insert_with(|| json!({}));
    }
    if out.get("ReadOnly") == Some(&json!(false)) {
        out.shift_remove("ReadOnly");
    }
    if !out.contains_key("Target") {
        return Err("target is required".to_owned());
    }
    Ok(Value::Object(out))
}

fn put(map: &mut Map<String, Value>, path: &[&str], value: Value) {
    let [first, rest @ ..] = path else { return };
    if rest.is_empty() {
        map.insert((*first).to_owned(), value);
    } else if let Value::Object(inner) = map.entry(*first).or_insert_with(|| json!({})) {
        put(inner, rest, value);
    }
}

/// A secret or a config that a service is given: its name, and the file it becomes, as the API writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) source: String,
    pub(crate) file: Value,
}

/// `--secret` and `--config`: `NAME`, or `source=NAME[,target=FILE][,uid=0][,gid=0][,mode=0444]`. The file is named
/// like the source where no target is given; relative names are in /run/secrets and in / respectively.
pub(crate) fn given(text: &str) -> Result<Given, String> {
    let (mut source, mut target) = (String::new(), String::new());
    let (mut uid, mut gid, mut mode) = ("0".to_owned(), "0".to_owned(), 0o444_u32);
    if !text.contains('=') && !text.contains(',') {
        text.clone_into(&mut source);
    } else {
        for field in fields(text) {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
            let id = || match value.parse::<u32>() {
                Ok(_) => Ok(value.to_owned()),
                Err(_) => Err(format!("invalid value for {key}: {value}")),
            };
            match key {
                "source" | "src" => value.clone_into(&mut source),
                "target" => value.clone_into(&mut target),
                "uid" => uid = id()?,
                "gid" => gid = id()?,
                "mode" => {
                    let digits = value.strip_prefix("0o").unwrap_or(value);
                    mode = u32::from_str_radix(digits, 8).map_err(|_| {
                        format!("invalid mode '{value}': write it in octal, such as 0440")
                    })?;
                }
                _ => return Err(format!("invalid field '{field}' in '{text}'")),
            }
        }
    }
    if source.is_empty() {
        return Err("source is required".to_owned());
    }
    if target.is_empty() {
        target.clone_from(&source);
    }
    Ok(Given { source, file: json!({ "Name": target, "UID": uid, "GID": gid, "Mode": mode }) })
}

/// A command line in one argument, as `--args` and `--entrypoint` take it, split like a shell does.
pub(crate) fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut out, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => {
                let next = chars.next().ok_or("a backslash at the end escapes nothing")?;
                word.get_or_insert_default().push(next);
            }
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => out.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("a quote is not closed in: {text}"));
    }
    out.extend(word);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, nanos) in [
            ("0", 0),
            ("1s", 1_000_000_000),
            ("1.5s", 1_500_000_000),
            ("1h30m", 5_400_000_000_000),
            ("300ms", 300_000_000),
            ("5ns", 5),
        ] {
            assert_eq!(duration(text), Ok(nanos), "{text}");
        }
        for bad in ["", "5", "s", "1x", "1..5s", "-1s", "9999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn memory_and_cores() {
        for (text, count) in [
            ("5", 5),
            ("64m", 64 << 20),
            ("1.5g", 3 << 29),
            ("512MiB", 512 << 20),
            ("1kb", 1024),
            ("0", 0),
        ] {
            assert_eq!(bytes(text), Ok(count), "{text}");
        }
        assert_eq!(cpus("0.25"), Ok(250_000_000));
        assert_eq!(cpus("0.000000001"), Ok(1));
        for bad in ["", "m", "1q", "-1", "1.2.3", "99999999999999p"] {
            assert!(bytes(bad).is_err(), "{bad}");
            assert!(cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_in_both_forms() {
        assert_eq!(
            publish("mode=host,target=80,published=8080"),
            Ok(
                json!({"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"})
            )
        );
        assert_eq!(
            publish("53:53/udp"),
            Ok(
                json!({"Protocol": "udp", "TargetPort": 53, "PublishedPort": 53, "PublishMode": "ingress"})
            )
        );
        for bad in
            ["", "x", "80:0", "1.2.3.4:80:80", "mode=host", "mode=x,target=1", "70000", "80/xyz"]
        {
            assert!(publish(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_are_dockers() {
        assert_eq!(
            mount("src=v,dst=/x,ro,volume-nocopy,volume-label=a=b,volume-driver=d,volume-opt=o=p"),
            Ok(json!({
                "Type": "volume", "Source": "v", "Target": "/x", "ReadOnly": true,
                "VolumeOptions": {
                    "NoCopy": true, "Labels": {"a": "b"},
                    "DriverConfig": {"Name": "d", "Options": {"o": "p"}},
                },
            }))
        );
        assert_eq!(
            mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777"),
            Ok(
                json!({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1777}})
            )
        );
        assert_eq!(mount("type=bind,source=\"/a,b\",target=/b").unwrap()["Source"], "/a,b");
        for bad in ["", "/a:/b", "type=bind,source=/a", "type=x,target=/a", "target=/a,what=1"] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_are_a_shells() {
        let split = |text| words(text).unwrap();
        assert_eq!(split("sh -c 'echo hi' \"a b\"c\\ d"), ["sh", "-c", "echo hi", "a bc d"]);
        assert_eq!(split("  "), Vec::<String>::new());
        assert_eq!(split("''"), [""]);
        assert!(words("'x").is_err());
        assert!(words("x\\").is_err());
    }

    #[test]
    fn secrets_and_configs_become_files() {
        let of = |name: &str, uid: &str, mode: u32| json!({"Name": name, "UID": uid, "GID": "0", "Mode": mode});
        let named = |name: &str, file| Ok(Given { source: name.to_owned(), file });
        assert_eq!(given("key"), named("key", of("key", "0", 0o444)));
        assert_eq!(
            given("source=key,target=/etc/k,uid=7,mode=0400"),
            named("key", of("/etc/k", "7", 0o400))
        );
        for bad in ["", "target=x", "source=a,uid=b", "source=a,mode=9", "source=a,x=y", "a,b"] {
            assert!(given(bad).is_err(), "{bad}");
        }
    }
}
