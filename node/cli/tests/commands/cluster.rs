//! Members, status, token, conflicts, leaving; and how a node is found.

use membership::id::NodeId;
use membership::member::MemberState;
use membership::time::Wall;
use node::views::ConflictView;
use serde_json::json;

use crate::fake::START;
use crate::run::{Server, output};

#[tokio::test(flavor = "multi_thread")]
async fn members_are_listed_with_the_reason() {
    let server = Server::start().await;
    {
        let mut world = server.fake.world();
        world.members[2].state = MemberState::Down;
        world.members[2].reason = "9 of 10 observers cannot reach it".to_owned();
    }
    let ls = server.ok(&["node", "ls"]).await;
    assert!(
        ls.contains("gamma") && ls.contains("down ") && ls.contains("9 of 10 observers"),
        "{ls}"
    );
    let list = server.run(&["node", "ls", "--format", "json"]).await.json();
    assert_eq!(list[2]["state"], "down");
    let one = server.run(&["node", "inspect", "self"]).await.json();
    assert_eq!(
        (&one[0]["name"], &one[0]["docker"]["Status"]["State"]),
        (&json!("alpha"), &json!("ready"))
    );

    server
        .ok(&["node", "update", "--availability", "drain", "--label-add", "rack=r1", "beta"])
        .await;
    let beta = server.run(&["node", "inspect", "beta"]).await.json();
    assert_eq!(
        (&beta[0]["availability"], &beta[0]["labels"]),
        (&json!("drain"), &json!({"rack": "r1"}))
    );
    assert_eq!(server.run(&["node", "update", "beta"]).await.code, 2);

    let alive = server.run(&["node", "rm", "beta"]).await;
    assert!(alive.err.contains("is not down and can't be removed"), "{alive:?}");
    assert_eq!(server.ok(&["node", "rm", "gamma"]).await.trim(), "gamma");
    server.ok(&["service", "create", "-d", "--name", "agent", "--mode", "global", "x"]).await;
    assert!(server.ok(&["node", "ps"]).await.contains("agent.alpha"));
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_needs_looking_at() {
    let server = Server::start().await;
    server.ok(&["service", "create", "-d", "--name", "web", "--replicas", "4", "x"]).await;
    server.fake.world().conflicts.push(ConflictView {
        id: 0xab << 120,
        text: "CONFLICT web: the edit of 14:02:11 by alpha was superseded".to_owned(),
        service: None,
        writer: NodeId(1),
        when: Wall(START),
        body: Some(json!({"Name": "web"})),
    });
    let status = server.ok(&["status"]).await;
    for words in [
        "alpha at 10.0.0.1:7946",
        "3 of 3 members alive",
        "1, 4 of 4 replicas running",
        "CONFLICT web",
        "shoal conflicts show ab0000000000",
    ] {
        assert!(status.contains(words), "{words}: {status}");
    }
    assert_eq!(server.run(&["status", "--format", "json"]).await.json()["node"]["name"], "alpha");
    assert!(server.ok(&["conflicts", "ls"]).await.contains("CONFLICT web"));
    assert_eq!(server.run(&["conflicts", "show", "ab"]).await.json()["body"]["Name"], "web");
    server.ok(&["conflicts", "dismiss", "ab"]).await;
    assert_eq!(server.run(&["conflicts", "ls", "--format", "json"]).await.json(), json!([]));
    assert_eq!(
        server.run(&["conflicts", "show", "ab"]).await.err,
        "shoal: conflict ab not found\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_alone_is_on_standard_output() {
    let server = Server::start().await;
    let token = server.run(&["token"]).await;
    assert_eq!(token.out, "SHOAL-1-secret\n");
    assert!(token.err.contains("shoal up --join 10.0.0.1:7946"), "{token:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_waits_until_the_node_is_gone() {
    let server = Server::start().await;
    assert_eq!(server.ok(&["leave", "-d"]).await, "leaving\n");
    let waiting = server.run(&["leave", "--timeout", "1s"]).await;
    assert_eq!(waiting.code, 3, "{waiting:?}");
    assert!(waiting.err.contains("replicas left on this node"), "{waiting:?}");
    let leaving = server.run(&["leave"]);
    let (left, ()) = tokio::join!(leaving, async {
        // The command was taken: then the node goes.
        while server.fake.world().commands.len() < 3 {
            tokio::task::yield_now().await;
        }
        server.end().await;
    });
    assert_eq!((left.code, left.out.as_str()), (0, "this node has left the cluster\n"), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_there_is_code_4_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let host = format!("unix://{}/none.sock", dir.path().display());
    let shoal = env!("CARGO_BIN_EXE_shoal");
    let missing = output(shoal, &["--host", &host, "service", "ls"]).await;
    assert_eq!(missing.code, 4);
    assert_eq!(
        missing.err,
        format!(
            "shoal: cannot reach a shoal node at {host}: no such file. Start one with `shoal up`, or name another with --host\n"
        )
    );
    let server = Server::start().await;
    let stale = server.dir().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let refused = output(shoal, &["-H", &format!("unix://{}", stale.display()), "status"]).await;
    assert_eq!(refused.code, 4);
    assert!(refused.err.contains("nobody answers on it"), "{refused:?}");
    assert_eq!(output(shoal, &["-H", "tcp://1.2.3.4:1", "status"]).await.code, 2);
    assert_eq!(output(shoal, &["nonsense"]).await.code, 2);
    let help = output(shoal, &["--help"]).await;
    assert!(help.out.contains("Exit codes:"), "{help:?}");
    assert!(output(shoal, &["completion", "bash"]).await.out.contains("_shoal"));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_stop_a_node_before_it_starts() {
    let up =
        output(env!("CARGO_BIN_EXE_shoal"), &["up", "--listen", "nowhere", "--profile", "moon"])
            .await;
    assert_eq!(up.code, 2, "{up:?}");
    assert!(up.err.contains("listen = 'nowhere' (from the flag --listen)"), "{up:?}");
    assert!(up.err.contains("profile = 'moon'"), "both problems are reported: {up:?}");
}
