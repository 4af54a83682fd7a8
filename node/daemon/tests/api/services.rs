//! Services: the life of one, lookups, filters, refusals.

use node::command::Command;
use serde_json::{Value, json};

use crate::server::{Server, encoded};

fn spec(name: &str) -> Value {
    json!({
        "Name": name,
        "Labels": {"team": "a"},
        "TaskTemplate": {"ContainerSpec": {"Image": "busybox", "Args": ["sleep", "9"]}},
        "Mode": {"Replicated": {"Replicas": 3}},
        "UpdateConfig": {"MaxFailureRatio": 0.4},
    })
}

async fn create(server: &Server, name: &str) -> String {
    let answer = server.post("/v1.41/services/create", &spec(name)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.json()["Warnings"], json!([]));
    answer.json()["ID"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_service_reads_back_as_docker_shows_it() {
    let server = Server::start().await;
    let id = create(&server, "web").await;
    let golden = json!({
        "ID": id,
        "Version": {"Index": 10},
        "CreatedAt": "2026-01-31T12:00:00.001Z",
        "UpdatedAt": "2026-01-31T12:00:00.001Z",
        "Endpoint": {"Spec": {}},
        "Spec": {
            "Name": "web",
            "Labels": {"team": "a"},
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": "busybox:latest", "Args": ["sleep", "9"], "Isolation": "default",
                },
                "Runtime": "container",
                "ForceUpdate": 0,
            },
            "Mode": {"Replicated": {"Replicas": 3}},
            "UpdateConfig": {
                "MaxFailureRatio": 0.4, "FailureAction": "pause", "Order": "stop-first",
            },
        },
    });
    let inspected = server.get("/services/web").await;
    assert_eq!(inspected.status, 200);
    assert_eq!(inspected.json(), golden);
    assert!(inspected.header("api-version").is_some());
    assert_eq!(server.get("/services").await.json(), json!([golden]));

    let with_status = server.get("/services?status=true").await.json();
    assert_eq!(
        with_status[0]["ServiceStatus"],
        json!({"RunningTasks": 3, "DesiredTasks": 3, "CompletedTasks": 0})
    );
    let with_defaults = server.get("/services/web?insertDefaults=true").await.json();
    assert_eq!(with_defaults["Spec"]["RollbackConfig"]["FailureAction"], "pause");
    assert_eq!(with_defaults["Spec"]["UpdateConfig"]["MaxFailureRatio"], 0.4);
    assert_eq!(server.get("/services/web?insertDefaults=zz").await.status, 400);
}

#[tokio::test]
async fn lookups_go_by_id_name_and_prefix() {
    let server = Server::start().await;
    let id = create(&server, "web").await;
    create(&server, "db").await;
    // The first twelve characters are what the CLI shows and people paste.
    assert_eq!(server.get(&format!("/services/{}", &id[..12])).await.json()["ID"], id);
    let none = server.get("/services/nope").await;
    assert_eq!((none.status, none.message().as_str()), (404, "service nope not found"));
    let several = server.get("/services/0").await;
    assert_eq!(
        (several.status, several.message().as_str()),
        (400, "service 0 is ambiguous (2 matches found)")
    );
    for path in ["/services/nope", "/services/nope/update?version=1"] {
        let answer = if path.ends_with('1') {
            server.post(path, &spec("nope")).await
        } else {
            server.delete(path).await
        };
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn filters_choose_services() {
    let server = Server::start().await;
    let id = create(&server, "web").await;
    create(&server, "web2").await;
    create(&server, "db").await;
    for (filters, names) in [
        (r#"{"name":{"web":true}}"#.to_owned(), vec!["web", "web2"]),
        (r#"{"name":["db","web2"]}"#.to_owned(), vec!["web2", "db"]),
        (format!(r#"{{"id":["{}"]}}"#, &id[..25]), vec!["web"]),
        (r#"{"label":["team=a"],"name":["db"]}"#.to_owned(), vec!["db"]),
        (r#"{"label":["team=b"]}"#.to_owned(), vec![]),
        (r#"{"mode":["global"]}"#.to_owned(), vec![]),
        (
            r#"{"mode":["replicated"],"runtime":["container"]}"#.to_owned(),
            vec!["web", "web2", "db"],
        ),
        (String::new(), vec!["web", "web2", "db"]),
    ] {
        let answer = server.get(&format!("/services?filters={}", encoded(&filters))).await;
        assert_eq!(answer.names(), names, "{filters}");
    }
    let bad = server.get(&format!("/services?filters={}", encoded(r#"{"bogus":["x"]}"#))).await;
    assert_eq!((bad.status, bad.message().as_str()), (400, "invalid filter 'bogus'"));
    assert_eq!(server.get("/services?filters=%7B").await.status, 400);
}

#[tokio::test]
async fn updates_compare_versions_and_roll_back() {
    let server = Server::start().await;
    let id = create(&server, "web").await;
    let mut changed = spec("web");
    changed["TaskTemplate"]["ContainerSpec"]["Image"] = json!("busybox:2");

    for version in ["", "?version=", "?version=NaN"] {
        let answer = server.post(&format!("/services/web/update{version}"), &changed).await;
        assert_eq!(answer.status, 400);
        assert!(answer.message().starts_with("invalid service version '"), "{answer:?}");
    }
    let stale = server.post("/services/web/update?version=9", &changed).await;
    assert_eq!(stale.status, 500);
    assert!(stale.message().ends_with("update out of sequence"));
    let early = server.post("/services/web/update?version=10&rollback=previous", &changed).await;
    assert_eq!(
        (early.status, early.message().as_str()),
        (400, &format!("service {id} does not have a previous spec")[..])
    );

    let done = server.post("/services/web/update?version=10", &changed).await;
    assert_eq!((done.status, done.json()), (200, json!({"Warnings": null})));
    let now = server.get("/services/web").await.json();
    assert_eq!(now["Version"]["Index"], 11);
    assert_eq!(now["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Image"], "busybox:latest");
    assert!(now.get("UpdateStatus").is_none());

    // The body of a rollback is ignored, whatever it is.
    let back = server.send("POST", "/services/web/update?version=11&rollback=previous", "{").await;
    assert_eq!(back.status, 200);
    let now = server.get("/services/web").await.json();
    assert_eq!(now["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"], "busybox:latest");
    assert_eq!(now["UpdateStatus"]["State"], "rollback_completed");
    assert_eq!(server.delete("/services/web").await.status, 200);
    assert_eq!(server.get("/services").await.json(), json!([]));
}

#[tokio::test]
async fn refusals_say_what_is_wrong_and_change_nothing() {
    let server = Server::start().await;
    create(&server, "web").await;
    let mut twice = spec("web");
    twice["Name"] = json!("web");
    let answer = server.post("/services/create", &twice).await;
    assert_eq!(answer.status, 409);
    assert!(answer.message().contains("service web already exists"));

    let mut renamed = spec("other");
    let answer = server.post("/services/web/update?version=10", &renamed).await;
    assert_eq!(answer.status, 501);
    assert!(answer.message().contains("renaming services is not supported"));
    renamed["Name"] = json!("web");
    renamed["Mode"] = json!({"Global": {}});
    let answer = server.post("/services/web/update?version=10", &renamed).await;
    assert_eq!(answer.status, 501);
    assert!(answer.message().contains("service mode change is not allowed"));

    let mut ingress = spec("ingress");
    ingress["EndpointSpec"] = json!({"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]});
    let answer = server.post("/services/create", &ingress).await;
    assert_eq!(answer.status, 501);
    assert!(answer.message().contains("mode=host,target=80,published=8080"), "{answer:?}");

    assert_eq!(server.fake.world().commands.len(), 1, "only the first create reached the node");
}

#[tokio::test]
async fn a_service_without_a_name_gets_one() {
    let server = Server::start().await;
    let mut spec = spec("");
    assert_eq!(server.post("/services/create", &spec).await.status, 201);
    spec.as_object_mut().unwrap().remove("Name");
    assert_eq!(server.post("/services/create", &spec).await.status, 201);
    let names = server.get("/services").await.names();
    assert_eq!(names.len(), 2);
    assert!(names.iter().all(|name| name.contains('_')), "{names:?}");
}

#[tokio::test]
async fn host_ports_are_shown_in_the_endpoint() {
    let server = Server::start().await;
    let mut spec = spec("web");
    spec["EndpointSpec"] =
        json!({"Mode": "vip", "Ports": [{"TargetPort": 80, "PublishMode": "host"}]});
    assert_eq!(server.post("/services/create", &spec).await.status, 201);
    assert_eq!(
        server.get("/services/web").await.json()["Endpoint"],
        json!({
            "Spec": spec["EndpointSpec"],
            "Ports": [{"TargetPort": 80, "PublishMode": "host", "Protocol": "tcp"}],
        })
    );
}

#[tokio::test]
async fn registry_credentials_go_to_the_core_and_are_shown_to_nobody() {
    let server = Server::start().await;
    let body = spec("web").to_string();
    // {"username":"u","password":"p"}
    let request = format!(
        "POST /services/create HTTP/1.1\r\nHost: d\r\nConnection: close\r\nX-Registry-Auth: eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InAifQ==\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let bytes = crate::server::raw(&server.socket, request.into_bytes()).await;
    let answer = crate::server::Answer::parse(&bytes);
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["Warnings"], json!([]));
    let sent = match server.fake.world().commands.last() {
        Some(Command::CreateService { auth, .. }) => auth.clone().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(sent.reveal(), r#"{"username":"u","password":"p"}"#);
    assert!(!server.get("/services/web").await.json().to_string().contains("password"));
}

#[tokio::test]
async fn a_job_says_which_iteration_it_is_at_and_may_not_have_an_update_config() {
    let server = Server::start().await;
    let spec = |update: Value| {
        json!({
            "Name": "job",
            "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}},
            "Mode": {"ReplicatedJob": {"TotalCompletions": 2}},
            "UpdateConfig": update,
        })
    };
    let refused = server.post("/services/create", &spec(json!({}))).await;
    assert_eq!(refused.status, 400);
    assert!(refused.message().contains("Jobs may not have an update config"), "{refused:?}");
    let taken = server.post("/services/create", &spec(Value::Null)).await;
    assert_eq!(taken.status, 201, "{taken:?}");
    let job = server.get("/services/job").await.json();
    let mode = json!({"ReplicatedJob": {"TotalCompletions": 2, "MaxConcurrent": 1}});
    assert_eq!(job["Spec"]["Mode"], mode);
    assert_eq!(job["JobStatus"]["JobIteration"]["Index"], 0);
    assert!(job["JobStatus"]["LastExecution"].is_string());
    let listed =
        server.get("/services?filters=%7B%22mode%22%3A%5B%22replicated-job%22%5D%7D").await;
    assert_eq!(listed.json()[0]["ID"], job["ID"]);
    let tasks = server.get("/tasks").await.json();
    assert_eq!(tasks[0]["JobIteration"]["Index"], 0);
    assert_eq!(tasks[0]["DesiredState"], "complete");
}
