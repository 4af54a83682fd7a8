//! Whether a container can be made from a spec: image, mounts, environment, health check.

use std::collections::BTreeSet;

use bollard::models::{HealthConfig, Mount, MountType, TaskSpecContainerSpec};

use serde::Deserialize;
use serde_json::Value;

use super::error::ApiError;
use crate::runtime::spec::Hardware;

/// Docker's: a health check may not run more often than once a millisecond.
const MIN_HEALTH_NANOS: i64 = 1_000_000;

pub(super) fn validate(container: &TaskSpecContainerSpec) -> Result<(), ApiError> {
    image(container.image.as_deref().unwrap_or_default())?;
    mounts(container.mounts.as_deref().unwrap_or_default())?;
    for entry in container.env.iter().flatten() {
        if entry.is_empty() || entry.starts_with('=') || entry.contains('\0') {
            return Err(ApiError::bad(format!("invalid environment variable: '{entry}'")));
        }
    }
    let labels = container.labels.clone().unwrap_or_default().into_iter().collect();
    Hardware::of(&labels).map_err(|bad| ApiError::bad(bad.to_string()))?;
    if container.stop_grace_period.is_some_and(|period| period < 0) {
        return Err(ApiError::bad("ContainerSpec: stop-grace-period cannot be negative"));
    }
    Ok(())
}

/// Docker's reference grammar, as far as it tells a usable name from a typing error.
fn image(image: &str) -> Result<(), ApiError> {
    if image.is_empty() {
        return Err(ApiError::bad("ContainerSpec: image reference must be provided"));
    }
    let (rest, digest_ok) = match image.split_once('@') {
        Some((rest, digest)) => (
            rest,
            digest.split_once(':').is_some_and(|(kind, hex)| {
                !kind.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
            }),
        ),
        None => (image, true),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    let tag_ok = tag.is_none_or(|tag| {
        (1..=128).contains(&tag.len())
            && !tag.starts_with(['.', '-'])
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    });
    let mut parts = path.split('/').peekable();
    let mut path_ok = true;
    let mut first = true;
    while let Some(part) = parts.next() {
        // The first of several components may be a registry, with capitals and a port.
        let registry = first && parts.peek().is_some();
        first = false;
        path_ok &= !part.is_empty()
            && part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
            && part.bytes().all(|b| {
                b.is_ascii_lowercase()
                    || b.is_ascii_digit()
                    || b"_.-".contains(&b)
                    || (registry && (b.is_ascii_uppercase() || b":[]".contains(&b)))
            });
    }
    if digest_ok && tag_ok && path_ok {
        Ok(())
    } else {
        Err(ApiError::bad(format!("ContainerSpec: \"{image}\" is not a valid repository/tag")))
    }
}

fn mounts(mounts: &[Mount]) -> Result<(), ApiError> {
    let mut targets = BTreeSet::new();
    for mount in mounts {
        let kind = mount.typ.map(|kind| kind.to_string()).unwrap_or_default();
        let refuse = |why: &str| {
            Err(ApiError::bad(format!("invalid mount config for type \"{kind}\": {why}")))
        };
        let target = mount.target.as_deref().unwrap_or_default();
        let source = mount.source.as_deref().unwrap_or_default();
        match mount.typ {
            None => {
                return Err(ApiError::bad("invalid mount config: field Type must not be empty"));
            }
            _ if target.is_empty() => return refuse("field Target must not be empty"),
            _ if !target.starts_with('/') => {
                return refuse(&format!(
                    "invalid mount path: '{target}' mount path must be absolute"
                ));
            }
            Some(MountType::BIND) if source.is_empty() => {
                return refuse("field Source must not be empty");
            }
            // A template such as {{.Node.Hostname}} is expanded where the container starts.
            Some(MountType::BIND) if !source.starts_with(['/', '{']) => {
                return refuse(&format!(
                    "invalid mount path: '{source}' mount path must be absolute"
                ));
            }
            Some(MountType::TMPFS) if !source.is_empty() => {
                return refuse("field Source must not be specified");
            }
            Some(_) => {}
        }
        if !targets.insert(target) {
            return Err(ApiError::bad(format!("ContainerSpec: duplicate mount point: {target}")));
        }
    }
    Ok(())
}

/// Checks the `Healthcheck` of a container's spec.
pub(super) fn health(check: &Value) -> Result<(), ApiError> {
    let check = Option::<HealthConfig>::deserialize(check)
        .map_err(|error| {
            ApiError::bad(format!("cannot read the service spec: Healthcheck: {error}"))
        })?
        .unwrap_or_default();
    for (name, nanos) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ] {
        if nanos.is_some_and(|nanos| nanos != 0 && nanos < MIN_HEALTH_NANOS) {
            return Err(ApiError::bad(format!(
                "ContainerSpec: {name} in Healthcheck cannot be less than 1ms"
            )));
        }
    }
    if check.retries.is_some_and(|retries| retries < 0) {
        return Err(ApiError::bad("ContainerSpec: Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_names_and_not_sentences() {
        for good in [
            "nginx",
            "nginx:1.27-alpine",
            "library/nginx:latest",
            "host.Example:5000/a/b_c:T.1",
            "a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "[::1]:5000/a:b",
        ] {
            assert_eq!(image(good), Ok(()), "{good}");
        }
        for bad in ["", "Nginx", "a b", "a:", "/a", "a//b", "a:-x", "a@sha256:xyz", "-a", "a\n"] {
            assert!(image(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_say_where_and_once() {
        let mount = |typ, source: &str, target: &str| Mount {
            typ,
            source: Some(source.to_owned()),
            target: Some(target.to_owned()),
            ..Mount::default()
        };
        let bind = Some(MountType::BIND);
        assert_eq!(
            mounts(&[mount(bind, "/a", "/b"), mount(Some(MountType::VOLUME), "v", "/c")]),
            Ok(())
        );
        for (bad, words) in [
            (vec![mount(bind, "/a", "")], "Target must not be empty"),
            (vec![mount(bind, "", "/a")], "Source must not be empty"),
            (vec![mount(bind, "a", "/a")], "must be absolute"),
            (vec![mount(Some(MountType::TMPFS), "a", "/a")], "must not be specified"),
            (vec![mount(bind, "/a", "/b"), mount(bind, "/c", "/b")], "duplicate mount point: /b"),
            (vec![mount(None, "/a", "/b")], "Type must not be empty"),
        ] {
            assert!(mounts(&bad).unwrap_err().message.contains(words), "{words}");
        }
    }
}
