//! Where the demo plays: on this machine's Docker, or on plain processes where there is none.

use std::path::Path;
use std::time::Duration;

use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::image;
use crate::exit::Failure;

/// How long the engine may take for a small question.
const ASK_TIME: Duration = Duration::from_secs(5);
/// How long it may take to import a few megabytes, or to run a program that does nothing.
const WORK_TIME: Duration = Duration::from_secs(30);
/// How many containers are killed or removed at once: more only adds latency.
const AT_ONCE: usize = 8;
/// How often the containers of the demo are looked for before their removal is given up.
const REMOVE_LOOKS: usize = 10;
const SECOND_LOOK: Duration = Duration::from_millis(300);
/// How many local images are tried for a shell.
const IMAGES: usize = 8;

/// What a replica does: it says that it is there, and stops when asked.
const SCRIPT: &str = "trap 'exit 0' TERM; n=0; while :; do n=$((n+1)); echo \"replica alive, line $n\"; sleep 1 & wait $!; done";

#[derive(Debug)]
pub(super) enum Stage {
    Docker {
        docker: Docker,
        address: String,
        version: String,
        image: String,
        /// The image was made for this demo and goes with it.
        imported: bool,
    },
    Process {
        why: String,
    },
}

impl Stage {
    /// Docker if it answers and an image with a shell can be had; else processes, saying why.
    ///
    /// # Errors
    /// When `--runtime docker` asks for what cannot be had.
    pub(super) async fn choose(address: &str, wanted: Option<&str>) -> Result<Self, Failure> {
        if wanted == Some("process") {
            return Ok(Self::Process { why: "as asked".to_owned() });
        }
        match on_docker(address).await {
            Ok(stage) => Ok(stage),
            Err(why) if wanted == Some("docker") => Err(Failure::failed(format!(
                "the demo cannot run on Docker: {why}. Without --runtime docker it runs on plain processes"
            ))),
            Err(why) => Ok(Self::Process { why }),
        }
    }

    pub(super) fn introduction(&self, nodes: u8) -> String {
        match self {
            Self::Docker { address, version, image, .. } => format!(
                "Starting {nodes} nodes on this machine, with Docker {version} at {address} and the image {image}:"
            ),
            Self::Process { why } => format!(
                "Starting {nodes} nodes on this machine, with plain processes for containers ({why}):"
            ),
        }
    }

    /// The flags of `shoal up` that belong to the stage.
    pub(super) fn flags(&self) -> Vec<String> {
        match self {
            Self::Docker { address, .. } => {
                ["--runtime", "docker", "--docker", address].map(str::to_owned).to_vec()
            }
            Self::Process { .. } => ["--runtime", "process"].map(str::to_owned).to_vec(),
        }
    }

    pub(super) fn spec(&self, name: &str, replicas: u16) -> Value {
        let image = match self {
            Self::Docker { image, .. } => image,
            Self::Process { .. } => "shoal-demo:none",
        };
        json!({
            "Name": name,
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": image,
                    "Args": ["sh", "-c", SCRIPT],
                    "StopGracePeriod": 2_000_000_000_u64,
                },
            },
            "Mode": { "Replicated": { "Replicas": replicas } },
        })
    }

    /// Kills all that runs for one node, as the end of its host would. Tells how many there were.
    pub(super) async fn kill_tasks(&self, node: &str, data_dir: &Path) -> Result<usize, Failure> {
        match self {
            Self::Docker { docker, .. } => {
                let label = format!("{}={node}", node::runtime::label::NODE);
                let ids = containers(docker, &label, false).await?;
                for_each(&ids, async |id| {
                    // One that has ended by itself meanwhile is as dead as it should be.
                    let _ = tokio::time::timeout(ASK_TIME, docker.kill_container(id, None)).await;
                })
                .await;
                Ok(ids.len())
            }
            Self::Process { .. } => Ok(super::crash::kill_processes(data_dir)),
        }
    }

    /// Removes all containers of the cluster, and the image if it was made for it.
    pub(super) async fn clean_up(&self, cluster: Option<&str>) -> Result<usize, Failure> {
        let Self::Docker { docker, image, imported, .. } = self else { return Ok(0) };
        let mut removed = 0;
        if let Some(cluster) = cluster {
            let label = format!("{}={cluster}", node::runtime::label::CLUSTER);
            removed = remove_all(docker, &label).await?;
        }
        if *imported {
            let options = RemoveImageOptionsBuilder::new().force(true).build();
            let removing = docker.remove_image(image, Some(options), None);
            if !matches!(tokio::time::timeout(WORK_TIME, removing).await, Ok(Ok(_))) {
                return Err(Failure::failed(format!(
                    "the image of the demo could not be removed: docker rmi {image}"
                )));
            }
        }
        Ok(removed)
    }
}

/// Removes until nothing is left, looking once more after a moment: the engine may still be making what
/// a node had asked for when it was killed.
async fn remove_all(docker: &Docker, label: &str) -> Result<usize, Failure> {
    let (mut removed, mut empty_looks) = (0, 0);
    for _ in 0..REMOVE_LOOKS {
        let ids = containers(docker, label, true).await?;
        if ids.is_empty() {
            empty_looks += 1;
            if empty_looks == 2 {
                return Ok(removed);
            }
            tokio::time::sleep(SECOND_LOOK).await;
            continue;
        }
        empty_looks = 0;
        for_each(&ids, async |id| remove(docker, id).await).await;
        removed += ids.len();
    }
    Err(Failure::failed(format!(
        "containers of the demo could not be removed: docker rm -f $(docker ps -aq --filter label={label})"
    )))
}

async fn for_each(ids: &[String], act: impl AsyncFn(&str)) {
    futures_util::stream::iter(ids).for_each_concurrent(AT_ONCE, async |id| act(id).await).await;
}

async fn containers(docker: &Docker, label: &str, all: bool) -> Result<Vec<String>, Failure> {
    let filters = std::collections::HashMap::from([("label", vec![label])]);
    let options = ListContainersOptionsBuilder::new().all(all).filters(&filters).build();
    let listed = tokio::time::timeout(WORK_TIME, docker.list_containers(Some(options)));
    match listed.await {
        Ok(Ok(list)) => Ok(list.into_iter().filter_map(|container| container.id).collect()),
        Ok(Err(error)) => Err(Failure::failed(format!(
            "Docker does not list the demo's containers ({error}); they carry the label {label}"
        ))),
        Err(_) => Err(Failure::failed(format!(
            "Docker does not answer; the demo's containers carry the label {label}"
        ))),
    }
}

async fn remove(docker: &Docker, id: &str) {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    // What could not be removed is found and reported by the listing that follows.
    let _ = tokio::time::timeout(WORK_TIME, docker.remove_container(id, Some(options))).await;
}

/// Why Docker cannot be the stage, in words.
async fn on_docker(address: &str) -> Result<Stage, String> {
    let docker =
        Docker::connect_with_unix(address, WORK_TIME.as_secs(), bollard::API_DEFAULT_VERSION)
            .map_err(|error| format!("no Docker at {address}: {error}"))?;
    let version = match tokio::time::timeout(ASK_TIME, docker.version()).await {
        Ok(Ok(version)) => version.version.unwrap_or_default(),
        Ok(Err(error)) => return Err(format!("Docker at {address} does not answer: {error}")),
        Err(_) => return Err(format!("Docker at {address} does not answer within {ASK_TIME:?}")),
    };
    let docker = docker.negotiate_version().await.map_err(|error| error.to_string())?;
    let stage = |docker: Docker, image: String, imported: bool| Stage::Docker {
        docker,
        address: address.to_owned(),
        version: version.clone(),
        image,
        imported,
    };
    if let Some(archive) = image::from_busybox() {
        let name = format!("shoal-demo:{}", std::process::id());
        if import(&docker, &name, archive).await.is_ok() {
            if has_shell(&docker, &name).await {
                return Ok(stage(docker, name, true));
            }
            let options = RemoveImageOptionsBuilder::new().build();
            let removing = docker.remove_image(&name, Some(options), None);
            // It is of no use to anybody, and of no harm either.
            let _ = tokio::time::timeout(WORK_TIME, removing).await;
        }
    }
    for image in local_images(&docker).await {
        if has_shell(&docker, &image).await {
            return Ok(stage(docker, image, false));
        }
    }
    Err(format!(
        "Docker at {address} has no image with a shell, and this machine no static busybox to make one of"
    ))
}

async fn import(docker: &Docker, name: &str, archive: Vec<u8>) -> Result<(), String> {
    let (repo, tag) = name.split_once(':').unwrap_or((name, "latest"));
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(repo).tag(tag).build();
    let body = bollard::body_full(archive.into());
    let importing = docker.create_image(Some(options), Some(body), None).try_collect::<Vec<_>>();
    match tokio::time::timeout(WORK_TIME, importing).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}

async fn local_images(docker: &Docker) -> Vec<String> {
    let options = ListImagesOptionsBuilder::new().build();
    let Ok(Ok(mut images)) =
        tokio::time::timeout(ASK_TIME, docker.list_images(Some(options))).await
    else {
        return Vec::new();
    };
    // The smallest first: they start the quickest.
    images.sort_by_key(|image| image.size);
    images
        .into_iter()
        .filter_map(|image| image.repo_tags.into_iter().find(|tag| !tag.contains("<none>")))
        .take(IMAGES)
        .collect()
}

/// Runs `sh -c 'exit 0'` in it.
async fn has_shell(docker: &Docker, image: &str) -> bool {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(Vec::new()),
        cmd: Some(["sh", "-c", "exit 0"].map(str::to_owned).to_vec()),
        network_disabled: Some(true),
        ..ContainerCreateBody::default()
    };
    let Ok(Ok(made)) = tokio::time::timeout(WORK_TIME, docker.create_container(None, body)).await
    else {
        return false;
    };
    let runs = async {
        docker.start_container(&made.id, None).await.ok()?;
        // An exit code other than zero comes as an error.
        docker.wait_container(&made.id, None).next().await?.ok()
    };
    let ended = tokio::time::timeout(WORK_TIME, runs).await.ok().flatten();
    remove(docker, &made.id).await;
    ended.is_some_and(|ended| ended.status_code == 0)
}
