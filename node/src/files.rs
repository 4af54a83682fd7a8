//! The files that a task gets from secrets and configs: what its spec asks for, and what the runtime
//! is told.
//!
//! A relative target lies in `/run/secrets` for a secret and in `/` for a config, as in Swarm. The
//! content of a secret is sealed all the way; only the runtime of the node that starts the task
//! opens it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use membership::id::AssetId;
use serde_json::Value;

use crate::assets::{AssetKind, Assets};

/// Bytes that no log shows.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Content(Arc<[u8]>);

impl Content {
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// One file that a container spec asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub kind: AssetKind,
    pub id: AssetId,
    /// The name of the secret or config, for messages.
    pub name: String,
    /// `File.Name` as it stands in the spec: what templated contents look it up by.
    pub target: String,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

/// Readable by everybody in the container, as Docker's clients send it.
const DEFAULT_MODE: u32 = 0o444;

impl Reference {
    /// All that a `TaskTemplate` asks for.
    ///
    /// # Errors
    /// What is wrong with one of them, in Swarm's words where it has them.
    pub(crate) fn all(template: &Value) -> Result<Vec<Self>, String> {
        let container = template.get("ContainerSpec").unwrap_or(&Value::Null);
        let mut all = Vec::new();
        let mut paths: BTreeMap<String, String> = BTreeMap::new();
        for (kind, list, id, name) in [
            (AssetKind::Secret, "Secrets", "SecretID", "SecretName"),
            (AssetKind::Config, "Configs", "ConfigID", "ConfigName"),
        ] {
            for item in container.get(list).and_then(Value::as_array).into_iter().flatten() {
                let reference = Self::read(kind, item, id, name)?;
                let path = reference.path();
                if let Some(other) = paths.insert(path, reference.name.clone()) {
                    return Err(format!(
                        "{} references '{other}' and '{}' have a conflicting target: '{}'",
                        kind.name(),
                        reference.name,
                        reference.target
                    ));
                }
                all.push(reference);
            }
        }
        Ok(all)
    }

    fn read(kind: AssetKind, item: &Value, id: &str, name: &str) -> Result<Self, String> {
        let word = kind.name();
        let text = |field: &str| item.get(field).and_then(Value::as_str).unwrap_or_default();
        let name = text(name).to_owned();
        if item.get("Runtime").is_some_and(|runtime| !runtime.is_null()) {
            return Err(format!(
                "{word} {name}: a runtime target is not supported: it exists for credential specs on Windows hosts; give it a File target"
            ));
        }
        let id = text(id)
            .parse()
            .map_err(|_| format!("malformed {word} reference: {word} '{name}' has no id"))?;
        let file = item.get("File").filter(|file| file.is_object());
        let file =
            file.ok_or_else(|| format!("malformed {word} reference: '{name}' has no File"))?;
        let target = file.get("Name").and_then(Value::as_str).unwrap_or_default().to_owned();
        check_target(&target).map_err(|why| format!("malformed file {word} reference: {why}"))?;
        let owner = |field: &str| match file.get(field) {
            None | Some(Value::Null) => Ok(0),
            Some(Value::String(text)) if text.is_empty() => Ok(0),
            Some(Value::String(text)) => {
                text.parse().map_err(|_| format!("{word} {name}: {field} '{text}' is not a number"))
            }
            Some(other) => Err(format!("{word} {name}: {field} {other} is not a number in text")),
        };
        let mode = match file.get("Mode") {
            None | Some(Value::Null) => DEFAULT_MODE,
            Some(mode) => mode
                .as_u64()
                .and_then(|mode| u32::try_from(mode).ok())
                .filter(|mode| *mode <= 0o7777)
                .ok_or_else(|| format!("{word} {name}: Mode {mode} is not a file mode"))?,
        };
        let (uid, gid) = (owner("UID")?, owner("GID")?);
        Ok(Self { kind, id, name, target, uid, gid, mode })
    }

    /// Where in the container it is.
    pub(crate) fn path(&self) -> String {
        let base = match self.kind {
            AssetKind::Secret => "/run/secrets/",
            AssetKind::Config => "/",
        };
        let joined = if self.target.starts_with('/') {
            self.target.clone()
        } else {
            format!("{base}{}", self.target)
        };
        let parts: Vec<&str> =
            joined.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        format!("/{}", parts.join("/"))
    }
}

fn check_target(target: &str) -> Result<(), String> {
    let parts = || target.split('/').filter(|part| !part.is_empty() && *part != ".");
    if parts().next().is_none() {
        return Err("no target provided".to_owned());
    }
    if parts().any(|part| part == "..") || target.contains('\0') || target.len() > 4096 {
        return Err(format!("invalid target {}", target.escape_debug()));
    }
    Ok(())
}

/// One file of one task, with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFile {
    pub kind: AssetKind,
    pub id: AssetId,
    pub name: String,
    /// What templated contents look it up by.
    pub target: String,
    /// Absolute, in the container.
    pub path: String,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    /// Of a secret: sealed.
    pub content: Content,
    /// The content is a template, to be expanded with [`TaskFiles::words`] and [`TaskFiles::env`].
    pub templated: bool,
    /// What the task is sent when this content has replaced another one.
    pub signal: Option<String>,
}

/// All files of one task, and what their templates are filled in with.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TaskFiles {
    pub files: Vec<TaskFile>,
    pub words: Value,
    /// The task's own environment, `NAME=VALUE`, with its templates expanded.
    pub env: Vec<String>,
}

impl TaskFiles {
    /// What the template asks for, with the contents as they are now.
    ///
    /// # Errors
    /// Which of it is not here (yet).
    pub(crate) fn gather(template: &Value, assets: &Assets) -> Result<Vec<TaskFile>, String> {
        let gather = |reference: Reference| {
            let found = assets.get(reference.kind, reference.id);
            let asset = found.ok_or_else(|| {
                format!("waiting for the {} {}", reference.kind.name(), reference.name)
            })?;
            Ok(TaskFile {
                path: reference.path(),
                kind: reference.kind,
                id: reference.id,
                name: reference.name,
                target: reference.target,
                uid: reference.uid,
                gid: reference.gid,
                mode: reference.mode,
                content: asset.content.clone(),
                templated: asset.is_templated(),
                signal: asset.signal.clone(),
            })
        };
        Reference::all(template)?.into_iter().map(gather).collect()
    }
}

/// Which contents of configs a task has: what is compared to see whether they have to be replaced.
pub(crate) type Editions = Vec<(AssetId, u64)>;

/// The editions of those configs that have been replaced since they were created. A task without
/// such a config has nothing to keep up with.
pub(crate) fn editions(template: &Value, assets: &Assets) -> Editions {
    let references = Reference::all(template).unwrap_or_default();
    references
        .iter()
        .filter(|r| r.kind == AssetKind::Config)
        .filter_map(|r| assets.get(r.kind, r.id))
        .filter(|asset| asset.edition > 0)
        .map(|asset| (asset.id, asset.digest))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(container: Value) -> Value {
        json!({ "ContainerSpec": container })
    }

    #[test]
    fn references_are_read_with_swarms_defaults() {
        let id = AssetId(7).to_string();
        let all = Reference::all(&template(json!({
            "Secrets": [{"SecretID": id, "SecretName": "key", "File": {"Name": "key", "UID": "5", "GID": "", "Mode": 0o400}}],
            "Configs": [
                {"ConfigID": id, "ConfigName": "site", "File": {"Name": "etc//./site.conf"}},
                {"ConfigID": id, "ConfigName": "site", "File": {"Name": "/etc/other"}, "Runtime": null},
            ],
        })))
        .unwrap();
        let paths: Vec<String> = all.iter().map(Reference::path).collect();
        assert_eq!(paths, ["/run/secrets/key", "/etc/site.conf", "/etc/other"]);
        assert_eq!((all[0].uid, all[0].gid, all[0].mode), (5, 0, 0o400));
        assert_eq!((all[1].uid, all[1].mode), (0, 0o444));
        assert_eq!(Reference::all(&json!(null)), Ok(Vec::new()));
    }

    #[test]
    fn each_wrong_reference_is_said() {
        let id = AssetId(7).to_string();
        let file = json!({"Name": "x"});
        for (container, says) in [
            (json!({"Secrets": [{"SecretName": "a", "File": file}]}), "malformed secret reference"),
            (json!({"Secrets": [{"SecretID": id}]}), "has no File"),
            (json!({"Secrets": [{"SecretID": id, "File": {"Name": ""}}]}), "no target"),
            (json!({"Secrets": [{"SecretID": id, "File": {"Name": "../x"}}]}), "invalid target"),
            (
                json!({"Configs": [{"ConfigID": id, "File": {"Name": "x", "UID": "root"}}]}),
                "'root' is not a number",
            ),
            (
                json!({"Configs": [{"ConfigID": id, "File": {"Name": "x", "Mode": -1}}]}),
                "not a file mode",
            ),
            (json!({"Configs": [{"ConfigID": id, "Runtime": {}}]}), "not supported"),
            (
                json!({"Configs": [
                    {"ConfigID": id, "ConfigName": "a", "File": {"Name": "/x"}},
                    {"ConfigID": id, "ConfigName": "b", "File": file}]}),
                "config references 'a' and 'b' have a conflicting target: 'x'",
            ),
        ] {
            let error = Reference::all(&template(container)).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
