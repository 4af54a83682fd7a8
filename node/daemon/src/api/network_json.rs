//! A network of the cluster as Docker's API shows it, and what services and tasks show of theirs.

use node::network::NetworkView;
use node::views::{ServiceView, TaskView};
use serde_json::{Map, Value, json};

use super::rfc3339;

/// The option that tells how packets travel between the hosts.
const WAY_OPTION: &str = "shoal.network.way";

fn way(view: &NetworkView) -> &'static str {
    if view.encrypted { "vxlan over tun and quic" } else { "vxlan" }
}

pub(super) fn network(view: &NetworkView) -> Value {
    let spec = &view.spec;
    let flag = |name: &str| spec[name].as_bool().unwrap_or(false);
    let mut options = spec["Options"].as_object().cloned().unwrap_or_default();
    let number = "com.docker.network.driver.overlay.vxlanid_list";
    options.insert(number.to_owned(), json!(view.vni.to_string()));
    if view.encrypted {
        // Also where nobody asked for it: as what was asked for is shown.
        options.entry("encrypted").or_insert_with(|| json!(""));
    }
    options.insert(WAY_OPTION.to_owned(), json!(way(view)));
    let mut config = json!({ "Subnet": view.subnet.to_string() });
    if let Some(gateway) = view.gateway {
        config["Gateway"] = json!(gateway.to_string());
    }
    json!({
        "Name": view.name,
        "Id": view.id.to_string(),
        "Created": rfc3339::from_wall(view.created),
        "Scope": "swarm",
        "Driver": "overlay",
        "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": null, "Config": [config] },
        "Internal": flag("Internal"),
        "Attachable": flag("Attachable"),
        "Ingress": flag("Ingress"),
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": null,
        "Options": options,
        // As a Swarm shows it: none is null.
        "Labels": spec["Labels"].as_object().filter(|labels| !labels.is_empty()),
    })
}

/// `verbose=true`: who is on it.
pub(super) fn services(
    view: &NetworkView,
    services: &[ServiceView],
    tasks: &[TaskView],
) -> Map<String, Value> {
    let on = services.iter().filter(|service| {
        let own = tasks.iter().filter(|task| task.service == service.id);
        view.services.contains_key(&service.id)
            || own.into_iter().any(|task| view.tasks.contains_key(&task.id()))
    });
    let shown = on.map(|service| {
        let address = view.services.get(&service.id);
        let own = tasks.iter().filter(|task| task.service == service.id);
        let tasks: Vec<Value> = own
            .filter_map(|task| {
                let (node, address) = view.tasks.get(&task.id())?;
                Some(json!({
                    "Name": format!("{}.{}.{}", service.name, task.slot(), task.id()),
                    "EndpointID": "",
                    "EndpointIP": address.to_string(),
                    "Info": { "Host": node.to_string() },
                }))
            })
            .collect();
        let shown = json!({
            "VIP": address.map(ToString::to_string).unwrap_or_default(),
            "Ports": [],
            "LocalLBIndex": 0,
            "Tasks": tasks,
        });
        (service.name.clone(), shown)
    });
    shown.collect()
}

/// A service's `Endpoint.VirtualIPs`.
pub(super) fn virtual_addresses(view: &ServiceView, networks: &[NetworkView]) -> Vec<Value> {
    let own = networks.iter().filter_map(|network| {
        let address = network.services.get(&view.id)?;
        let addr = format!("{address}/{}", network.subnet.prefix);
        Some(json!({ "NetworkID": network.id.to_string(), "Addr": addr }))
    });
    own.collect()
}

/// A task's `NetworksAttachments`.
pub(super) fn attachments(view: &TaskView, networks: &[NetworkView]) -> Vec<Value> {
    let own = networks.iter().filter_map(|network| {
        let (_, address) = network.tasks.get(&view.id())?;
        let mut spec = json!({
            "Name": network.name,
            "Labels": network.spec["Labels"],
            "DriverConfiguration": { "Name": "overlay" },
            "Scope": "swarm",
        });
        if network.spec["Ingress"] == true {
            spec["Ingress"] = json!(true);
        }
        Some(json!({
            "Network": {
                "ID": network.id.to_string(),
                "Version": { "Index": network.version },
                "CreatedAt": rfc3339::from_wall(network.created),
                "UpdatedAt": rfc3339::from_wall(network.updated),
                "Spec": spec,
                "DriverState": { "Name": "overlay" },
                "IPAMOptions": {
                    "Driver": { "Name": "default" },
                    "Configs": [{ "Subnet": network.subnet.to_string() }],
                },
            },
            "Addresses": [format!("{address}/{}", network.subnet.prefix)],
        }))
    });
    own.collect()
}
