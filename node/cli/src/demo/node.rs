//! One node of the demo: a child process with a directory, a socket and a log of its own.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::client::Client;
use crate::exit::{Failure, Outcome};

/// How long a node may take to answer on its socket.
const READY_TIME: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How much of a node's log is shown when it did not start.
const LOG_LINES: usize = 8;

#[derive(Debug)]
pub(super) struct DemoNode {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    pub(super) socket: PathBuf,
    pub(super) data_dir: PathBuf,
    log: PathBuf,
    child: Child,
    /// Known once it answers.
    pub(super) id: String,
}

/// A port of 127.0.0.1 that is free for UDP and for TCP right now.
pub(super) fn free_addr() -> Result<SocketAddr, Failure> {
    const TRIES: usize = 50;
    for _ in 0..TRIES {
        let Ok(udp) = UdpSocket::bind("127.0.0.1:0") else { continue };
        if let Ok(addr) = udp.local_addr()
            && TcpListener::bind(addr).is_ok()
        {
            return Ok(addr);
        }
    }
    Err(Failure::failed("no free port on 127.0.0.1 was found for a node of the demo"))
}

impl DemoNode {
    /// Starts the process. It is to be kept at once, so that whatever happens next it is ended and
    /// waited for; [`Self::until_ready`] comes after.
    pub(super) fn spawn(
        dir: &Path,
        name: &str,
        join: Option<(SocketAddr, &Path)>,
        flags: &[String],
    ) -> Result<Self, Failure> {
        let addr = free_addr()?;
        let cannot = |what: &str, error: std::io::Error| {
            Failure::failed(format!("cannot {what} for the node {name} of the demo: {error}"))
        };
        let (socket, data_dir) = (dir.join(format!("{name}.sock")), dir.join(name));
        let log = dir.join(format!("{name}.log"));
        let log_file = File::create(&log).map_err(|e| cannot("write a log", e))?;
        let program = std::env::current_exe().map_err(|e| cannot("find this program", e))?;
        let mut command = Command::new(program);
        command
            .arg("up")
            .args(["--name", name, "--listen", &addr.to_string(), "--profile", "local"])
            .arg("--data-dir")
            .arg(&data_dir)
            .args(["--api", &format!("unix://{}", socket.display())])
            // The demo decides everything: no settings file of this host.
            .args(["--config", "/dev/null"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file)
            // Ctrl-C is the demo's to handle: it must still be able to ask its nodes.
            .process_group(0)
            // Whatever goes wrong here, no node is left behind.
            .kill_on_drop(true);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("SHOAL_") {
                command.env_remove(key);
            }
        }
        if let Some((member, token)) = join {
            command.args(["--join", &member.to_string(), "--token-file"]).arg(token);
        }
        let child = command.spawn().map_err(|e| cannot("start the process", e))?;
        Ok(Self { name: name.to_owned(), addr, socket, data_dir, log, child, id: String::new() })
    }

    /// Waits until it answers, and learns its id.
    pub(super) async fn until_ready(&mut self) -> Outcome {
        let name = self.name.clone();
        match tokio::time::timeout(READY_TIME, self.ready()).await {
            Ok(Ok(status)) => {
                self.id = status["node"]["id"].as_str().unwrap_or_default().to_owned();
                Ok(())
            }
            Ok(Err(why)) => {
                let said = self.last_words();
                Err(Failure::failed(format!("the node {name} of the demo {why}:\n{said}")))
            }
            Err(_) => Err(Failure::failed(format!(
                "the node {name} of the demo does not answer after {} s:\n{}",
                READY_TIME.as_secs(),
                self.last_words()
            ))),
        }
    }

    pub(super) fn client(&self) -> Client {
        Client::new(self.socket.clone())
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    async fn ready(&mut self) -> Result<Value, String> {
        let client = self.client();
        loop {
            if let Ok(status) = client.get("/shoal/v1/status").await {
                return Ok(status);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("ended at once ({status})"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES);
        lines[from..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }

    /// SIGKILL, and wait for the end. Twice is as good as once.
    pub(super) async fn kill(&mut self) {
        // It has ended already: nothing to do.
        let _ = self.child.kill().await;
    }
}
