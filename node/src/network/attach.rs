//! What a service's spec says of networks: which it is on, under which names, and which ports are open where.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use membership::id::NetworkId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::slot::{PortStatus, Protocol};
use crate::spec::{SpecError, at, part, wrong};

/// The most networks that one service may be on: what a task says of its addresses has to stay small.
const MAX_NETWORKS: usize = 12;
/// Ports that are given to services that publish one and do not say which, as in Swarm.
const DYNAMIC_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// A network that a service is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub network: NetworkId,
    /// Further names that it has there.
    pub aliases: Vec<String>,
}

/// Of a service's `EndpointSpec`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    /// Open on hosts that run a replica.
    pub host: Vec<PortStatus>,
    /// Open on every node; `published` is 0 until one was chosen.
    pub ingress: Vec<PortStatus>,
}

/// What was chosen for a service when it was created, kept so that it does not change when others come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chosen {
    /// Its virtual addresses, by network.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<String, Ipv4Addr>,
    /// Ports that are open on every node, by what they lead to: `tcp/80`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
}

impl Chosen {
    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.ports.is_empty()
    }

    pub(crate) fn address(&self, network: NetworkId) -> Option<Ipv4Addr> {
        self.addresses.get(&network.to_string()).copied()
    }

    /// Fills in what was chosen of the ports that a spec leaves open.
    pub(crate) fn fill(&self, ports: &mut [PortStatus]) {
        for port in ports.iter_mut().filter(|port| port.published == 0) {
            port.published = self.ports.get(&leads_to(port)).copied().unwrap_or(0);
        }
    }

    /// Chooses ports that are still open, not among `taken`.
    pub(crate) fn choose(
        &mut self,
        ports: &mut [PortStatus],
        mut taken: BTreeSet<(Protocol, u16)>,
    ) -> Result<(), String> {
        taken.extend(ports.iter().map(|port| (port.protocol, port.published)));
        for port in ports.iter_mut().filter(|port| port.published == 0) {
            let free = DYNAMIC_PORTS.into_iter().find(|n| !taken.contains(&(port.protocol, *n)));
            let free = free.ok_or_else(|| {
                format!(
                    "no port from {} to {} is free for {}: name one that is",
                    DYNAMIC_PORTS.start(),
                    DYNAMIC_PORTS.end(),
                    leads_to(port)
                )
            })?;
            port.published = free;
            taken.insert((port.protocol, free));
            self.ports.insert(leads_to(port), free);
        }
        Ok(())
    }
}

fn leads_to(port: &PortStatus) -> String {
    format!("{}/{}", port.protocol.name(), port.target)
}

/// The engine's own networks are no networks of the whole cluster; clients know them by name, and by that name filled
/// up to the length of an id.
fn is_engines_own(target: &str) -> bool {
    ["host", "bridge", "none"]
        .iter()
        .any(|name| target == *name || target == format!("{name:0<25}"))
}

/// The networks of the whole cluster that a spec asks for.
///
/// # Errors
/// What cannot be honoured, in words.
pub(crate) fn attachments(spec: &Value) -> Result<Vec<Attachment>, SpecError> {
    let of_task = at(spec, &["TaskTemplate", "Networks"]).and_then(Value::as_array);
    // Where both are given the older place does not count, as in Swarm.
    let listed = of_task.filter(|list| !list.is_empty());
    let listed = listed.or_else(|| at(spec, &["Networks"]).and_then(Value::as_array));
    let mut attachments: Vec<Attachment> = Vec::new();
    let mut own = None;
    for network in listed.into_iter().flatten() {
        let target = network.get("Target").and_then(Value::as_str).unwrap_or_default();
        if is_engines_own(target) {
            own = Some(target.trim_end_matches('0'));
            continue;
        }
        let id = target.parse().map_err(|_| wrong(format!("network {target} not found")))?;
        if attachments.iter().any(|known| known.network == id) {
            return Err(wrong(format!("network {target} is named twice")));
        }
        let aliases = network.get("Aliases").and_then(Value::as_array);
        let aliases = aliases.into_iter().flatten().filter_map(Value::as_str);
        attachments.push(Attachment { network: id, aliases: aliases.map(str::to_owned).collect() });
    }
    match own {
        Some(own @ ("host" | "none")) if !attachments.is_empty() => Err(wrong(format!(
            "a service on the network {own} cannot be on another network too: leave one of them out"
        ))),
        _ if attachments.len() > MAX_NETWORKS => Err(wrong(format!(
            "a service can be on {MAX_NETWORKS} networks, and this one asks for {}",
            attachments.len()
        ))),
        _ => Ok(attachments),
    }
}

/// Whether names stand for the addresses of the replicas instead of a virtual one.
pub(crate) fn is_dnsrr(spec: &Value) -> bool {
    at(spec, &["EndpointSpec", "Mode"]).and_then(Value::as_str) == Some("dnsrr")
}

/// The name servers that a task template gives its containers.
///
/// # Errors
/// One of them is no address.
pub(crate) fn resolvers(task: &Value) -> Result<Vec<IpAddr>, SpecError> {
    let listed = at(task, &["ContainerSpec", "DNSConfig", "Nameservers"]).and_then(Value::as_array);
    let read = |server: &Value| {
        let text = server.as_str().unwrap_or_default();
        text.parse().map_err(|_| {
            wrong(format!("ContainerSpec.DNSConfig.Nameservers: {server} is not an IP address"))
        })
    };
    listed.into_iter().flatten().map(read).collect()
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawPort {
    protocol: Option<String>,
    target_port: Option<u32>,
    published_port: Option<u32>,
    publish_mode: Option<String>,
}

/// The ports that a spec publishes.
///
/// # Errors
/// The field that is wrong.
pub(crate) fn ports(spec: &Value) -> Result<Ports, SpecError> {
    let mut ports = Ports::default();
    let listed = at(spec, &["EndpointSpec", "Ports"]).and_then(Value::as_array);
    for port in listed.into_iter().flatten() {
        let raw: RawPort = part(Some(port), "EndpointSpec.Ports")?;
        let number = |n: Option<u32>, what: &str| {
            u16::try_from(n.unwrap_or(0))
                .map_err(|_| wrong(format!("EndpointSpec.Ports: {what} is above 65535")))
        };
        let target = number(raw.target_port, "TargetPort")?;
        if target == 0 {
            return Err(wrong("EndpointSpec.Ports: TargetPort is missing"));
        }
        let protocol = match raw.protocol.as_deref() {
            None | Some("" | "tcp") => Protocol::Tcp,
            Some("udp") => Protocol::Udp,
            Some("sctp") => Protocol::Sctp,
            Some(other) => {
                return Err(wrong(format!(
                    "EndpointSpec.Ports: protocol '{other}' is not one of tcp, udp, sctp"
                )));
            }
        };
        let published = number(raw.published_port, "PublishedPort")?;
        let port = PortStatus { protocol, target, published };
        match raw.publish_mode.as_deref() {
            Some("host") => ports.host.push(port),
            None | Some("" | "ingress") if protocol == Protocol::Sctp => {
                return Err(wrong(
                    "EndpointSpec.Ports: publishing an sctp port on every node is not supported: publish it with mode=host",
                ));
            }
            None | Some("" | "ingress") => ports.ingress.push(port),
            Some(other) => {
                return Err(wrong(format!(
                    "EndpointSpec.Ports: publish mode '{other}' is not one of ingress, host"
                )));
            }
        }
    }
    if is_dnsrr(spec) && !ports.ingress.is_empty() {
        return Err(wrong(
            "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
        ));
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_networks_of_the_task_count_before_the_older_place() {
        let id = NetworkId(77).to_string();
        let of = |spec: Value| attachments(&spec);
        let both = json!({
            "Networks": [{"Target": NetworkId(5).to_string()}],
            "TaskTemplate": {"Networks": [{"Target": id, "Aliases": ["db", "store"]}]},
        });
        let aliases = vec!["db".to_owned(), "store".to_owned()];
        assert_eq!(of(both), Ok(vec![Attachment { network: NetworkId(77), aliases }]));
        let older = of(json!({"Networks": [{"Target": id}], "TaskTemplate": {"Networks": []}}));
        assert_eq!(older.unwrap()[0].network, NetworkId(77));
        for own in ["host", "none", "bridge0000000000000000000"] {
            assert_eq!(of(json!({"Networks": [{"Target": own}]})), Ok(Vec::new()), "{own}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_said() {
        let id = NetworkId(77).to_string();
        let many: Vec<Value> =
            (0..20).map(|n| json!({"Target": NetworkId(n).to_string()})).collect();
        for (networks, says) in [
            (json!([{"Target": "web"}]), "network web not found"),
            (json!([{"Target": id}, {"Target": id}]), "named twice"),
            (json!([{"Target": id}, {"Target": "host"}]), "network host cannot"),
            (json!(many), "12 networks"),
        ] {
            let error = attachments(&json!({"Networks": networks})).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        for (endpoint, says) in [
            (json!({"Ports": [{"TargetPort": 80}], "Mode": "dnsrr"}), "dnsrr"),
            (json!({"Ports": [{"TargetPort": 80, "Protocol": "sctp"}]}), "mode=host"),
            (json!({"Ports": [{"TargetPort": 80, "PublishMode": "some"}]}), "'some'"),
            (json!({"Ports": [{"PublishedPort": 80}]}), "TargetPort"),
        ] {
            let error = ports(&json!({"EndpointSpec": endpoint})).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn name_servers_are_addresses() {
        let of = |servers: Value| {
            resolvers(&json!({"ContainerSpec": {"DNSConfig": {"Nameservers": servers}}}))
        };
        assert_eq!(of(json!(["9.9.9.9", "fd00::1"])).unwrap().len(), 2);
        assert_eq!((of(json!(null)), resolvers(&json!({}))), (Ok(vec![]), Ok(vec![])));
        assert!(of(json!(["dns.example"])).unwrap_err().to_string().contains("\"dns.example\""));
    }

    #[test]
    fn a_port_that_was_chosen_stays() {
        let spec = json!({"EndpointSpec": {"Ports": [
            {"TargetPort": 80}, {"TargetPort": 81, "PublishedPort": 30_001},
        ]}});
        let mut open = ports(&spec).unwrap().ingress;
        let mut chosen = Chosen::default();
        chosen.choose(&mut open, BTreeSet::from([(Protocol::Tcp, 30_000)])).unwrap();
        assert_eq!(open[0].published, 30_002);
        let mut again = ports(&spec).unwrap().ingress;
        chosen.fill(&mut again);
        assert_eq!(again, open);
        assert_eq!(serde_json::to_string(&chosen).unwrap(), r#"{"ports":{"tcp/80":30002}}"#);
    }
}
