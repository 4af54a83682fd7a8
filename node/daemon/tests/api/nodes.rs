//! Nodes, the swarm, `/info`, `/version` and `/_ping`, on a node without an engine.

use membership::member::MemberState;
use serde_json::json;

use crate::server::{Server, encoded};

#[tokio::test]
async fn a_node_reads_as_docker_shows_it() {
    let server = Server::start().await;
    let node = server.get("/nodes/alpha").await.json();
    assert_eq!(
        node,
        json!({
            "ID": node["ID"],
            "Version": {"Index": 7},
            "CreatedAt": "2026-01-31T12:00:00.000Z",
            "UpdatedAt": "2026-01-31T12:00:00.000Z",
            "Spec": {"Labels": {}, "Role": "manager", "Availability": "active"},
            "Description": {
                "Hostname": "alpha",
                "Platform": {"Architecture": "x86_64", "OS": "linux"},
                "Resources": {"NanoCPUs": 4_000_000_000_u64, "MemoryBytes": 8_589_934_592_u64},
                "Engine": {"EngineVersion": "20.10.24", "Labels": {"disk": "ssd"}},
            },
            "Status": {"State": "ready", "Addr": "10.0.0.1"},
            "ManagerStatus": {"Reachability": "reachable", "Addr": "10.0.0.1:7946"},
        })
    );
    assert_eq!(server.get("/nodes/self").await.json()["ID"], node["ID"]);
    assert_eq!(server.get("/nodes/nope").await.message(), "node nope not found");
}

#[tokio::test]
async fn filters_choose_nodes() {
    let server = Server::start().await;
    let spec = json!({"Role": "worker", "Availability": "drain", "Labels": {"rack": "r1"}});
    assert_eq!(server.post("/nodes/beta/update?version=7", &spec).await.status, 200);
    for (filters, names) in [
        (json!({"role": ["worker"]}), vec!["beta"]),
        (json!({"node.label": ["rack=r1"]}), vec!["beta"]),
        (json!({"label": ["disk=ssd"], "name": ["g"]}), vec!["gamma"]),
        (json!({"membership": ["accepted"]}), vec!["alpha", "beta", "gamma"]),
        (json!({"membership": ["pending"]}), vec![]),
    ] {
        let path = format!("/nodes?filters={}", encoded(&filters.to_string()));
        assert_eq!(server.get(&path).await.names(), names, "{filters}");
    }
}

#[tokio::test]
async fn a_node_update_echoes_its_spec_and_compares_versions() {
    let server = Server::start().await;
    let spec = json!({"Labels": {"a": "b"}, "Role": "manager", "Availability": "pause"});
    assert_eq!(server.post("/nodes/gamma/update?version=7", &spec).await.status, 200);
    let node = server.get("/nodes/gamma").await.json();
    assert_eq!((&node["Spec"], &node["Version"]["Index"]), (&spec, &json!(8)));
    let stale = server.post("/nodes/gamma/update?version=7", &spec).await;
    assert_eq!(stale.status, 500);
    assert!(stale.message().ends_with("update out of sequence"));
    let bad = json!({"Role": "zz", "Availability": "active"});
    assert_eq!(
        server.post("/nodes/gamma/update?version=8", &bad).await.message(),
        "invalid Role: \"zz\""
    );
    assert_eq!(server.post("/nodes/gamma/update", &spec).await.status, 400);
}

#[tokio::test]
async fn only_a_node_that_is_gone_can_be_removed() {
    let server = Server::start().await;
    for path in ["/nodes/gamma", "/nodes/gamma?force=1", "/nodes/alpha?force=1"] {
        let answer = server.delete(path).await;
        assert_eq!(answer.status, 400);
        assert!(answer.message().contains("is not down and can't be removed"), "{answer:?}");
    }
    server.fake.world().members[2].state = MemberState::Down;
    assert_eq!(server.get("/nodes/gamma").await.json()["Status"]["State"], "down");
    assert_eq!(server.delete("/nodes/gamma").await.status, 200);
    assert_eq!(server.get("/nodes").await.names(), ["alpha", "beta"]);
}

#[tokio::test]
async fn info_makes_clients_believe_in_a_swarm() {
    let server = Server::start().await;
    let info = server.get("/info").await.json();
    let swarm = &info["Swarm"];
    assert_eq!(swarm["LocalNodeState"], "active");
    assert_eq!(swarm["ControlAvailable"], true);
    assert_eq!((&swarm["Nodes"], &swarm["Managers"]), (&json!(3), &json!(3)));
    assert_eq!(swarm["NodeID"], server.get("/nodes/self").await.json()["ID"]);
    assert_eq!(swarm["Cluster"]["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"], 5);
    assert_eq!(info["NCPU"], 4);

    let version = server.get("/version").await.json();
    assert_eq!(version["ApiVersion"], "1.47");
    assert_eq!(version["Components"][0]["Name"], "shoal");
}

#[tokio::test]
async fn ping_has_what_the_cli_negotiates_with() {
    let server = Server::start().await;
    for method in ["HEAD", "GET"] {
        let ping = server.send(method, "/_ping", "").await;
        assert_eq!(ping.status, 200);
        assert_eq!(ping.header("swarm"), Some("active/manager"));
        assert_eq!(ping.header("api-version"), Some("1.47"));
        assert_eq!(ping.header("ostype"), Some("linux"));
        assert_eq!(ping.header("docker-experimental"), Some("false"));
    }
    let new = server.get("/v1.99/_ping").await;
    assert_eq!(new.status, 400);
    assert_eq!(
        new.message(),
        "client version 1.99 is too new. Maximum supported API version is 1.47"
    );
    assert!(
        server.get("/v1.11/services").await.message().contains("client version 1.11 is too old")
    );
}

#[tokio::test]
async fn the_swarm_has_tokens_and_says_no_in_dockers_words() {
    let server = Server::start().await;
    let swarm = server.get("/swarm").await.json();
    assert_eq!(swarm["JoinTokens"]["Worker"], "SHOAL-1-secret");
    assert_eq!(swarm["Spec"]["Name"], "default");
    for path in ["/swarm/init", "/swarm/join"] {
        let answer = server.post(path, &json!({})).await;
        assert_eq!(answer.status, 503);
        assert!(
            answer.message().starts_with("This node is already part of a swarm."),
            "{answer:?}"
        );
    }
    // Alone, there is nothing to initialise any more: the CLI goes on to say how the next node joins.
    server.fake.world().members.truncate(1);
    let me = server.get("/nodes/self").await.json()["ID"].clone();
    let init = server.post("/swarm/init", &json!({"ListenAddr": "0.0.0.0:2377"})).await;
    assert_eq!((init.status, init.json()), (200, me));
    for refused in [json!({"ForceNewCluster": true}), json!({"AutoLockManagers": true})] {
        assert_eq!(server.post("/swarm/init", &refused).await.status, 501);
    }
    // Alone it joins another cluster; people give Swarm's port or none.
    for (token, address, status) in [
        ("SHOAL-1-other", "10.0.0.9:2377", 200),
        ("SHOAL-1-other", "10.0.0.9", 200),
        ("t", "10.0.0.9:7946", 400),
    ] {
        let join =
            json!({"RemoteAddrs": [address], "JoinToken": token, "ListenAddr": "0.0.0.0:2377"});
        assert_eq!(server.post("/swarm/join", &join).await.status, status, "{address}");
    }
    for (key, value, status) in [("AdvertiseAddr", "10.9.9.9", 400), ("Availability", "drain", 501)]
    {
        let join = json!({"RemoteAddrs": ["10.0.0.9"], "JoinToken": "SHOAL-1-other", key: value});
        assert_eq!(server.post("/swarm/join", &join).await.status, status, "{key}");
    }
    assert_eq!(server.post("/swarm/leave", &json!({})).await.status, 503);
    assert_eq!(server.post("/swarm/leave?force=1", &json!({})).await.status, 200);
    assert_eq!(server.get("/swarm/unlockkey").await.json(), json!({"UnlockKey": ""}));
    for (path, body) in [
        ("/swarm/unlock", json!({})),
        ("/swarm/update?version=3&rotateWorkerToken=true", json!({})),
        ("/swarm/update?version=3", json!({"EncryptionConfig": {"AutoLockManagers": true}})),
        ("/networks/create", json!({"Name": "x", "Driver": "overlay"})),
    ] {
        let answer = server.post(path, &body).await;
        assert_eq!(answer.status, 501, "{path}");
        assert!(answer.message().contains("not supported"), "{answer:?}");
    }
    assert_eq!(server.get("/secrets").await.json(), json!([]));
    assert_eq!(server.get("/configs").await.json(), json!([]));
    assert_eq!(server.get("/secrets/x").await.message(), "secret x not found");
    let spec = json!({"Name": "default", "Orchestration": {"TaskHistoryRetentionLimit": 2}});
    assert_eq!(server.post("/swarm/update?version=3", &spec).await.status, 200);
    assert_eq!(server.get("/swarm").await.json()["Spec"], spec);
}

#[tokio::test]
async fn what_nobody_serves_is_not_found_in_dockers_form() {
    let server = Server::start().await;
    for (method, path) in [
        ("PUT", "/services"),
        ("GET", "/services/a/b/c"),
        ("GET", "/shoal/v9/x"),
        ("DELETE", "/tasks"),
    ] {
        let answer = server.send(method, path, "").await;
        assert_eq!((answer.status, answer.message().as_str()), (404, "page not found"), "{path}");
    }
    let containers = server.get("/containers/json").await;
    assert_eq!(containers.status, 501);
    assert!(containers.message().contains("not supported"), "{containers:?}");
}
