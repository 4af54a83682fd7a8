//! `/_ping`, `/version` and `/info`: the engine's own answers with the cluster's part put in, or our
//! own where there is no engine (or it hangs: Swarm commands must not wait for it).

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::backend::StatusView;
use super::rfc3339;
use super::state::Api;
use super::swarm_json::swarm_info;

pub(super) async fn ping(State(api): State<Api>) -> Response {
    let facts = api.engine.facts();
    let mut response = "OK".into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert("Swarm", HeaderValue::from_static("active/manager"));
    if let Some(builder) = facts.builder.and_then(|b| HeaderValue::from_str(&b).ok()) {
        headers.insert("Builder-Version", builder);
    }
    response
}

pub(super) async fn version(State(api): State<Api>) -> Json<Value> {
    let status = api.backend.status().await;
    let mut out = match asked(&api, "/version").await {
        Some(version) => version,
        None => own_version(&api, &status),
    };
    let shoal = json!({ "Name": "shoal", "Version": status.shoal_version, "Details": {} });
    match out.get_mut("Components").and_then(Value::as_array_mut) {
        Some(components) => components.push(shoal),
        None => out["Components"] = json!([shoal]),
    }
    Json(out)
}

/// The engine's answer, if there is an engine that gives one.
async fn asked(api: &Api, path: &str) -> Option<Value> {
    if !api.engine.exists() {
        return None;
    }
    match api.engine.get_json(path).await {
        Ok(answer) if answer.is_object() => Some(answer),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, path, "answering without the engine");
            None
        }
    }
}

fn own_version(api: &Api, status: &StatusView) -> Value {
    let facts = api.engine.facts();
    json!({
        "Platform": { "Name": "shoal" },
        "Version": status.shoal_version,
        "ApiVersion": facts.api_version.to_string(),
        "MinAPIVersion": facts.min_version.to_string(),
        "GitCommit": "",
        "GoVersion": "",
        "Os": status.os,
        "Arch": go_arch(&status.arch),
        "KernelVersion": kernel_release(),
        "BuildTime": "",
    })
}

/// Go's names for what the kernel calls otherwise.
fn go_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map(|names| names.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

pub(super) async fn info(State(api): State<Api>) -> Json<Value> {
    let mut out = match asked(&api, "/info").await {
        Some(info) => info,
        None => own_info(&api, &api.backend.status().await),
    };
    let (cluster, members) = tokio::join!(api.backend.cluster(), api.backend.members());
    out["Swarm"] = swarm_info(&cluster, &members);
    Json(out)
}

fn own_info(api: &Api, status: &StatusView) -> Value {
    let warning = if api.engine.exists() {
        "WARNING: the Docker engine does not answer; only the cluster's part is shown"
    } else {
        "WARNING: this node runs its services as plain processes, without a Docker engine"
    };
    let mut out = json!({
        "Name": status.name,
        "ServerVersion": status.shoal_version,
        "OSType": status.os,
        "OperatingSystem": status.os,
        "Architecture": status.arch,
        "KernelVersion": kernel_release(),
        "NCPU": status.cpus,
        "MemTotal": status.memory_bytes,
        "DockerRootDir": status.data_dir.display().to_string(),
        "SystemTime": rfc3339::from_wall(super::event_log::now_wall()),
        "LiveRestoreEnabled": true,
        "Plugins": { "Volume": [], "Network": [], "Authorization": null, "Log": [] },
        "Runtimes": {},
        "Labels": [],
        "SecurityOptions": [],
        "Warnings": [warning],
    });
    // The CLI warns about each of these that is false.
    for limit in [
        "MemoryLimit",
        "SwapLimit",
        "CpuCfsPeriod",
        "CpuCfsQuota",
        "CPUShares",
        "CPUSet",
        "PidsLimit",
        "IPv4Forwarding",
    ] {
        out[limit] = json!(true);
    }
    for count in
        ["Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped", "Images"]
    {
        out[count] = json!(0);
    }
    for text in ["ID", "Driver", "LoggingDriver", "CgroupDriver", "DefaultRuntime", "InitBinary"] {
        out[text] = json!("");
    }
    for commit in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
        out[commit] = json!({ "ID": "" });
    }
    out
}
