//! Credentials for a registry, as a client sent them with a service.
//!
//! They are part of the service's record, beside the spec and not inside it: every node must be able to pull
//! with them, and nobody is shown them. They are not part of the template either, so that new ones replace no
//! task; what is started next uses them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The largest credentials that are taken, in bytes. A token of an identity provider has a few thousand.
pub const MAX_REGISTRY_AUTH_BYTES: usize = 64 * 1024;

/// Docker's AuthConfig as JSON text. Says nothing of itself when it is formatted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RegistryAuth(String);

impl RegistryAuth {
    /// `None` for more than [`MAX_REGISTRY_AUTH_BYTES`].
    pub fn new(json: String) -> Option<Self> {
        (json.len() <= MAX_REGISTRY_AUTH_BYTES).then_some(Self(json))
    }

    /// The JSON itself: for the engine only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryAuth(hidden)")
    }
}

/// What an update does about the credentials, as Docker's `registryAuthFrom` and the header say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuthChange {
    /// Those that there are.
    #[default]
    Keep,
    /// Those that belong to the spec before this one.
    FromPrevious,
    /// These, or none.
    Set(Option<RegistryAuth>),
}
