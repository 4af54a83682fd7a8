//! Jobs on a real node that runs plain processes, by the docker command line and by shoal's own.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::run::{Output, output};

const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    dir: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Node {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Taken for a moment only: nobody else is told of it.
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Self::up(dir.path(), port);
        let node = Self { dir, port, process };
        node.wait("it answers", || async { node.docker(&["info"]).await.code == 0 }).await;
        node
    }

    fn up(dir: &Path, port: u16) -> Child {
        let listen = format!("127.0.0.1:{port}");
        Command::new(env!("CARGO_BIN_EXE_shoal"))
            .args(["up", "--name", "alone", "--runtime", "process", "--profile", "local"])
            .args(["--listen", &listen, "--advertise", &listen, "--config", "/dev/null"])
            .args(["--api", &format!("unix://{}", Self::socket_in(dir).display())])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    fn socket_in(dir: &Path) -> PathBuf {
        dir.join("docker.sock")
    }

    async fn restart(&mut self) {
        self.process.kill().await.unwrap();
        let _ = std::fs::remove_file(Self::socket_in(self.dir.path()));
        self.process = Self::up(self.dir.path(), self.port);
        self.wait("it answers", || async { self.docker(&["info"]).await.code == 0 }).await;
    }

    fn host(&self) -> String {
        format!("unix://{}", Self::socket_in(self.dir.path()).display())
    }

    async fn docker(&self, args: &[&str]) -> Output {
        output("docker", &[&["-H", self.host().as_str()][..], args].concat()).await
    }

    async fn ok(&self, args: &[&str]) -> String {
        let done = self.docker(args).await;
        assert_eq!(done.code, 0, "docker {args:?}: {done:?}");
        done.out
    }

    async fn shoal(&self, args: &[&str]) -> Output {
        let shoal = env!("CARGO_BIN_EXE_shoal");
        output(shoal, &[&["--host", self.host().as_str()][..], args].concat()).await
    }

    async fn wait<F: Future<Output = bool>>(&self, what: &str, holds: impl Fn() -> F) {
        let look = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let done = tokio::time::timeout(PATIENCE, look).await;
        assert!(done.is_ok(), "not within {PATIENCE:?}: {what}");
    }

    /// One line for each attempt.
    fn attempts(&self) -> Vec<String> {
        let said = std::fs::read_to_string(self.dir.path().join("attempts")).unwrap_or_default();
        said.lines().map(str::to_owned).collect()
    }

    /// A command that writes a line into `attempts` and ends with this code.
    fn line(&self, and_then: &str) -> String {
        format!(
            "echo {{{{.Task.Slot}}}} >> {}; {and_then}",
            self.dir.path().join("attempts").display()
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_done_once_and_executed_anew_when_that_is_asked_for() {
    let mut node = Node::start().await;
    let attempts = format!("A={}", node.dir.path().join("attempts").display());
    let work = "echo $SLOT >> $A; sleep 0.2";
    let job = ["service", "create", "--no-resolve-image", "--name", "job", "--env", &attempts];
    let mode = ["--env", "SLOT={{.Task.Slot}}", "--mode", "replicated-job", "--replicas", "5"];
    let run = ["--max-concurrent", "2", "process", "sh", "-c", work];
    let created = node.ok(&[&job[..], &mode, &run].concat()).await;
    assert!(created.contains("job complete"), "{created}");
    let mut slots = node.attempts();
    slots.sort();
    assert_eq!(slots, ["0", "1", "2", "3", "4"]);
    let ls = node.ok(&["service", "ls"]).await;
    assert!(ls.contains("replicated job") && ls.contains("0/2 (5/5 completed)"), "{ls}");
    let ps = node.ok(&["service", "ps", "job"]).await;
    assert_eq!(ps.lines().filter(|line| line.contains("Complete ")).count(), 5, "{ps}");

    node.restart().await;
    node.wait("it is still complete", || async {
        node.ok(&["service", "ls"]).await.contains("(5/5 completed)")
    })
    .await;
    let again = node.ok(&["service", "update", "--force", "job"]).await;
    assert!(again.contains("job complete"), "{again}");
    assert_eq!(node.attempts().len(), 10, "the restart made none: {:?}", node.attempts());
    let status = node.ok(&["service", "inspect", "--format", "{{json .JobStatus}}", "job"]).await;
    assert!(status.contains(r#""JobIteration":{"Index":1}"#), "{status}");

    let scaled = node.shoal(&["service", "scale", "job=2"]).await;
    assert_eq!(scaled.code, 0, "{scaled:?}");
    assert_eq!(node.attempts().len(), 12);
    let ls = node.shoal(&["service", "ls"]).await;
    assert!(ls.out.contains("0/2 (2/2 completed)"), "{ls:?}");
    node.ok(&["service", "rm", "job"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_job_is_tried_as_often_as_its_policy_says() {
    let node = Node::start().await;
    let work = node.line("exit 3").replace("{{.Task.Slot}}", "x");
    let job = ["service", "create", "--name", "job", "--mode", "replicated-job"];
    let policy = ["--restart-condition", "on-failure", "--restart-max-attempts", "2"];
    let run = ["--restart-delay", "100ms", "process", "sh", "-c", &work];
    let made = node.shoal(&[&job[..], &policy, &run].concat()).await;
    assert_eq!(made.code, 3, "{made:?}");
    assert!(made.err.contains("1 failed as often as the restart policy allows"), "{made:?}");
    assert_eq!(node.attempts().len(), 3);
    let ps = node.ok(&["service", "ps", "--no-trunc", "job"]).await;
    assert!(ps.contains("task: non-zero exit (3)"), "{ps}");
    let refused = node.docker(&[
        "service",
        "create",
        "-d",
        "--mode",
        "global-job",
        "--update-delay",
        "1s",
        "process",
        "true",
    ]);
    let refused = refused.await;
    assert!(refused.err.contains("not supported for"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_global_job_runs_on_this_node_once() {
    let node = Node::start().await;
    let work = node.line("true").replace("{{.Task.Slot}}", "x");
    let made = node
        .shoal(&[
            "service",
            "create",
            "--name",
            "all",
            "--mode",
            "global-job",
            "process",
            "sh",
            "-c",
            &work,
        ])
        .await;
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(node.attempts(), ["x"]);
    let ls = node.ok(&["service", "ls"]).await;
    assert!(ls.contains("global job") && ls.contains("0/0 (1/1 completed)"), "{ls}");
}
