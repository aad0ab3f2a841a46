//! What can go wrong between an operator and the daemon.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody listens on the socket.
    #[error(
        "no daemon answers at {}: start it with `veer run` (or `systemctl start veer`), \
         or name its socket with --socket", .socket.display()
    )]
    NoDaemon { socket: PathBuf },
    /// The caller may not open the socket.
    #[error(
        "open {}: permission denied; run this as root, or as a member of group `veer`",
        .socket.display()
    )]
    Denied { socket: PathBuf },
    /// The daemon went away or does not speak our language.
    #[error("ask the daemon at {} for {what}: {source}", .socket.display())]
    Broken {
        socket: PathBuf,
        what: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The daemon answered that it cannot.
    #[error(transparent)]
    Refused(#[from] Problem),
}

/// A refusal, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub kind: ProblemKind,
    /// What was asked, what is wrong with it, and what to do.
    pub message: String,
}

/// Kinds of refusal, each with its HTTP status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// 400: the question makes no sense.
    BadRequest,
    /// 404: there is no such object.
    NotFound,
    /// 500: the daemon tried and failed.
    Failed,
}

impl Problem {
    /// A question that makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self {
            kind: ProblemKind::BadRequest,
            message: message.into(),
        }
    }

    /// A question about something that is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self {
            kind: ProblemKind::NotFound,
            message: message.into(),
        }
    }

    /// Something the daemon tried in vain.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            kind: ProblemKind::Failed,
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}
