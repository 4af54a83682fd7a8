//! Docker Swarm, the engine's own: every host a manager (up to three), as its documentation advises.

use anyhow::Result;
use tests::{Testbed, image};

use crate::measure::{SERVICE, System};

/// More managers than this make a Swarm slower, not safer.
const MANAGERS: usize = 3;

pub(crate) struct Swarm;

impl System for Swarm {
    fn name(&self) -> &'static str {
        "swarm"
    }

    fn start(&self, bed: &mut Testbed) -> Result<()> {
        bed.swarm_up_all(MANAGERS)
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
