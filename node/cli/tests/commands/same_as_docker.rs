//! The same flags make the same spec: what `shoal` sends is compared with what the docker CLI sends.

use node::command::Command;
use serde_json::Value;

use crate::run::Server;

const CREATE: &[&str] = &[
    "busybox",
    "--replicas 3 -e A=1 -e B=2 -e A=3 -l x=y --container-label c=d busybox:1 sh -c exit",
    "--constraint node.role==manager --constraint node.id!=x --replicas-max-per-node 2 busybox",
    "--mount type=bind,source=/a,target=/b,readonly --mount type=volume,source=v,target=/v busybox",
    "--mount type=tmpfs,target=/t,tmpfs-size=1m --mount src=v,dst=/x,volume-nocopy,volume-label=a=b busybox",
    "-p mode=host,target=80,published=8080 -p mode=host,target=53,protocol=udp busybox",
    "--reserve-cpu 0.5 --reserve-memory 64m --limit-cpu 1.5 --limit-memory 1g --limit-pids 100 busybox",
    "--restart-condition on-failure --restart-delay 3s --restart-max-attempts 4 --restart-window 1m busybox",
    "--restart-max-attempts 2 busybox",
    "--update-parallelism 2 --update-delay 1s --update-order start-first --update-monitor 2s --update-failure-action rollback --update-max-failure-ratio 0.4 busybox",
    "--update-delay 2s busybox",
    "--rollback-parallelism 0 --rollback-max-failure-ratio 1 --rollback-order start-first busybox",
    "--health-cmd true --health-interval 1s --health-timeout 2s --health-retries 3 --health-start-period 4s busybox",
    "--health-interval 5s busybox",
    "--mode global --no-healthcheck busybox",
    "--mode replicated-job --replicas 5 --max-concurrent 2 --restart-condition none busybox true",
    "--mode replicated-job --replicas 3 busybox",
    "--mode replicated-job busybox",
    "--mode global-job --restart-condition on-failure busybox",
    "--stop-grace-period 5s --stop-signal SIGINT -u nobody -w /tmp --hostname {{.Node.Hostname}} busybox",
    "--init --read-only -t --entrypoint foo busybox httpd -f -p 80",
    "--secret one --secret source=two,target=/etc/two,uid=7,gid=8,mode=0400 busybox",
    "--config one --config source=two,target=/etc/two,mode=0440 busybox",
    "--init=false --replicas 0 registry.example:5000/a/b",
];

const UPDATE: &[&str] = &[
    "--env-add A=2 --env-add C=3 --env-rm B",
    "--force",
    "--image busybox:9",
    "--args x",
    "--label-add q=1 --label-rm x --container-label-add e=f --container-label-rm c",
    "--constraint-add node.id==1 --constraint-rm node.role==manager",
    // The docker CLI's --publish-rm 80 finds ports in ingress mode only; ours finds all.
    "--publish-add mode=host,target=81,published=81",
    "--mount-add type=volume,source=v,target=/v --mount-rm /b",
    "--replicas 9",
    "--limit-cpu 2 --limit-memory 0",
    "--restart-delay 1s",
    "--update-delay 1s",
    "--rollback-parallelism 2",
    "--health-cmd x",
    "--no-healthcheck",
    "--hostname h --user u --workdir /w --tty --read-only --init --stop-signal SIGUSR1 --stop-grace-period 1s",
    "--replicas-max-per-node 4",
    "--secret-rm one --secret-add source=two,target=one --config-rm one --config-add two",
];

const BASE: &str = "--replicas 3 -e A=1 -e B=2 -l x=y -l z=1 --container-label c=d --constraint node.role==manager --mount type=bind,source=/a,target=/b -p mode=host,target=80,published=8080 --limit-memory 64m --update-parallelism 2 --secret one --config one busybox:1 a";

fn last_spec(server: &Server) -> Value {
    match server.fake.world().commands.last() {
        Some(Command::CreateService { spec, .. } | Command::UpdateService { spec, .. }) => {
            spec.clone()
        }
        other => panic!("no spec was sent: {other:?}"),
    }
}

/// What the docker CLI writes as empty means the same as absent.
fn without_empties(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, inner| *inner != "" && !inner.is_null());
        map.values_mut().for_each(without_empties);
    }
}

async fn both(flags: &str, before: Option<&str>) -> (Value, Value) {
    let mut specs = Vec::new();
    for by_docker in [true, false] {
        let server = Server::start().await;
        let content = server.dir().join("content");
        std::fs::write(&content, "x").unwrap();
        for kind in ["secret", "config"] {
            for name in ["one", "two"] {
                let made = server.docker(&[kind, "create", name, content.to_str().unwrap()]).await;
                assert_eq!(made.code, 0, "{made:?}");
            }
        }
        let run = async |line: &str| {
            let args: Vec<&str> = line.split(' ').collect();
            let done = if by_docker { server.docker(&args).await } else { server.run(&args).await };
            assert_eq!(done.code, 0, "{line}: {done:?}");
        };
        match before {
            None => run(&format!("service create -d --name web {flags}")).await,
            Some(base) => {
                run(&format!("service create -d --name web {base}")).await;
                run(&format!("service update -d {flags} web")).await;
            }
        }
        let mut spec = last_spec(&server);
        without_empties(&mut spec);
        specs.push(spec);
    }
    let shoal = specs.pop().unwrap();
    (specs.pop().unwrap(), shoal)
}

#[tokio::test(flavor = "multi_thread")]
async fn create_sends_what_docker_sends() {
    for flags in CREATE {
        let (docker, shoal) = both(flags, None).await;
        assert_eq!(sorted_files(shoal), sorted_files(docker), "{flags}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn update_sends_what_docker_sends() {
    for flags in UPDATE {
        let (docker, shoal) = both(flags, Some(BASE)).await;
        assert_eq!(sorted(shoal), sorted(docker), "{flags}");
    }
}

/// The docker CLI goes through maps here and loses the order, which means nothing.
fn sorted(spec: Value) -> Value {
    sorted_lists(spec, &["Env", "Secrets", "Configs"])
}

fn sorted_files(spec: Value) -> Value {
    sorted_lists(spec, &["Secrets", "Configs"])
}

fn sorted_lists(mut spec: Value, names: &[&str]) -> Value {
    for name in names {
        let list = spec.pointer_mut(&format!("/TaskTemplate/ContainerSpec/{name}"));
        if let Some(list) = list.and_then(Value::as_array_mut) {
            list.sort_by_key(|one| {
                (one["SecretID"].to_string(), one["ConfigID"].to_string(), one.to_string())
            });
        }
    }
    spec
}
