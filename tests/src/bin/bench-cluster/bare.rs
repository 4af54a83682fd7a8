//! No orchestrator at all: the engines' API, called as fast as it can be. The floor of every comparison.

use std::collections::HashMap;

use anyhow::{Context, Result};
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, StartContainerOptions};
use futures_util::{StreamExt, TryStreamExt, stream};
use tests::engine::{SERVICE_LABEL, block_on};
use tests::{Engine, Testbed, image, secs};

use crate::measure::{SERVICE, System};

pub(crate) struct Bare {
    /// Calls at once to each engine.
    pub(crate) concurrency: usize,
}

impl System for Bare {
    fn name(&self) -> &'static str {
        "bare"
    }

    fn start(&self, _bed: &mut Testbed) -> Result<()> {
        Ok(())
    }

    fn create(&self, bed: &Testbed, replicas: usize) -> Result<()> {
        let engines = bed.engines(&bed.running_hosts());
        let hosts = engines.len();
        let shares = engines.into_iter().enumerate().map(|(nth, (_, engine))| {
            let share = replicas / hosts + usize::from(nth < replicas % hosts);
            self.fill(engine, share)
        });
        block_on(futures_util::future::try_join_all(shares))?;
        Ok(())
    }

    fn replace(&self, bed: &Testbed, lost: usize) -> Result<()> {
        self.create(bed, lost)
    }

    fn is_orchestrator(&self) -> bool {
        false
    }
}

impl Bare {
    async fn fill(&self, engine: Engine, replicas: usize) -> Result<()> {
        let client = engine.client(secs(120))?;
        let client = &client;
        stream::iter(0..replicas)
            .map(|_| async move {
                let body = ContainerCreateBody {
                    image: Some(image::BUSYBOX.to_string()),
                    cmd: Some(vec!["sleep".to_string(), "1000000".to_string()]),
                    labels: Some(HashMap::from([(SERVICE_LABEL.into(), SERVICE.into())])),
                    ..ContainerCreateBody::default()
                };
                let made = client.create_container(None::<CreateContainerOptions>, body).await?;
                client.start_container(&made.id, None::<StartContainerOptions>).await
            })
            .buffer_unordered(self.concurrency)
            .try_collect::<Vec<()>>()
            .await
            .context("the engine refused a container")?;
        Ok(())
    }
}
