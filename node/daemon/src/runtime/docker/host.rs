//! What the engine says of its host.

use std::collections::BTreeMap;

use membership::member::Resources;

use super::engine::{Engine, READ_DEADLINE};
use crate::runtime::{HostError, HostInfo};

pub(super) async fn host(engine: &Engine) -> Result<HostInfo, HostError> {
    let info = engine
        .call("describe its host", READ_DEADLINE, |docker| async move { docker.info().await })
        .await
        .map_err(|error| HostError::EngineUnavailable {
            engine: engine.socket().display().to_string(),
            reason: error.to_string(),
        })?;
    let positive = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    let label = |text: String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (text, String::new()),
    };
    Ok(HostInfo {
        capacity: Resources {
            cpu_milli: positive(info.ncpu).saturating_mul(1000),
            memory_bytes: positive(info.mem_total),
        },
        hostname: info.name.unwrap_or_default(),
        os: info.os_type.unwrap_or_else(|| "linux".to_owned()),
        arch: info.architecture.unwrap_or_default(),
        engine_version: info.server_version.unwrap_or_default(),
        labels: info.labels.into_iter().flatten().map(label).collect::<BTreeMap<_, _>>(),
    })
}
