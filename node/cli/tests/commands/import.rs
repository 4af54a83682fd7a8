//! `shoal import swarm`, against a manager that says what a real one says; and secrets and configs given to
//! services by name.

use std::io::Write;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use crate::run::Server;

/// Answers each list of a manager's API, one request on each connection.
fn manager(server: &Server, status: &'static str, answer: fn(&str) -> Value) -> String {
    let socket = server.dir().join("manager.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap().trim_start_matches('/');
            let body = answer(path).to_string();
            let text = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(text.as_bytes()).await.unwrap();
        }
    });
    format!("unix://{}", socket.display())
}

fn swarm(list: &str) -> Value {
    match list {
        "services" => json!([
            { "ID": "1", "Spec": {
                "Name": "web", "Labels": {},
                "TaskTemplate": {
                    "ContainerSpec": {
                        "Image": "busybox:1",
                        "Secrets": [{ "SecretID": "s", "SecretName": "key", "File": { "Name": "key", "UID": "0", "GID": "0", "Mode": 292 } }],
                        "Configs": [{ "ConfigID": "c", "ConfigName": "site", "File": { "Name": "/site", "UID": "0", "GID": "0", "Mode": 292 } }],
                    },
                    "Placement": { "Constraints": ["node.id==abc"] },
                },
                "Mode": { "Replicated": { "Replicas": 4 } },
                "EndpointSpec": { "Mode": "vip" },
            }},
            { "ID": "2", "Spec": {
                "Name": "front", "Labels": {},
                "TaskTemplate": { "ContainerSpec": { "Image": "busybox:1" }, "Networks": [{ "Target": "n1" }] },
                "Mode": { "Global": {} },
            }},
        ]),
        "networks" => {
            json!([{ "Id": "n1", "Name": "back", "Scope": "swarm", "Driver": "overlay" }])
        }
        "configs" => {
            json!([{ "ID": "c", "Spec": { "Name": "site", "Labels": { "a": "b" }, "Data": "aGVsbG8=" } }])
        }
        "secrets" => json!([{ "ID": "s", "Spec": { "Name": "key", "Labels": {} } }]),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_is_imported_again_and_again_until_nothing_is_left_out() {
    let server = Server::start().await;
    let from = manager(&server, "200 OK", swarm);
    let import = async |more: &[&str]| {
        server.run(&[&["import", "swarm", "--from", &from], more].concat()).await
    };

    let dry = import(&["--dry-run"]).await;
    assert_eq!(dry.code, 1, "{dry:?}");
    assert!(dry.out.contains("would be created"), "{dry:?}");
    assert!(dry.err.contains("nothing was changed"), "{dry:?}");
    assert!(server.fake.world().commands.is_empty());

    let first = import(&[]).await;
    assert_eq!(first.code, 1, "{first:?}");
    for words in [
        "secret key is left out: a Swarm does not show the bytes",
        "service web is left out: it needs the secret key",
        "service front is left out: it needs the network back, which could not be created",
        "4 of 5 left out. What was created stands",
    ] {
        assert!(first.err.contains(words), "{words}: {first:?}");
    }
    assert_eq!(server.fake.world().assets.len(), 1, "the config");

    let folder = server.dir().join("secrets");
    std::fs::create_dir(&folder).unwrap();
    std::fs::File::create(folder.join("key")).unwrap().write_all(b"sesame").unwrap();
    let folder = folder.to_str().unwrap();
    let second = import(&["--stopped", "--secrets", folder, "web"]).await;
    assert_eq!(second.code, 0, "{second:?}");
    assert!(second.err.contains("service web has no replicas yet; it had 4"), "{second:?}");
    assert!(second.err.contains("node.id==abc names a node of the Swarm"), "{second:?}");
    let web = server.ok(&["service", "inspect", "--format", "json", "web"]).await;
    let web: Value = serde_json::from_str(&web).unwrap();
    let container = &web[0]["Spec"]["TaskTemplate"]["ContainerSpec"];
    let id_here = |list: &str, key: &str| container[list][0][key].as_str().unwrap().to_owned();
    assert_ne!(id_here("Secrets", "SecretID"), "s");
    assert_ne!(id_here("Configs", "ConfigID"), "c");

    // Nodes that run services as plain processes have no networks.
    let rest = import(&["--without-networks", "--format", "json"]).await;
    let list: Value = serde_json::from_str(&rest.out).unwrap();
    let results: Vec<_> =
        list.as_array().unwrap().iter().map(|one| (&one["name"], &one["result"])).collect();
    let wanted = [
        ("key", "there already"),
        ("site", "there already"),
        ("front", "created"),
        ("web", "there already"),
    ];
    assert_eq!(
        results,
        wanted.map(|(name, result)| (json!(name), json!(result))).each_ref().map(|(n, r)| (n, r))
    );
    assert_eq!(rest.code, 0, "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_outside_a_swarm_is_told_from_one_that_does_not_answer() {
    let server = Server::start().await;
    let said = |_: &str| json!({ "message": "This node is not a swarm manager. Use ..." });
    let from = manager(&server, "503 Service Unavailable", said);
    let refused = server.run(&["import", "swarm", "--from", &from]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("is not a manager of a Swarm"), "{refused:?}");
    let absent = server.run(&["import", "swarm", "--from", "unix:///nonexistent/x.sock"]).await;
    assert_eq!(absent.code, 1, "{absent:?}");
    assert!(absent.err.contains("cannot reach the Swarm's manager"), "{absent:?}");
    let folder = ["import", "swarm", "--from", &from, "--secrets", "/nonexistent"];
    assert_eq!(server.run(&folder).await.code, 1, "the manager is asked first");
}
