//! Docker Swarm, the engine's own: every host a manager (up to three), as its documentation advises.

use anyhow::Result;
use tests::{Testbed, image, secs, wait_for};

use crate::measure::{SERVICE, System};

/// More managers than this make a Swarm slower, not safer.
const MANAGERS: usize = 3;

pub(crate) struct Swarm;

impl System for Swarm {
    fn name(&self) -> &'static str {
        "swarm"
    }

    fn start(&self, bed: &mut Testbed) -> Result<()> {
        let first = bed.host(0);
        first.docker(["swarm", "init", "--advertise-addr", first.address()])?;
        let manager = first.docker(["swarm", "join-token", "-q", "manager"])?;
        let worker = first.docker(["swarm", "join-token", "-q", "worker"])?;
        let join = format!("{}:2377", first.address());
        for host in &bed.hosts()[1..] {
            let token = if host.index() < MANAGERS { manager.trim() } else { worker.trim() };
            let advertise = host.address();
            host.docker(["swarm", "join", "--advertise-addr", advertise, "--token", token, &join])?;
        }
        wait_for("the Swarm to be whole", secs(60), || {
            let nodes = first.engine().nodes().map_err(|error| format!("{error:#}"))?;
            let ready = nodes.iter().filter(|node| node.ready).count();
            if ready == bed.hosts().len() { Ok(()) } else { Err(format!("{ready} nodes ready")) }
        })?;
        Ok(())
    }

    fn create(&self, bed: &Testbed, replicas: usize) -> Result<()> {
        let replicas = replicas.to_string();
        bed.host(0).docker([
            "service",
            "create",
            "--detach",
            "--no-resolve-image",
            "--name",
            SERVICE,
            "--replicas",
            &replicas,
            image::BUSYBOX,
            "sleep",
            "1000000",
        ])?;
        Ok(())
    }
}
