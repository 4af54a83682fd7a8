//! Images that are not here yet.
//!
//! A hundred replicas of one image that is missing are one pull, not a hundred: the first that finds
//! it missing fetches it, the others wait for the outcome, also for a bad one. A pinned digest is
//! never silently replaced by whatever bears the tag: it says which bytes the operator means.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use node::registry_auth::RegistryAuth;
use tokio::sync::Semaphore;

use super::engine::{CallError, Engine, READ_DEADLINE};
use super::pull;

/// The longest that a pull may take.
const PULL_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// Pulls at once: they share one link.
const PULLS_AT_ONCE: usize = 2;
/// For how long a failed pull speaks for those who ask next.
const FAILURE_HOLDS: Duration = Duration::from_secs(10);
/// How many images are remembered before those nobody waits for are forgotten.
const REMEMBERED: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ImageError {
    /// It is neither here nor to be had; the text begins as Docker's own does.
    Missing(String),
    Engine(CallError),
}

/// An image and with which credentials: those who may not have it do not speak for those who may.
type Wanted = (String, Option<String>);

#[derive(Debug, Default)]
struct Pull {
    failed: Option<(Instant, String)>,
}

pub(super) struct Pulls {
    images: Mutex<BTreeMap<Wanted, Arc<tokio::sync::Mutex<Pull>>>>,
    at_once: Semaphore,
}

// Its keys have credentials in them.
impl std::fmt::Debug for Pulls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pulls").finish_non_exhaustive()
    }
}

impl Pulls {
    pub(super) fn new() -> Self {
        Self { images: Mutex::new(BTreeMap::new()), at_once: Semaphore::new(PULLS_AT_ONCE) }
    }

    fn pull_of(&self, image: &str, auth: Option<&RegistryAuth>) -> Arc<tokio::sync::Mutex<Pull>> {
        // Nothing panics while it is held.
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if images.len() >= REMEMBERED {
            images.retain(|_, pull| Arc::strong_count(pull) > 1);
        }
        let wanted = (image.to_owned(), auth.map(|auth| auth.reveal().to_owned()));
        images.entry(wanted).or_default().clone()
    }

    /// Makes sure that `image`, which was just found missing, is here. Gives the name to create from.
    pub(super) async fn fetch(
        &self,
        engine: &Engine,
        image: &str,
        auth: Option<&RegistryAuth>,
    ) -> Result<String, ImageError> {
        let pull = self.pull_of(image, auth);
        let mut pull = pull.lock().await;
        if let Some(local) = local(engine, image).await? {
            pull.failed = None;
            return Ok(local);
        }
        if let Some((at, message)) = &pull.failed
            && at.elapsed() < FAILURE_HOLDS
        {
            return Err(ImageError::Missing(message.clone()));
        }
        // The semaphore is never closed.
        let _place = self.at_once.acquire().await;
        match download(engine, image, auth).await {
            Ok(()) => {
                pull.failed = None;
                Ok(image.to_owned())
            }
            Err(CallError::Unavailable(reason)) => {
                Err(ImageError::Engine(CallError::Unavailable(reason)))
            }
            Err(error) => {
                let message = format!("No such image: {} ({error})", Reference::parse(image));
                pull.failed = Some((Instant::now(), message.clone()));
                Err(ImageError::Missing(message))
            }
        }
    }
}

/// The image by a name under which the engine has it, if it has it.
async fn local(engine: &Engine, image: &str) -> Result<Option<String>, ImageError> {
    if inspect(engine, image).await?.is_some() {
        return Ok(Some(image.to_owned()));
    }
    // An engine finds an image by digest only under the name it was pulled by. The tag may still lead
    // to the very bytes that are meant, and then there is nothing to fetch.
    let Reference { name, tag, digest: Some(digest) } = Reference::parse(image) else {
        return Ok(None);
    };
    let tagged = format!("{name}:{}", tag.unwrap_or("latest"));
    let Some(found) = inspect(engine, &tagged).await? else { return Ok(None) };
    let pinned = format!("@{digest}");
    let same = found.id.as_deref() == Some(digest)
        || found.repo_digests.iter().flatten().any(|known| known.ends_with(&pinned));
    Ok(found.id.filter(|_| same))
}

pub(super) async fn inspect(
    engine: &Engine,
    image: &str,
) -> Result<Option<bollard::models::ImageInspect>, ImageError> {
    let name = image.to_owned();
    let inspected = engine
        .call("look for an image", READ_DEADLINE, |docker| async move {
            docker.inspect_image(&name).await
        })
        .await;
    match inspected {
        Ok(found) => Ok(Some(found)),
        Err(CallError::Refused { .. }) => Ok(None),
        Err(error) => Err(ImageError::Engine(error)),
    }
}

async fn download(
    engine: &Engine,
    image: &str,
    auth: Option<&RegistryAuth>,
) -> Result<(), CallError> {
    let reference = Reference::parse(image);
    // Without a tag the engine would fetch all of them; it takes a digest in the tag's place.
    let tag = reference.digest.or(reference.tag).unwrap_or("latest");
    let pull = |_| pull::pull(engine.socket(), reference.name, tag, auth);
    engine.call("pull an image", PULL_DEADLINE, pull).await
}

/// An image's name taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reference<'a> {
    name: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    fn parse(image: &'a str) -> Self {
        let (rest, digest) = match image.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (image, None),
        };
        // A colon before the last slash belongs to the port of a registry.
        match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => Self { name, tag: Some(tag), digest },
            _ => Self { name: rest, tag: None, digest },
        }
    }
}

impl std::fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)?;
        match (self.tag, self.digest) {
            (Some(tag), _) => write!(f, ":{tag}")?,
            (None, None) => f.write_str(":latest")?,
            (None, Some(_)) => {}
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart_as_docker_takes_them() {
        let parsed = |image| {
            let Reference { name, tag, digest } = Reference::parse(image);
            (name, tag, digest)
        };
        assert_eq!(parsed("nginx"), ("nginx", None, None));
        assert_eq!(parsed("nginx:1.25"), ("nginx", Some("1.25"), None));
        assert_eq!(parsed("r:5000/a/b"), ("r:5000/a/b", None, None));
        assert_eq!(parsed("r:5000/a:1@sha256:f"), ("r:5000/a", Some("1"), Some("sha256:f")));
        assert_eq!(parsed("a@sha256:f"), ("a", None, Some("sha256:f")));
        assert_eq!(Reference::parse("nginx").to_string(), "nginx:latest");
        assert_eq!(Reference::parse("a:1@sha256:f").to_string(), "a:1@sha256:f");
    }
}
