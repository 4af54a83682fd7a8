//! Routes of HTTP requests to services, from the labels that services carry.
//!
//! The labels are Traefik's, where they fit, since people have them:
//!
//! ```text
//! traefik.http.routers.NAME.rule                      which requests (see rule.rs); without it there is no route
//! traefik.http.routers.NAME.priority                  the greater goes first; usual is the length of the rule
//! traefik.http.routers.NAME.entrypoints               web (HTTP), websecure (HTTPS), or both, which is usual
//! traefik.http.routers.NAME.tls=true                  HTTPS only
//! traefik.http.routers.NAME.service                   which of the services below; usual is NAME, or the only one
//! traefik.http.services.NAME.loadbalancer.server.port the port in the container; usual is the first that is published
//! traefik.http.services.NAME.loadbalancer.server.scheme  http (usual) or h2c
//! traefik.enable=true                                 without it none of these labels counts
//! ```
//!
//! That they have to be asked for is because a service with routes gets an address on the ingress network, as one with a
//! published port does. A label that is not understood takes its route away and nothing else, and is said: the same service may carry
//! labels for a Traefik that runs beside shoal, so they are no reason to refuse it.

pub mod rule;

use std::collections::BTreeMap;

use rule::{Rule, RuleError};
use serde_json::Value;

/// What requests reach a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The router's name in the labels.
    pub name: String,
    pub rule: Rule,
    /// The greater goes first.
    pub priority: u64,
    /// Taken over HTTP.
    pub plain: bool,
    /// Taken over HTTPS.
    pub secure: bool,
    /// The port in the containers.
    pub port: u16,
    /// The containers speak HTTP/2 without TLS.
    pub h2c: bool,
}

/// Why a route does not exist although labels speak of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("route '{name}': {error}")]
    Rule { name: String, error: RuleError },
    #[error("route '{name}': the label '{label}' has the value '{value}', which is not {wanted}")]
    Value { name: String, label: String, value: String, wanted: &'static str },
    #[error(
        "route '{name}': no port is known. Say it with the label traefik.http.services.{name}.loadbalancer.server.port"
    )]
    NoPort { name: String },
}

/// The label without which the others do not count.
const ENABLE: &str = "traefik.enable";

/// The routes of a spec, as [`routes`].
pub fn of_spec(spec: &Value, published: Option<u16>) -> (Vec<Route>, Vec<RouteError>) {
    let labels = spec.get("Labels").and_then(Value::as_object);
    let labels = labels.into_iter().flatten();
    routes(labels.filter_map(|(label, value)| Some((label.as_str(), value.as_str()?))), published)
}

/// Whether a spec asks for routes at all.
pub(crate) fn are_wanted(spec: &Value) -> bool {
    !of_spec(spec, Some(80)).0.is_empty()
}

/// The routes that a service's labels ask for, and what is wrong with the others. `published` is the service's first
/// published target port.
#[must_use]
pub fn routes<'a>(
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    published: Option<u16>,
) -> (Vec<Route>, Vec<RouteError>) {
    let mut routers: BTreeMap<&str, BTreeMap<String, &str>> = BTreeMap::new();
    let mut services: BTreeMap<&str, BTreeMap<String, &str>> = BTreeMap::new();
    let mut enabled = false;
    for (label, value) in labels {
        enabled |= label == ENABLE && value.eq_ignore_ascii_case("true");
        for (prefix, kind) in
            [("traefik.http.routers.", &mut routers), ("traefik.http.services.", &mut services)]
        {
            let of = label.strip_prefix(prefix).and_then(|rest| rest.split_once('.'));
            if let Some((name, setting)) = of {
                kind.entry(name).or_default().insert(setting.to_ascii_lowercase(), value);
            }
        }
    }
    let mut found = Vec::new();
    let mut wrong = Vec::new();
    routers.retain(|_, _| enabled);
    for (name, settings) in &routers {
        match route(name, settings, &services, published) {
            Some(Ok(route)) => found.push(route),
            Some(Err(error)) => wrong.push(error),
            None => {}
        }
    }
    (found, wrong)
}

fn route(
    name: &str,
    settings: &BTreeMap<String, &str>,
    services: &BTreeMap<&str, BTreeMap<String, &str>>,
    published: Option<u16>,
) -> Option<Result<Route, RouteError>> {
    let text = settings.get("rule")?;
    Some(read(name, text, settings, services, published))
}

fn read(
    name: &str,
    text: &str,
    settings: &BTreeMap<String, &str>,
    services: &BTreeMap<&str, BTreeMap<String, &str>>,
    published: Option<u16>,
) -> Result<Route, RouteError> {
    let wrong = |label: &str, value: &str, wanted| RouteError::Value {
        name: name.to_owned(),
        label: label.to_owned(),
        value: value.to_owned(),
        wanted,
    };
    let rule =
        Rule::parse(text).map_err(|error| RouteError::Rule { name: name.to_owned(), error })?;
    let priority = match settings.get("priority") {
        Some(value) => value.parse().map_err(|_| wrong("priority", value, "a whole number"))?,
        None => text.len() as u64,
    };
    let entries = settings.get("entrypoints").copied().unwrap_or("web,websecure");
    let enters = |wanted: &str| entries.split(',').any(|one| one.trim() == wanted);
    let secure_only = settings.get("tls").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let (plain, secure) = (enters("web") && !secure_only, enters("websecure") || secure_only);
    if !plain && !secure {
        return Err(wrong("entrypoints", entries, "'web', 'websecure' or both"));
    }
    let of = match settings.get("service") {
        Some(named) => services.get(*named),
        None => {
            services.get(name).or_else(|| services.values().next().filter(|_| services.len() == 1))
        }
    };
    let said = |setting: &str| of.and_then(|of| of.get(setting)).copied();
    let port = match said("loadbalancer.server.port") {
        Some(value) => value
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| wrong("loadbalancer.server.port", value, "a port"))?,
        None => published.ok_or_else(|| RouteError::NoPort { name: name.to_owned() })?,
    };
    let h2c = match said("loadbalancer.server.scheme") {
        None | Some("http") => false,
        Some("h2c") => true,
        Some(value) => return Err(wrong("loadbalancer.server.scheme", value, "'http' or 'h2c'")),
    };
    Ok(Route { name: name.to_owned(), rule, priority, plain, secure, port, h2c })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(
        labels: &[(&'static str, &'static str)],
        published: Option<u16>,
    ) -> (Vec<Route>, Vec<String>) {
        let enabled = [("traefik.enable", "true")];
        let (found, wrong) = routes(enabled.into_iter().chain(labels.iter().copied()), published);
        (found, wrong.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_usual_labels_make_a_route() {
        let labels = [
            ("traefik.http.routers.shop.rule", "Host(`shop.example`)"),
            ("traefik.http.services.shop.loadbalancer.server.port", "8080"),
            ("traefik.http.middlewares.shop.compress", "true"),
            ("unrelated", "1"),
        ];
        let (found, wrong) = of(&labels, Some(80));
        assert_eq!(wrong, [""; 0]);
        let [route] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((route.port, route.priority, route.h2c), (8080, 20, false));
        assert!(route.plain && route.secure);
    }

    #[test]
    fn what_is_not_said_is_as_in_traefik() {
        let rule = ("traefik.http.routers.a.rule", "Path(`/`)");
        assert_eq!(of(&[rule], Some(80)).0[0].port, 80);
        // The only service there is, whatever it is called.
        let other = ("traefik.http.services.b.loadbalancer.server.port", "81");
        assert_eq!(of(&[rule, other], Some(80)).0[0].port, 81);
        let third = ("traefik.http.services.c.loadbalancer.server.port", "82");
        assert_eq!(of(&[rule, other, third], Some(80)).0[0].port, 80);
        let named = ("traefik.http.routers.a.service", "c");
        assert_eq!(of(&[rule, other, third, named], Some(80)).0[0].port, 82);
        let tls = of(&[rule, ("traefik.http.routers.a.tls", "true")], Some(80)).0;
        assert_eq!((tls[0].plain, tls[0].secure), (false, true));
        let web = of(&[rule, ("traefik.http.routers.a.entrypoints", "web")], Some(80)).0;
        assert_eq!((web[0].plain, web[0].secure), (true, false));
        assert_eq!(routes([rule], Some(80)), (Vec::new(), Vec::new()));
        assert_eq!(routes([rule, ("traefik.enable", "false")], Some(80)), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_label_that_is_wrong_takes_its_route_only() {
        let good = ("traefik.http.routers.good.rule", "Path(`/`)");
        for (label, value, said) in [
            ("traefik.http.routers.bad.rule", "Hast(`x`)", "route 'bad': 'Hast' is not known"),
            ("traefik.http.routers.good2.priority", "x", ""),
            ("traefik.http.routers.good.priority", "-1", "'priority' has the value '-1'"),
            ("traefik.http.routers.good.entrypoints", "mail", "not 'web', 'websecure' or both"),
            ("traefik.http.services.x.loadbalancer.server.port", "0", "not a port"),
            ("traefik.http.services.x.loadbalancer.server.scheme", "https", "not 'http' or 'h2c'"),
        ] {
            let (found, wrong) = of(&[good, (label, value)], Some(80));
            assert_eq!(wrong.len(), usize::from(!said.is_empty()), "{label} {value}: {wrong:?}");
            assert!(wrong.iter().all(|wrong| wrong.contains(said)), "{wrong:?}");
            assert_eq!(
                found.len(),
                usize::from(label.contains("bad") || said.is_empty()),
                "{label}"
            );
        }
        let (_, wrong) = of(&[good], None);
        assert!(wrong[0].contains("no port is known"), "{wrong:?}");
    }
}
