//! shoal, through its own command line.

use anyhow::Result;
use tests::{Testbed, image};

use crate::measure::{SERVICE, System};

pub(crate) struct Shoal;

impl System for Shoal {
    fn name(&self) -> &'static str {
        "shoal"
    }

    fn start(&self, bed: &mut Testbed) -> Result<()> {
        bed.shoal_up_all()
    }

    fn create(&self, bed: &Testbed, replicas: usize) -> Result<()> {
        let replicas = replicas.to_string();
        let mut command = vec!["service", "create", "--detach", "--name", SERVICE];
        command.extend(["--replicas", &replicas, image::BUSYBOX, "sleep", "1000000"]);
        bed.host(0).shoal_with(&command)?;
        Ok(())
    }
}
