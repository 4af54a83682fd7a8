//! Go templates as Swarm has them: `{{.Task.Slot}}`, `{{index .Service.Labels "com.example.tier"}}`,
//! and in configs and secrets with a template driver `{{env "X"}}`, `{{config "x"}}`, `{{secret "x"}}`.
//!
//! Pure: a template is text, the words to fill in are a JSON value, what a function looks up is an
//! argument. What cannot be expanded is an error in words, never left standing and never empty: a
//! container that starts with `{{.Task.Slto}}` as its name is worse than one that does not start.

mod parse;

use serde_json::Value;

use parse::{Part, Pipe, Term};

/// Why a template cannot be expanded, in the operator's words. Never holds what a secret holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

fn wrong(text: impl Into<String>) -> TemplateError {
    TemplateError(text.into())
}

/// What the functions `env`, `config` and `secret` look up: those of the task itself, no others.
pub trait Lookup {
    /// A variable of the task's environment; one that is not set is empty, as in Swarm.
    fn env(&self, name: &str) -> String;
    /// The bytes of the config that the task gets under this target; `None`: it gets none there.
    fn config(&self, target: &str) -> Option<Vec<u8>>;
    /// As [`Self::config`].
    fn secret(&self, target: &str) -> Option<Vec<u8>>;
}

/// Expands a field of a spec: only the words of service, node and task are known.
///
/// # Errors
/// What is wrong with it, and where.
pub fn expand(text: &str, words: &Value) -> Result<String, TemplateError> {
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    let out = Evaluator { words, lookup: None }.run(&parse::parse(text)?)?;
    String::from_utf8(out).map_err(|_| wrong("the result is not UTF-8"))
}

/// Expands the content of a config or secret, which also sees the task's environment and files.
///
/// # Errors
/// As [`expand`]; also when it is not UTF-8.
pub fn expand_content(
    content: &[u8],
    words: &Value,
    lookup: &dyn Lookup,
) -> Result<Vec<u8>, TemplateError> {
    let text = std::str::from_utf8(content).map_err(|_| wrong("a template has to be UTF-8"))?;
    Evaluator { words, lookup: Some(lookup) }.run(&parse::parse(text)?)
}

/// Whether a content can be read as a template at all.
///
/// # Errors
/// What is wrong with it, and where.
pub fn check_content(content: &[u8]) -> Result<(), TemplateError> {
    let text = std::str::from_utf8(content).map_err(|_| wrong("a template has to be UTF-8"))?;
    parse::parse(text).map(|_| ())
}

/// What a term comes to.
#[derive(Clone, Debug, PartialEq)]
enum Item<'a> {
    Text(Vec<u8>),
    Number(i64),
    Bool(bool),
    Map(&'a Value),
}

impl Item<'_> {
    fn is_true(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Number(number) => *number != 0,
            Self::Bool(value) => *value,
            Self::Map(map) => map.as_object().is_some_and(|map| !map.is_empty()),
        }
    }
}

struct Evaluator<'a> {
    words: &'a Value,
    lookup: Option<&'a dyn Lookup>,
}

impl<'a> Evaluator<'a> {
    fn run(&self, parts: &[Part]) -> Result<Vec<u8>, TemplateError> {
        let mut out = Vec::new();
        for part in parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Show(pipe) => out.extend(shown(&self.pipe(pipe)?)?),
                Part::If { condition, then, otherwise } => {
                    let branch = if self.pipe(condition)?.is_true() { then } else { otherwise };
                    out.extend(self.run(branch)?);
                }
            }
        }
        Ok(out)
    }

    fn pipe(&self, pipe: &Pipe) -> Result<Item<'a>, TemplateError> {
        let mut last = None;
        for command in &pipe.0 {
            last = Some(self.command(command, last)?);
        }
        last.ok_or_else(|| wrong("there is nothing to show"))
    }

    fn command(&self, terms: &[Term], piped: Option<Item<'a>>) -> Result<Item<'a>, TemplateError> {
        let (first, rest) = terms.split_first().ok_or_else(|| wrong("there is nothing to show"))?;
        let mut args = rest.iter().map(|term| self.term(term)).collect::<Result<Vec<_>, _>>()?;
        args.extend(piped);
        match first {
            Term::Call(name) => self.call(name, &args),
            other if args.is_empty() => self.term(other),
            other => Err(wrong(format!("{} is no function and takes no argument", written(other)))),
        }
    }

    fn term(&self, term: &Term) -> Result<Item<'a>, TemplateError> {
        match term {
            Term::Field(path) => item(self.words, path),
            Term::Text(text) => Ok(Item::Text(text.clone().into_bytes())),
            Term::Number(number) => Ok(Item::Number(*number)),
            Term::Bool(value) => Ok(Item::Bool(*value)),
            Term::Call(name) => self.call(name, &[]),
            Term::Group(pipe, fields) if fields.is_empty() => self.pipe(pipe),
            Term::Group(pipe, fields) => match self.pipe(pipe)? {
                Item::Map(map) => item(map, fields),
                _ => Err(wrong(format!(".{} asks for a field of a text", fields.join(".")))),
            },
        }
    }

    fn call(&self, name: &str, args: &[Item<'a>]) -> Result<Item<'a>, TemplateError> {
        match (name, args) {
            ("index", [Item::Map(map), Item::Text(key)]) => {
                let key = String::from_utf8_lossy(key);
                Ok(map.get(key.as_ref()).map_or(Item::Text(Vec::new()), item_of))
            }
            ("index", _) => Err(wrong("index takes a map and a name: index .Service.Labels \"x\"")),
            ("print", args) => {
                let texts = args.iter().map(shown).collect::<Result<Vec<_>, _>>()?;
                Ok(Item::Text(texts.concat()))
            }
            ("printf", [Item::Text(format), args @ ..]) => formatted(format, args).map(Item::Text),
            ("len", [Item::Text(text)]) => Ok(Item::Number(i64::try_from(text.len()).unwrap_or(0))),
            ("eq", [first, rest @ ..]) if !rest.is_empty() => {
                Ok(Item::Bool(rest.iter().any(|other| other == first)))
            }
            ("ne", [a, b]) => Ok(Item::Bool(a != b)),
            ("not", [a]) => Ok(Item::Bool(!a.is_true())),
            ("and", [.., last]) => Ok(args.iter().find(|a| !a.is_true()).unwrap_or(last).clone()),
            ("or", [.., last]) => Ok(args.iter().find(|a| a.is_true()).unwrap_or(last).clone()),
            ("env" | "config" | "secret", [Item::Text(key)]) => self.look_up(name, key),
            ("env" | "config" | "secret", _) => {
                Err(wrong(format!("{name} takes one name: {name} \"x\"")))
            }
            ("printf" | "len" | "eq" | "ne" | "not" | "and" | "or", _) => {
                Err(wrong(format!("{name} is called with arguments that it does not take")))
            }
            _ => Err(wrong(format!(
                "there is no function '{name}': known are index, print, printf, len, eq, ne, and, or, not, and in configs and secrets env, config, secret"
            ))),
        }
    }

    fn look_up(&self, kind: &str, name: &[u8]) -> Result<Item<'a>, TemplateError> {
        let Some(lookup) = self.lookup else {
            return Err(wrong(format!(
                "'{kind}' is known in configs and secrets with a template driver only"
            )));
        };
        let name = String::from_utf8_lossy(name);
        let found = match kind {
            "env" => Some(lookup.env(&name).into_bytes()),
            "config" => lookup.config(&name),
            _ => lookup.secret(&name),
        };
        found.map(Item::Text).ok_or_else(|| {
            wrong(format!("{kind} target {name} not found: the service does not get it"))
        })
    }
}

fn item<'a>(from: &'a Value, path: &[String]) -> Result<Item<'a>, TemplateError> {
    let mut at = from;
    for (depth, name) in path.iter().enumerate() {
        at = at.get(name).ok_or_else(|| {
            let known: Vec<&str> =
                at.as_object().into_iter().flat_map(|map| map.keys().map(String::as_str)).collect();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            let before: String = path[..depth].iter().map(|p| format!(".{p}")).collect();
            let before = if before.is_empty() { "." } else { &before };
            wrong(format!(
                "{{{{.{}}}}}: there is no '{name}': {before} has {known}",
                path.join(".")
            ))
        })?;
    }
    Ok(item_of(at))
}

fn item_of(value: &Value) -> Item<'_> {
    match value {
        Value::String(text) => Item::Text(text.clone().into_bytes()),
        Value::Bool(value) => Item::Bool(*value),
        Value::Number(number) => Item::Number(number.as_i64().unwrap_or_default()),
        other => Item::Map(other),
    }
}

fn shown(item: &Item<'_>) -> Result<Vec<u8>, TemplateError> {
    match item {
        Item::Text(text) => Ok(text.clone()),
        Item::Number(number) => Ok(number.to_string().into_bytes()),
        Item::Bool(value) => Ok(value.to_string().into_bytes()),
        Item::Map(map) => {
            let names: Vec<&str> =
                map.as_object().into_iter().flat_map(|m| m.keys().map(String::as_str)).collect();
            Err(wrong(format!("this is no text: it has the fields {}", names.join(", "))))
        }
    }
}

/// `%s`, `%d` and `%v` show an argument, `%%` is a percent sign.
fn formatted(format: &[u8], args: &[Item<'_>]) -> Result<Vec<u8>, TemplateError> {
    let mut out = Vec::new();
    let mut args = args.iter();
    let mut bytes = format.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        match bytes.next() {
            Some(b'%') => out.push(b'%'),
            Some(b's' | b'd' | b'v') => {
                let arg =
                    args.next().ok_or_else(|| wrong("printf has fewer arguments than verbs"))?;
                out.extend(shown(arg)?);
            }
            _ => return Err(wrong("printf knows the verbs %s, %d, %v and %%")),
        }
    }
    match args.next() {
        None => Ok(out),
        Some(_) => Err(wrong("printf has more arguments than verbs")),
    }
}

fn written(term: &Term) -> String {
    match term {
        Term::Field(path) => format!(".{}", path.join(".")),
        Term::Call(name) => name.clone(),
        Term::Text(text) => format!("\"{text}\""),
        Term::Number(number) => number.to_string(),
        Term::Bool(value) => value.to_string(),
        Term::Group(..) => "what stands in parentheses".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn words() -> Value {
        json!({
            "Service": {"ID": "s1", "Name": "web", "Labels": {"tier": "front", "com.example/x": "dotted"}},
            "Node": {"ID": "n1", "Hostname": "alpha", "Platform": {"OS": "linux", "Architecture": "x86_64"}},
            "Task": {"ID": "t1", "Name": "web.3.t1", "Slot": "3"},
        })
    }

    fn of(text: &str) -> String {
        expand(text, &words()).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    struct Files;
    impl Lookup for Files {
        fn env(&self, name: &str) -> String {
            if name == "A" { "one".to_owned() } else { String::new() }
        }
        fn config(&self, target: &str) -> Option<Vec<u8>> {
            (target == "site.conf").then(|| b"listen 80".to_vec())
        }
        fn secret(&self, target: &str) -> Option<Vec<u8>> {
            (target == "key").then(|| vec![0xff, 0])
        }
    }

    #[test]
    fn what_swarm_documents_is_filled_in() {
        for (text, filled) in [
            ("plain", "plain"),
            ("{{.Service.ID}}/{{.Service.Name}}", "s1/web"),
            ("{{ .Service.Labels.tier }}", "front"),
            ("{{index .Service.Labels \"com.example/x\"}}", "dotted"),
            ("{{index .Service.Labels `missing`}}", ""),
            ("{{.Node.ID}}-{{.Node.Hostname}}-{{.Node.Platform.OS}}", "n1-alpha-linux"),
            ("{{.Node.Platform.Architecture}}", "x86_64"),
            ("{{.Task.ID}} {{.Task.Name}} {{.Task.Slot}}", "t1 web.3.t1 3"),
            ("a {{- .Task.Slot -}} b", "a3b"),
            ("x{{/* said nothing */}}y", "xy"),
            ("{{if eq .Task.Slot \"3\"}}third{{else}}other{{end}}", "third"),
            ("{{if .Service.Labels}}l{{else if true}}n{{end}}", "l"),
            ("{{if eq .Task.Slot \"1\" \"2\"}}a{{else if not false}}b{{else}}c{{end}}", "b"),
            ("{{printf \"%s-%s%%\" .Service.Name .Task.Slot}}", "web-3%"),
            ("{{.Task.Slot | printf \"slot %s\"}}", "slot 3"),
            ("{{print \"a}}b\" (index .Service.Labels \"tier\")}}", "a}}bfront"),
            ("{{(index .Service.Labels \"tier\")}}", "front"),
            ("}} {", "}} {"),
        ] {
            assert_eq!(of(text), filled, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_said() {
        for (text, says) in [
            ("{{.Task.Slto}}", "no 'Slto': .Task has ID, Name, Slot"),
            ("{{.Nothing}}", "no 'Nothing'"),
            ("{{.Service.Labels.none}}", "no 'none'"),
            ("{{.Service}}", "it has the fields ID, Name, Labels"),
            ("{{.Task.Slot", "does not end"),
            ("{{}}", "nothing to show"),
            ("{{range .Service.Labels}}{{end}}", "'range' is not supported"),
            ("{{$x := 1}}", "variables"),
            ("{{if true}}", "no {{end}}"),
            ("{{end}}", "outside of any"),
            ("{{upper .Task.ID}}", "no function 'upper'"),
            ("{{env \"A\"}}", "configs and secrets"),
            ("{{index .Service.Labels.tier \"x\"}}", "index takes a map"),
            ("{{.Service.Labels.a-b}}", "index .Service.Labels"),
            ("{{\"a}}", "does not end"),
            ("{{(.Task.ID}}", "parenthesis is missing"),
            ("{{.Task.ID)}}", "too many"),
        ] {
            let error = expand(text, &words()).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn contents_see_the_tasks_environment_and_files() {
        let of = |text: &str| expand_content(text.as_bytes(), &words(), &Files);
        assert_eq!(of("{{env \"A\"}},{{env \"B\"}}").unwrap(), b"one,");
        assert_eq!(of("{{config \"site.conf\"}}").unwrap(), b"listen 80");
        assert_eq!(of("<{{secret \"key\"}}>").unwrap(), [b'<', 0xff, 0, b'>']);
        assert!(of("{{secret \"other\"}}").unwrap_err().to_string().contains("other not found"));
        assert!(check_content(b"{{ok}}").is_ok() && check_content(&[0xff]).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([{}()|.\"`a-z -]|\\{\\{|\\}\\}|\\{\\{if |\\{\\{end\\}\\}){0,40}") {
            let _ = expand(&text, &words());
        }
    }

    #[test]
    fn nesting_is_bounded() {
        for deep in ["{{if true}}".repeat(10_000), format!("{{{{{}", "(".repeat(10_000))] {
            assert!(expand(&(deep + "}}"), &words()).is_err());
        }
    }
}
