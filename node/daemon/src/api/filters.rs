//! Query parameters and Docker's `filters`, in both shapes that clients send.
//!
//! `{"name":{"web":true}}` comes from Go clients, `{"name":["web"]}` from docker-py and older ones.
//! Values under one key are alternatives (labels: all must hold), different keys must all match.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde_json::Value;

use super::error::ApiError;

/// The query of a request. A key that is given twice keeps its first value.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(BTreeMap<String, String>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| ApiError::bad(format!("cannot read the query: {error}")))?;
        let mut params = BTreeMap::new();
        for (key, value) in pairs {
            params.entry(key).or_insert(value);
        }
        Ok(Self(params))
    }
}

impl Params {
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Docker's lenient boolean: anything but nothing, 0, no, false and none.
    pub(super) fn flag(&self, key: &str) -> bool {
        let value = self.get(key).unwrap_or_default().trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// Docker's strict boolean, as Go's `strconv.ParseBool` reads it; absent is false.
    pub(super) fn strict_flag(&self, key: &str) -> Result<bool, ApiError> {
        match self.get(key) {
            None | Some("" | "0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
            Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
            Some(other) => Err(ApiError::bad(format!("invalid value for {key}: {other}"))),
        }
    }

    /// The object version that an update must name.
    pub(super) fn version(&self, kind: &str) -> Result<u64, ApiError> {
        let text = self.get("version").unwrap_or_default();
        text.parse().map_err(|_| {
            ApiError::bad(format!(
                "invalid {kind} version '{text}': it must be the number under Version.Index"
            ))
        })
    }

    pub(super) fn filters(&self, known: &[&str]) -> Result<Filters, ApiError> {
        Filters::parse(self.get("filters").unwrap_or_default(), known)
    }
}

/// Parsed filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    pub(super) fn parse(text: &str, known: &[&str]) -> Result<Self, ApiError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let wrong = || ApiError::bad("invalid filter: expected JSON like {\"name\":[\"web\"]}");
        let value: Value = serde_json::from_str(text).map_err(|_| wrong())?;
        let mut filters = BTreeMap::new();
        for (key, values) in value.as_object().ok_or_else(wrong)? {
            if !known.contains(&key.as_str()) {
                return Err(ApiError::bad(format!("invalid filter '{key}'")));
            }
            let values: BTreeSet<String> = match values {
                Value::Object(map) => map.keys().cloned().collect(),
                Value::Array(list) => list
                    .iter()
                    .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong))
                    .collect::<Result<_, _>>()?,
                _ => return Err(wrong()),
            };
            filters.insert(key.clone(), values);
        }
        Ok(Self(filters))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|values| !values.is_empty())
    }

    pub(super) fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// True when the key is not filtered by, or one of its values passes.
    pub(super) fn any(&self, key: &str, passes: impl Fn(&str) -> bool) -> bool {
        !self.has(key) || self.values(key).any(passes)
    }

    /// True when every wanted label, `key` or `key=value`, is there.
    pub(super) fn labels<'a>(&self, key: &str, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.values(key).all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => get(name) == Some(value),
            None => get(wanted).is_some(),
        })
    }
}

/// The label lookup of a JSON object of strings.
pub(super) fn json_label<'a>(labels: Option<&'a Value>, name: &str) -> Option<&'a str> {
    labels?.get(name)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["name", "label"];

    #[test]
    fn both_shapes_mean_the_same() {
        let go = Filters::parse(r#"{"name":{"web":true,"db":false}}"#, KNOWN).unwrap();
        let list = Filters::parse(r#"{"name":["db","web"]}"#, KNOWN).unwrap();
        assert_eq!(go, list);
        assert!(go.any("name", |v| v == "web"));
        assert!(!go.any("name", |v| v == "x"));
    }

    #[test]
    fn nothing_filters_nothing() {
        for text in ["", " ", "{}", r#"{"name":[]}"#] {
            assert!(Filters::parse(text, KNOWN).unwrap().any("name", |_| false), "{text}");
        }
    }

    #[test]
    fn labels_must_all_hold() {
        let labels = serde_json::json!({"a": "1", "b": "2"});
        let matches = |text: &str| {
            Filters::parse(text, KNOWN)
                .unwrap()
                .labels("label", |name| json_label(Some(&labels), name))
        };
        assert!(matches(r#"{"label":["a","b=2"]}"#));
        assert!(!matches(r#"{"label":["a","b=3"]}"#));
        assert!(!matches(r#"{"label":["c"]}"#));
    }

    #[test]
    fn bad_filters_are_refused() {
        for text in ["[", "[]", "1", r#"{"name":"web"}"#, r#"{"name":[1]}"#, r#"{"bogus":["x"]}"#] {
            assert_eq!(Filters::parse(text, KNOWN).unwrap_err().status, 400, "{text}");
        }
    }
}
