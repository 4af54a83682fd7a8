//! Starts the API of a fake node, and `shoal` against it.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use daemon::api::listen::ApiSocket;
use serde_json::Value;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::fake::Fake;

/// Longer than any command takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) fake: Arc<Fake>,
    pub(crate) socket: PathBuf,
    stop: CancellationToken,
    dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Output {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let fake = Fake::new(None);
        let stop = CancellationToken::new();
        let api = ApiSocket::bind(&socket).await.unwrap();
        tokio::spawn(api.serve(fake.clone(), stop.clone()));
        Self { fake, socket, stop, dir }
    }

    /// Ends the API and waits until its socket is gone.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        let gone = async {
            while self.socket.exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Output {
        let host = format!("unix://{}", self.socket.display());
        output(env!("CARGO_BIN_EXE_shoal"), &[&["--host", host.as_str()][..], args].concat()).await
    }

    /// Runs it, expects success, and gives what it printed.
    pub(crate) async fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert_eq!(output.code, 0, "shoal {args:?}: {output:?}");
        output.out
    }

    #[cfg(feature = "docker-cli")]
    pub(crate) async fn docker(&self, args: &[&str]) -> Output {
        let host = format!("unix://{}", self.socket.display());
        output("docker", &[&["-H", host.as_str()][..], args].concat()).await
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

pub(crate) async fn output(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command
        .args(args)
        .env_remove("DOCKER_HOST")
        .env_remove("SHOAL_HOST")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let done = tokio::time::timeout(PATIENCE, command.output());
    let output = done.await.unwrap_or_else(|_| panic!("{program} {args:?} hangs")).unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
