//! Calls to the engine, each with a deadline, and whether the engine answers at all.
//!
//! A dead engine refuses connections; a hung one accepts them and never answers. So every call ends
//! at its deadline, and also at once when the heartbeat ([`super::watch`]) finds that the engine no
//! longer answers: otherwise calls that will never end would hold all the places that the first calls
//! after its recovery need.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as BollardError;
use tokio::sync::watch;

/// A call that only reads.
pub(super) const READ_DEADLINE: Duration = Duration::from_secs(15);
/// A call that makes the engine work. Generous: fifty starts at once take eight seconds each on two
/// cores, and a slow disk is slower than that.
pub(super) const WORK_DEADLINE: Duration = Duration::from_secs(120);
/// One heartbeat.
pub(super) const PING_DEADLINE: Duration = Duration::from_secs(3);

/// bollard's own limit, above all of ours: it only bounds the wait for the head of an answer.
const BOLLARD_TIMEOUT_SECS: u64 = 24 * 3600;

/// Why a call gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    #[error("the Docker engine does not answer: {0}")]
    Unavailable(String),
    #[error("the Docker engine did not {what} within {} s", deadline.as_secs())]
    Deadline { what: &'static str, deadline: Duration },
    /// The engine answered, and said no.
    #[error("{message}")]
    Refused { status: u16, message: String },
    #[error("the Docker engine's answer is not understood: {0}")]
    NotUnderstood(String),
}

impl CallError {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }

    pub(super) fn from_bollard(error: BollardError) -> Self {
        match error {
            BollardError::DockerResponseServerError { status_code, message } => {
                Self::Refused { status: status_code, message: message.trim().to_owned() }
            }
            BollardError::DockerStreamError { error } => {
                Self::Refused { status: 500, message: error.trim().to_owned() }
            }
            error @ (BollardError::JsonDataError { .. } | BollardError::JsonSerdeError { .. }) => {
                Self::NotUnderstood(error.to_string())
            }
            other => Self::Unavailable(chain(&other)),
        }
    }
}

/// An error with its causes: hyper's own text is only "client error (Connect)".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// Whether the engine answers, as the heartbeat last found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    /// Not asked yet.
    Unknown,
    Beating,
    Lost(String),
}

#[derive(Debug)]
pub(super) struct Engine {
    socket: PathBuf,
    client: OnceLock<Docker>,
    pulse: watch::Sender<Pulse>,
}

impl Engine {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket, client: OnceLock::new(), pulse: watch::Sender::new(Pulse::Unknown) }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The client. It keeps no connection; making it only fails while there is no socket.
    pub(super) fn client(&self) -> Result<Docker, CallError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let path = self.socket.to_string_lossy();
        let client =
            Docker::connect_with_unix(&path, BOLLARD_TIMEOUT_SECS, bollard::API_DEFAULT_VERSION)
                .map_err(|e| CallError::Unavailable(chain(&e)))?;
        Ok(self.client.get_or_init(|| client).clone())
    }

    /// Sets what the heartbeat found; true if that is news.
    pub(super) fn set_pulse(&self, pulse: Pulse) -> bool {
        self.pulse.send_if_modified(|before| {
            let news = std::mem::discriminant(before) != std::mem::discriminant(&pulse);
            *before = pulse;
            news
        })
    }

    /// Ends when the engine is lost, with the reason.
    pub(super) async fn lost(&self) -> CallError {
        let mut pulse = self.pulse.subscribe();
        let lost = pulse.wait_for(|pulse| matches!(pulse, Pulse::Lost(_))).await;
        match lost.as_deref() {
            Ok(Pulse::Lost(reason)) => CallError::Unavailable(reason.clone()),
            // The sender lives as long as `self`, so this does not happen.
            _ => CallError::Unavailable("shoal is ending".to_owned()),
        }
    }

    /// Makes a call: until its answer, its deadline, or the loss of the engine.
    pub(super) async fn call<T, F>(
        &self,
        what: &'static str,
        deadline: Duration,
        call: impl FnOnce(Docker) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, BollardError>>,
    {
        let client = self.client()?;
        tokio::select! {
            biased;
            lost = self.lost() => Err(lost),
            answer = tokio::time::timeout(deadline, call(client)) => match answer {
                Ok(answer) => answer.map_err(CallError::from_bollard),
                Err(_) => Err(CallError::Deadline { what, deadline }),
            }
        }
    }

    /// One heartbeat; asks also an engine that counts as lost.
    pub(super) async fn ping(&self) -> Result<(), CallError> {
        let client = self.client()?;
        match tokio::time::timeout(PING_DEADLINE, client.ping()).await {
            Ok(answer) => answer.map(drop).map_err(CallError::from_bollard),
            Err(_) => Err(CallError::Deadline { what: "answer a ping", deadline: PING_DEADLINE }),
        }
    }

    /// The engine's version; asks also an engine that counts as lost.
    pub(super) async fn version(&self) -> Result<String, CallError> {
        let client = self.client()?;
        match tokio::time::timeout(READ_DEADLINE, client.version()).await {
            Ok(answer) => {
                let version = answer.map_err(CallError::from_bollard)?.version;
                Ok(version.unwrap_or_else(|| "unknown".to_owned()))
            }
            Err(_) => Err(CallError::Deadline { what: "say its version", deadline: READ_DEADLINE }),
        }
    }
}
