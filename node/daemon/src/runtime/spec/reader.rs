//! Reads JSON of unknown origin field by field and says exactly which one is wrong.
//!
//! serde would do for well-formed specs, but here three things matter more than brevity: an error
//! names the field by its full path; names are matched without regard to case, as Docker's own server
//! does (its clients send `Healthcheck`, the reference says `HealthCheck`); and what nobody asked for
//! is noticed. A field that this version does not know is refused unless it is empty: it might be the
//! one that takes a right away.

use std::collections::BTreeMap;

use serde_json::Value;

/// A spec that cannot be carried out as it is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct BadSpec {
    /// The path of the field, such as `ContainerSpec.Mounts[0].Target`.
    pub field: String,
    pub why: String,
}

impl BadSpec {
    pub(crate) fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }
}

/// The fields of one object that have not been taken yet.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    path: String,
    /// By lower-case name, with the name as it was written.
    left: BTreeMap<String, (&'a str, &'a Value)>,
}

impl<'a> Fields<'a> {
    /// `path` is empty for the outermost object. `null` is an object without fields.
    pub(super) fn of(path: &str, value: &'a Value) -> Result<Self, BadSpec> {
        let object = match value {
            Value::Object(object) => Some(object),
            Value::Null => None,
            other => return Err(BadSpec::new(path, expected("an object", other))),
        };
        let left = object.into_iter().flatten();
        let left = left.map(|(k, v)| (k.to_ascii_lowercase(), (k.as_str(), v))).collect();
        Ok(Self { path: path.to_owned(), left })
    }

    pub(super) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(super) fn bad(&self, name: &str, why: impl Into<String>) -> BadSpec {
        BadSpec::new(self.path(name), why)
    }

    /// The value of a field that is there and not `null`.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a Value> {
        let (_, value) = self.left.remove(&name.to_ascii_lowercase())?;
        (!value.is_null()).then_some(value)
    }

    /// For fields that mean something to others and nothing here.
    pub(super) fn skip(&mut self, names: &[&str]) {
        for name in names {
            self.left.remove(&name.to_ascii_lowercase());
        }
    }

    fn typed<T>(
        &mut self,
        name: &str,
        wanted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, BadSpec> {
        let path = self.path(name);
        let Some(value) = self.take(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| BadSpec::new(path, expected(wanted, value)))
    }

    /// An empty text counts as none, as in Docker.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, BadSpec> {
        let text = self.typed(name, "a text", |v| v.as_str().map(str::to_owned))?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, BadSpec> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// A whole number; some clients write `1.0`.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<i64>, BadSpec> {
        self.typed(name, "a whole number", whole)
    }

    /// As [`Fields::number`], where zero means "not set" to Docker.
    pub(super) fn nonzero(&mut self, name: &str) -> Result<Option<i64>, BadSpec> {
        Ok(self.number(name)?.filter(|n| *n != 0))
    }

    pub(super) fn list(&mut self, name: &str) -> Result<Vec<(String, &'a Value)>, BadSpec> {
        let path = self.path(name);
        let items = self.typed(name, "a list", Value::as_array)?;
        let numbered = items.into_iter().flatten().enumerate();
        Ok(numbered.map(|(n, value)| (format!("{path}[{n}]"), value)).collect())
    }

    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, BadSpec> {
        let read = |(path, value): (String, &Value)| {
            value
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| BadSpec::new(path, expected("a text", value)))
        };
        self.list(name)?.into_iter().map(read).collect()
    }

    pub(super) fn map(&mut self, name: &str) -> Result<BTreeMap<String, String>, BadSpec> {
        let path = self.path(name);
        let object = self.typed(name, "an object", Value::as_object)?;
        let read = |(key, value): (&String, &Value)| match value.as_str() {
            Some(text) => Ok((key.clone(), text.to_owned())),
            None => Err(BadSpec::new(format!("{path}.{key}"), expected("a text", value))),
        };
        object.into_iter().flatten().map(read).collect()
    }

    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, BadSpec> {
        let path = self.path(name);
        self.take(name).map(|value| Self::of(&path, value)).transpose()
    }

    /// Refuses a field with anything in it.
    pub(super) fn refuse(&mut self, name: &str, why: &str) -> Result<(), BadSpec> {
        match self.take(name) {
            Some(value) if !is_empty(value) => Err(self.bad(name, why)),
            _ => Ok(()),
        }
    }

    /// Takes note of a field that is somebody else's business.
    pub(super) fn ignore(&mut self, name: &str) {
        self.take(name);
    }

    /// Refuses what is left.
    pub(super) fn end(self) -> Result<(), BadSpec> {
        let unknown = self.left.values().find(|(_, value)| !is_empty(value));
        match unknown {
            None => Ok(()),
            Some((name, _)) => Err(self.bad(
                name,
                "this shoal does not know the field and does not run what it does not understand; leave it out, or upgrade shoal",
            )),
        }
    }
}

fn whole(value: &Value) -> Option<i64> {
    // 2^53: beyond it a float no longer holds every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_i64().or_else(|| {
        let float = value.as_f64().filter(|f| f.fract() == 0.0 && f.abs() <= EXACT)?;
        Some(float as i64)
    })
}

/// What asks for nothing: absent, `null`, or the zero of its type, which is how Go writes "not set".
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

fn expected(wanted: &str, found: &Value) -> String {
    let found = match found {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("'{}'", text.chars().take(40).collect::<String>()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    format!("{found} is not {wanted}")
}
