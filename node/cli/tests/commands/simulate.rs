//! `shoal simulate`: the simulator from the one binary, and with a running cluster to begin with.

use simulations::compare::baseline;

use crate::run::{Server, output};

const SHORT: &str = "title = 'One host is lost'\nabout = 'a'\nlook_at = 'b'\nduration = '20s'\nheal = false\n[[hosts]]\ncount = 9\nracks = 3\n[[services]]\nname = 'shop'\nreplicas = 3\n[[timeline]]\nat = '1s'\ndo = 'crash'\non = 'rack-3'\n[[timeline]]\nat = '10s'\ndo = 'scale'\nservice = 'shop'\nreplicas = 6\n[expect]\nrunning_at_end = '100%'\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_and_services_of_a_running_cluster_are_simulated() {
    let server = Server::start().await;
    server.ok(&["service", "create", "-d", "--name", "web", "--replicas", "4", "nginx"]).await;
    let (file, report) = (server.dir().join("short.toml"), server.dir().join("report.html"));
    std::fs::write(&file, SHORT).unwrap();
    let (file, report) = (file.to_str().unwrap(), report.to_str().unwrap());
    let args = ["simulate", "scenario", file, "--from-cluster", "--json", "--html", report];
    let done = server.run(&args).await;
    assert_eq!(done.code, 0, "{done:?}");
    let sheet = baseline(&done.out).unwrap();
    assert_eq!((sheet.hosts, sheet.wanted), (3, 8), "three nodes, and twice the replicas");
    assert!(sheet.moves.lost > 0 && sheet.violations == 0, "{sheet:?}");
    assert!(done.err.contains("taken over from the cluster: 3 nodes, 1 service;"), "{done:?}");
    assert!(done.err.contains("'shop' of the scenario is here the service 'web'"), "{done:?}");
    let page = std::fs::read_to_string(report).unwrap();
    assert!(page.contains("gamma") && page.contains("shoal simulate scenario"));
    let commands = server.fake.world().commands.len();
    assert_eq!(commands, 1, "the cluster itself was only read");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_simulated_is_said_and_nothing_is_asked_for_in_vain() {
    let shoal = env!("CARGO_BIN_EXE_shoal");
    let listed = output(shoal, &["simulate", "scenarios"]).await;
    assert!(listed.code == 0 && listed.out.contains("rack-loss"), "{listed:?}");
    let unknown = output(shoal, &["simulate", "scenario", "rack-los"]).await;
    assert_eq!(unknown.code, 2);
    assert!(unknown.err.contains("did you mean 'rack-loss'?"), "{unknown:?}");
    let watched = output(shoal, &["simulate", "scenario", "rack-loss", "--watch"]).await;
    assert!(watched.code == 2 && watched.err.contains("this is none"), "{watched:?}");
    let nowhere =
        ["-H", "unix:///nowhere.sock", "simulate", "scenario", "rack-loss", "--from-cluster"];
    assert_eq!(output(shoal, &nowhere).await.code, 4);
    let missing = output(shoal, &["simulate", "compare", "/no/a.json", "/no/b.json"]).await;
    assert!(missing.code == 2 && missing.err.contains("cannot be read"), "{missing:?}");
}
