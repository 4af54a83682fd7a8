//! From a request to its endpoint: the version prefix comes off, what is ours is answered here, and
//! everything else goes to the engine.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Uri};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::assets::{self, configs, secrets};
use super::engine::Facts;
use super::error::ApiError;
use super::passthrough::{self, AsWritten};
use super::state::{Api, body_first};
use super::{
    attach, events, foresight, logs, networks, nodes, own, services, swarm, system, tasks, version,
};

/// All endpoints, for requests without a version prefix.
pub(super) fn router(api: Api) -> Router {
    let swarm_wide = Router::new()
        .route("/services", get(services::list))
        .route("/services/create", post(services::create))
        .route("/services/{id}", get(services::inspect).delete(services::remove))
        .route("/services/{id}/update", post(services::update))
        .route("/services/{id}/logs", get(logs::of_service))
        .route("/tasks", get(tasks::list))
        .route("/tasks/{id}", get(tasks::inspect))
        .route("/tasks/{id}/logs", get(logs::of_task))
        .route("/nodes", get(nodes::list))
        .route("/nodes/{id}", get(nodes::inspect).delete(nodes::remove))
        .route("/nodes/{id}/update", post(nodes::update))
        .route("/swarm", get(swarm::inspect))
        .route("/swarm/init", post(swarm::init))
        .route("/swarm/join", post(swarm::join))
        .route("/swarm/leave", post(swarm::leave))
        .route("/swarm/update", post(swarm::update))
        .route("/swarm/unlockkey", get(swarm::unlock_key))
        .route("/swarm/unlock", post(swarm::unlock));
    let assets = Router::new()
        .route("/secrets", get(secrets::list))
        .route("/secrets/create", post(secrets::create))
        .route("/secrets/{id}", get(secrets::inspect).delete(secrets::remove))
        .route("/secrets/{id}/update", post(secrets::update))
        .route("/configs", get(configs::list))
        .route("/configs/create", post(configs::create))
        .route("/configs/{id}", get(configs::inspect).delete(configs::remove))
        .route("/configs/{id}/update", post(configs::update))
        .route("/shoal/v1/configs/{id}/data", post(assets::replace));
    let networks = Router::new()
        .route("/networks", get(networks::list))
        .route("/networks/create", post(networks::create))
        .route("/networks/{id}", get(networks::inspect).delete(networks::remove))
        .route("/networks/{id}/connect", post(attach::connect))
        .route("/networks/{id}/disconnect", post(attach::disconnect))
        .route("/containers/create", post(attach::create_container));
    let host = Router::new()
        .route("/_ping", get(system::ping))
        .route("/version", get(system::version))
        .route("/info", get(system::info))
        .route("/events", get(events::stream));
    let own = Router::new()
        .route("/shoal/v1/status", get(own::status))
        .route("/shoal/v1/token", get(own::token))
        .route("/shoal/v1/leave", post(own::leave))
        .route("/shoal/v1/plan", post(foresight::plan))
        .route("/shoal/v1/explain/{what}", get(foresight::explain))
        .route("/shoal/v1/members", get(own::members))
        .route("/shoal/v1/members/{id}", get(own::inspect_member))
        .route("/shoal/v1/conflicts", get(own::conflicts))
        .route(
            "/shoal/v1/conflicts/{id}",
            get(own::inspect_conflict).delete(own::dismiss_conflict),
        );
    swarm_wide
        .merge(assets)
        .merge(networks)
        .merge(host)
        .merge(own)
        .route_layer(middleware::from_fn(body_first))
        .fallback(passthrough::forward_or_refuse)
        .method_not_allowed_fallback(|| async { ApiError::no_such_page() })
        .with_state(api)
}

/// Answers one request, whatever it is.
pub(super) async fn answer(api: Api, router: Router, mut request: Request) -> Response {
    let facts = api.engine.facts();
    let mut response = match without_version(&facts, &mut request) {
        Ok(()) => match TowerToHyperService::new(router).call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        Err(error) => error.into_response(),
    };
    add_headers(&facts, &mut response);
    response
}

fn without_version(facts: &Facts, request: &mut Request<Body>) -> Result<(), ApiError> {
    let uri = request.uri().clone();
    let (asked, path) = version::split(uri.path());
    if let Some(asked) = asked {
        version::check(asked, facts.min_version, facts.api_version)?;
    }
    let stripped = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    *request.uri_mut() = Uri::try_from(stripped).map_err(|_| ApiError::no_such_page())?;
    request.extensions_mut().insert(AsWritten(uri));
    Ok(())
}

/// Every response says which API it speaks; the engine's own answers say so already.
fn add_headers(facts: &Facts, response: &mut Response) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&facts.api_version.to_string()) {
        headers.insert("Api-Version", value);
    }
    if let Ok(value) = HeaderValue::from_str(&facts.os) {
        headers.insert("Ostype", value);
    }
    headers.entry("Docker-Experimental").or_insert(HeaderValue::from_static("false"));
    headers.entry("Server").or_insert(HeaderValue::from_static(concat!(
        "shoal/",
        env!("CARGO_PKG_VERSION"),
        " (linux)"
    )));
}
