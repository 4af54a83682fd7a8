//! The demo's cluster: its nodes, its directory, and how all of it goes away.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::crash::Silence;
use super::node::DemoNode;
use super::stage::Stage;
use super::{Member, SERVICE};
use crate::client::Client;
use crate::exit::{Failure, Outcome};
use crate::output::say;

/// How long the nodes may take to find each other.
const JOIN_TIME: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

const NAMES: [&str; 9] =
    ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota"];

#[derive(Debug)]
pub(super) struct Cluster {
    stage: Stage,
    dir: TempDir,
    nodes: Vec<DemoNode>,
    dead: Vec<(String, Silence)>,
    id: Option<String>,
}

impl Cluster {
    pub(super) fn new(stage: Stage) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("shoal-demo-").tempdir().map_err(|error| {
            Failure::failed(format!("cannot make a temporary directory for the demo: {error}"))
        })?;
        Ok(Self { stage, dir, nodes: Vec::new(), dead: Vec::new(), id: None })
    }

    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// The first node: it is asked for everything and never killed.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let first = self.nodes.first().map(DemoNode::client);
        first.ok_or_else(|| Failure::failed("the demo has no node"))
    }

    pub(super) fn members(&self) -> Vec<Member> {
        let is_dead = |id: &str| self.dead.iter().any(|(dead, _)| dead == id);
        self.nodes
            .iter()
            .map(|node| Member {
                id: node.id.clone(),
                name: node.name.clone(),
                alive: !is_dead(&node.id),
            })
            .collect()
    }

    /// The second node: the first is the one that is asked.
    pub(super) fn victim(&self) -> Member {
        self.members().swap_remove(1)
    }

    pub(super) async fn start(&mut self, count: u8) -> Outcome {
        let token_file = self.dir.path().join("token");
        for name in NAMES.iter().take(usize::from(count)) {
            let join = self.nodes.first().map(|first| (first.addr, token_file.as_path()));
            let flags = self.stage.flags();
            self.nodes.push(DemoNode::spawn(self.dir.path(), name, join, &flags)?);
            if let Some(node) = self.nodes.last_mut() {
                node.until_ready().await?;
                say(format!("  {name:<8} {}  unix://{}", node.addr, node.socket.display()))?;
            }
            if self.nodes.len() == 1 {
                self.remember(&token_file).await?;
            }
        }
        self.all_alive(usize::from(count)).await
    }

    /// The cluster's id, by which its containers are found again, and its token for the next nodes.
    async fn remember(&mut self, token_file: &std::path::Path) -> Outcome {
        let client = self.client()?;
        let status = client.get("/shoal/v1/status").await?;
        self.id = status["cluster"]["id"].as_str().map(str::to_owned);
        let answer = client.get("/shoal/v1/token").await?;
        let token = answer["token"].as_str().unwrap_or_default();
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(token_file)
            .and_then(|mut file| file.write_all(token.as_bytes()))
            .map_err(|error| Failure::failed(format!("cannot write the demo's token: {error}")))
    }

    async fn all_alive(&self, count: usize) -> Outcome {
        let began = Instant::now();
        loop {
            let mut ready = 0;
            // Every node's own view: a service made too early would be spread over fewer.
            for node in &self.nodes {
                let members = node.client().get("/shoal/v1/members").await?;
                let alive = members
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter(|member| member["state"] == "alive" && member["settling"] == false);
                ready += usize::from(alive.count() == count);
            }
            if ready == count {
                return Ok(());
            }
            if began.elapsed() > JOIN_TIME {
                return Err(Failure::failed(format!(
                    "the nodes of the demo have not found each other after {} s; logs are in {}",
                    JOIN_TIME.as_secs(),
                    self.dir.path().display()
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Lets a node die as its host would, and tells when.
    pub(super) async fn crash(&mut self, victim: &Member) -> Result<Instant, Failure> {
        let node = self
            .nodes
            .iter_mut()
            .find(|node| node.id == victim.id)
            .ok_or_else(|| Failure::failed("the demo has lost sight of a node"))?;
        let died = Instant::now();
        node.kill().await;
        self.dead.push((node.id.clone(), Silence::at(node.addr)?));
        self.stage.kill_tasks(&node.id, &node.data_dir).await?;
        Ok(died)
    }

    /// Ends all nodes first, so that nobody starts anything again, then what they started.
    pub(super) async fn clean_up(mut self) -> Outcome {
        for node in &mut self.nodes {
            node.kill().await;
        }
        let mut processes = 0;
        if matches!(self.stage, Stage::Process { .. }) {
            for node in &self.nodes {
                processes += super::crash::kill_processes(&node.data_dir);
            }
        }
        let containers = self.stage.clean_up(self.id.as_deref()).await;
        let path = self.dir.path().to_owned();
        let removed = self
            .dir
            .close()
            .map_err(|error| Failure::failed(format!("cannot remove {}: {error}", path.display())));
        let containers = containers?;
        removed?;
        let what = match self.stage {
            Stage::Docker { .. } => format!("{containers} containers removed"),
            Stage::Process { .. } => format!("{processes} processes ended"),
        };
        say(format!("\nCleaned up: {} nodes ended, {what}.", self.nodes.len()))
    }

    /// Says what stays, how to use it and how to end it.
    pub(super) fn leave_running(self) -> Outcome {
        let living: Vec<&DemoNode> = self
            .nodes
            .iter()
            .filter(|node| self.dead.iter().all(|(dead, _)| *dead != node.id))
            .collect();
        let Some(first) = living.first() else {
            return Err(Failure::failed("no node of the demo is left"));
        };
        let socket = first.socket.display();
        say("\nIt goes on running. Try:")?;
        say(format!("  export SHOAL_HOST=unix://{socket}"))?;
        say("  shoal status")?;
        say(format!("  shoal service ps {SERVICE}"))?;
        say(format!("  shoal service scale {SERVICE}=30"))?;
        say(format!("  shoal service logs -f {SERVICE}"))?;
        say(format!("  docker -H unix://{socket} service ls"))?;
        let pids: Vec<String> =
            living.iter().filter_map(|node| node.pid()).map(|pid| pid.to_string()).collect();
        let dir = self.dir.keep();
        say("\nTo end it:")?;
        if matches!(self.stage, Stage::Process { .. }) {
            // Nodes that end leave their replicas running: that is what they are for.
            say(format!("  shoal service scale {SERVICE}=0"))?;
        }
        say(format!("  kill {} && rm -r {}", pids.join(" "), dir.display()))?;
        if let (Stage::Docker { image, imported, .. }, Some(id)) = (&self.stage, &self.id) {
            let label = node::runtime::label::CLUSTER;
            say(format!("  docker rm -f $(docker ps -aq --filter label={label}={id})"))?;
            if *imported {
                say(format!("  docker rmi {image}"))?;
            }
        }
        // Dropping a node would end it.
        self.nodes.into_iter().for_each(std::mem::forget);
        Ok(())
    }
}
