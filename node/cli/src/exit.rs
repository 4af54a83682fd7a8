//! How a command ends, for people and for scripts.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | refused or failed; the text says why and what is still true |
//! | 2 | the command line is wrong; nothing was sent |
//! | 3 | the change was accepted and has not come about (yet): waited too long, paused, interrupted; of `plan`: something would be left waiting |
//! | 4 | no shoal node could be reached |

use std::fmt;
use std::process::ExitCode;

use crate::client::ClientError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Whoever read our output has gone away (`| head`): an end, not a failure, and nothing is said.
    /// It is passed up like a failure so that whatever was started is ended first.
    ReaderGone,
    Failed,
    Usage,
    NotConverged,
    Unreachable,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(match code {
            Code::ReaderGone => 0,
            Code::Failed => 1,
            Code::Usage => 2,
            Code::NotConverged => 3,
            Code::Unreachable => 4,
        })
    }
}

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Code::Failed, message)
    }

    /// From writing to standard output.
    pub(crate) fn of_output(error: &std::io::Error) -> Self {
        let code = if error.kind() == std::io::ErrorKind::BrokenPipe {
            Code::ReaderGone
        } else {
            Code::Failed
        };
        Self::new(code, format!("cannot write the output: {error}"))
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match error {
            ClientError::Unreachable { .. } => Code::Unreachable,
            ClientError::Refused { .. } | ClientError::Broken(_) | ClientError::TooSlow(_) => {
                Code::Failed
            }
        };
        Self::new(code, error.to_string())
    }
}

pub(crate) type Outcome = Result<(), Failure>;
