//! `GET /events`: the engine's events and the cluster's, one JSON object a line, as they happen.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::{broadcast, mpsc};

use super::error::ApiError;
use super::event_log::{self, Event};
use super::filters::{Filters, Params};
use super::passthrough::AsWritten;
use super::rfc3339;
use super::state::Api;

/// How many lines wait for a slow client before the readers wait too (and then lose the oldest).
const QUEUE: usize = 64;
/// The longest line of the engine's that is passed on; a longer one ends its part of the stream.
const MAX_LINE_BYTES: usize = 1024 * 1024;

const FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];
/// Filters by an object of a kind that shoal has no events for.
const NOT_OURS: &[&str] = &["container", "daemon", "image", "plugin", "volume"];

pub(super) async fn stream(
    State(api): State<Api>,
    params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    let filters = params.filters(FILTERS)?;
    let time = |key: &str| match params.get(key).unwrap_or_default() {
        "" => Ok(None),
        text => rfc3339::parse(text)
            .map(Some)
            .ok_or_else(|| ApiError::bad(format!("invalid value for \"{key}\": {text}"))),
    };
    let (since, until) = (time("since")?, time("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        let said = |key: &str| params.get(key).unwrap_or_default();
        return Err(ApiError::bad(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            said("since"),
            said("until")
        )));
    }
    let (sender, mut receiver) = mpsc::channel::<Bytes>(QUEUE);
    tokio::spawn(ours(Arc::clone(&api), filters, since, until, sender.clone()));
    if api.engine.exists() {
        tokio::spawn(engines(api, request, sender));
    }
    let lines = futures_util::stream::poll_fn(move |cx| {
        receiver.poll_recv(cx).map(|line| line.map(Ok::<_, Infallible>))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response())
}

async fn ours(
    api: Api,
    filters: Filters,
    since: Option<i64>,
    until: Option<i64>,
    out: mpsc::Sender<Bytes>,
) {
    let (recent, mut news) = api.events.replay_and_follow();
    let wanted = |event: &Event| {
        until.is_none_or(|until| event.at <= until) && matches(&filters, &event.body)
    };
    for event in recent {
        if since.is_some_and(|since| event.at >= since)
            && wanted(&event)
            && out.send(line(&event.body)).await.is_err()
        {
            return;
        }
    }
    let left = until.map(|until| {
        Duration::from_nanos(u64::try_from(until - event_log::now_nanos()).unwrap_or_default())
    });
    let end = async {
        match left {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return,
            () = out.closed() => return,
            event = news.recv() => match event {
                Ok(event) if wanted(&event) => {
                    if out.send(line(&event.body)).await.is_err() {
                        return;
                    }
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
        }
    }
}

fn line(body: &Value) -> Bytes {
    Bytes::from(format!("{body}\n"))
}

fn matches(filters: &Filters, event: &Value) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, action) = (text(&event["Type"]), text(&event["Action"]));
    let (id, attributes) = (text(&event["Actor"]["ID"]), &event["Actor"]["Attributes"]);
    let name = text(&attributes["name"]);
    let is = |key: &str| {
        filters.any(key, |wanted| kind == key && (id.starts_with(wanted) || name == wanted))
    };
    filters.any("type", |wanted| wanted == kind)
        && filters.any("event", |wanted| wanted == action)
        && filters.any("scope", |wanted| wanted == "swarm")
        && is("service")
        && is("node")
        && is("secret")
        && is("config")
        && filters.labels("label", |name| attributes[name].as_str())
        && !NOT_OURS.iter().any(|key| filters.has(key))
}

/// The engine's events, a whole line at a time, so that the two never mix within one.
async fn engines(api: Api, request: Request, out: mpsc::Sender<Bytes>) {
    let (mut head, _) = request.into_parts();
    let Some(AsWritten(uri)) = head.extensions.remove::<AsWritten>() else { return };
    let path = uri.path_and_query().map_or("/events", |path| path.as_str());
    let asked = axum::http::Request::builder()
        .method(Method::GET)
        .uri(path)
        .header(header::HOST, "docker")
        .body(Body::empty());
    let Ok(asked) = asked else { return };
    let reading = async {
        let mut body = match api.engine.send(asked).await {
            Ok(response) if response.status().is_success() => response.into_body(),
            Ok(response) => {
                tracing::debug!(status = %response.status(), "the engine refused to show events");
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "events are shown without the engine's");
                return;
            }
        };
        let mut rest = BytesMut::new();
        while let Some(Ok(frame)) = body.frame().await {
            let Some(data) = frame.data_ref() else { continue };
            rest.extend_from_slice(data);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                if out.send(rest.split_to(end + 1).freeze()).await.is_err() {
                    return;
                }
            }
            if rest.len() > MAX_LINE_BYTES {
                return;
            }
        }
    };
    tokio::select! {
        () = out.closed() => {}
        () = reading => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn filters_choose_among_our_events() {
        let event = json!({
            "Type": "service", "Action": "update",
            "Actor": {"ID": "abc", "Attributes": {"name": "web", "replicas.new": "3"}},
        });
        let chosen = |text: &str| matches(&Filters::parse(text, FILTERS).unwrap(), &event);
        for yes in [
            "",
            r#"{"type":["service","node"]}"#,
            r#"{"service":["web"]}"#,
            r#"{"service":["ab"]}"#,
            r#"{"event":["update"],"scope":["swarm"]}"#,
            r#"{"label":["replicas.new=3"]}"#,
        ] {
            assert!(chosen(yes), "{yes}");
        }
        for no in [
            r#"{"type":["container"]}"#,
            r#"{"container":["abc"]}"#,
            r#"{"node":["web"]}"#,
            r#"{"service":["db"]}"#,
            r#"{"scope":["local"]}"#,
        ] {
            assert!(!chosen(no), "{no}");
        }
    }
}
