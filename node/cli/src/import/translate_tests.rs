use super::*;

fn service(name: &str, extra: Value) -> Value {
    let mut spec = json!({
        "Name": name,
        "TaskTemplate": { "ContainerSpec": { "Image": "busybox:1" } },
        "Mode": { "Replicated": { "Replicas": 3 } },
    });
    for (key, value) in extra.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({ "ID": format!("id-of-{name}"), "Spec": spec })
}

fn swarm() -> Swarm {
    let container = json!({ "ContainerSpec": {
        "Image": "busybox:1",
        "Secrets": [{ "SecretID": "s1", "SecretName": "key", "File": { "Name": "key" } }],
        "Configs": [{ "ConfigID": "c1", "ConfigName": "site", "File": { "Name": "/site" } }],
    }});
    let on = |network: &str| {
        json!({ "TaskTemplate": {
            "ContainerSpec": { "Image": "busybox:1" }, "Networks": [{ "Target": network }],
        }})
    };
    let port = json!({ "EndpointSpec": { "Ports": [
        { "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress" },
        { "TargetPort": 81, "PublishedPort": 8081, "PublishMode": "host" },
    ]}});
    Swarm {
        services: vec![
            service("plain", json!({})),
            service("assets", json!({ "TaskTemplate": container })),
            service("networked", on("n1")),
            service("hosted", on("n2")),
            service("published", port),
        ],
        networks: vec![
            json!({
                "Id": "n1", "Name": "back", "Scope": "swarm", "Driver": "overlay", "Internal": true,
                "IPAM": { "Config": [{ "Subnet": "10.7.0.0/16", "Gateway": "10.7.0.1" }] },
                "Options": { "com.docker.network.driver.overlay.vxlanid_list": "4097", "encrypted": "" },
            }),
            json!({ "Id": "n2", "Name": "host", "Scope": "swarm", "Driver": "host" }),
            json!({ "Id": "n3", "Name": "ingress", "Scope": "swarm", "Ingress": true }),
            json!({ "Id": "n4", "Name": "docker0", "Scope": "local" }),
        ],
        configs: vec![
            json!({ "ID": "c1", "Spec": { "Name": "site", "Labels": {}, "Data": "eA==" } }),
        ],
        secrets: vec![json!({ "ID": "s1", "Spec": { "Name": "key", "Labels": {} } })],
    }
}

fn fates(items: &[Item]) -> Vec<(Kind, &str, &'static str)> {
    let word = |fate: &Fate| match fate {
        Fate::Create(_) => "create",
        Fate::Exists => "exists",
        Fate::LeftOut(_) => "out",
    };
    items.iter().map(|item| (item.kind, item.name.as_str(), word(&item.fate))).collect()
}

fn body<'a>(items: &'a [Item], name: &str) -> &'a Value {
    match &items.iter().find(|item| item.name == name).unwrap().fate {
        Fate::Create(body) => body,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn what_cannot_run_here_is_left_out_with_what_needs_it() {
    let items = plan(&swarm(), &Here::default(), &Wishes::default());
    assert_eq!(
        fates(&items),
        [
            (Kind::Network, "back", "create"),
            (Kind::Secret, "key", "out"),
            (Kind::Config, "site", "create"),
            (Kind::Service, "assets", "out"),
            (Kind::Service, "hosted", "create"),
            (Kind::Service, "networked", "create"),
            (Kind::Service, "plain", "create"),
            (Kind::Service, "published", "create"),
        ]
    );
    let back = body(&items, "back");
    assert_eq!(back["IPAM"]["Config"], json!([{ "Subnet": "10.7.0.0/16" }]));
    assert_eq!((&back["Internal"], &back["Options"]), (&json!(true), &json!({ "encrypted": "" })));
    let here = Here { networks: [("back".to_owned(), "new".to_owned())].into(), ..Here::default() };
    let networked = body(&items, "networked").clone();
    assert_eq!(with_ids(networked.clone(), &Here::default()), Err("the network back".to_owned()));
    let networked = with_ids(networked, &here).unwrap();
    assert_eq!(networked["TaskTemplate"]["Networks"], json!([{ "Target": "new" }]));
    assert_eq!(
        body(&items, "published")["EndpointSpec"],
        swarm().services[4]["Spec"]["EndpointSpec"]
    );
    assert_eq!(body(&items, "hosted")["TaskTemplate"]["Networks"], json!([{ "Target": "host" }]));
    assert_eq!(*body(&items, "plain"), swarm().services[0]["Spec"], "nothing else is changed");
    assert_eq!(body(&items, "site")["Data"], "eA==");
}

#[test]
fn wishes_change_what_goes_over_and_are_told() {
    let wishes = Wishes {
        stopped: true,
        without_networks: true,
        publish_on_hosts: true,
        known_secrets: ["key".to_owned()].into(),
        ..Wishes::default()
    };
    let items = plan(&swarm(), &Here::default(), &wishes);
    let out: Vec<_> = fates(&items).into_iter().filter(|(.., fate)| *fate != "create").collect();
    assert!(out.is_empty(), "{out:?}");
    assert!(items.iter().all(|item| item.kind != Kind::Network));
    let services = items.iter().filter(|item| item.kind == Kind::Service);
    for item in services {
        assert_eq!(body(&items, &item.name)["Mode"]["Replicated"]["Replicas"], 0);
        assert!(item.notes.iter().any(|note| note.contains("it had 3")), "{item:?}");
    }
    assert_eq!(body(&items, "networked")["TaskTemplate"]["Networks"], Value::Null);
    let ports = &body(&items, "published")["EndpointSpec"]["Ports"];
    assert!(ports.as_array().unwrap().iter().all(|port| port["PublishMode"] == "host"), "{ports}");
}

#[test]
fn one_service_takes_along_what_it_uses() {
    let only = |name: &str| Wishes {
        only: vec![name.to_owned()],
        known_secrets: ["key".to_owned()].into(),
        ..Wishes::default()
    };
    let items = plan(&swarm(), &Here::default(), &only("assets"));
    assert_eq!(
        fates(&items),
        [
            (Kind::Secret, "key", "create"),
            (Kind::Config, "site", "create"),
            (Kind::Service, "assets", "create"),
        ]
    );
    let items = plan(&swarm(), &Here::default(), &only("nosuch"));
    assert_eq!(fates(&items), [(Kind::Service, "nosuch", "out")]);
}

#[test]
fn a_second_import_creates_nothing() {
    let ids =
        |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), format!("new-{n}"))).collect();
    let here = Here {
        networks: ids(&["back"]),
        services: ids(&["plain", "assets", "networked", "hosted", "published"]),
        configs: ids(&["site"]),
        secrets: ids(&["key"]),
    };
    let items = plan(&swarm(), &here, &Wishes::default());
    assert!(fates(&items).iter().all(|(_, _, fate)| *fate != "create"), "{items:?}");
    let spec = with_ids(swarm().services[1]["Spec"].clone(), &here).unwrap();
    let container = &spec["TaskTemplate"]["ContainerSpec"];
    assert_eq!(container["Secrets"][0]["SecretID"], "new-key");
    assert_eq!(container["Configs"][0]["ConfigID"], "new-site");
    let lost = with_ids(swarm().services[1]["Spec"].clone(), &Here::default());
    assert_eq!(lost, Err("key".to_owned()));
}

#[test]
fn names_of_secrets_do_not_leave_their_folder() {
    let folder = Path::new("/secrets");
    assert_eq!(secret_file(folder, "key"), Some(folder.join("key")));
    for bad in ["", ".", "..", "../etc/passwd", "/etc/passwd", "a/b"] {
        assert_eq!(secret_file(folder, bad), None, "{bad}");
    }
}
