//! Exit codes, the same for every verb.

use std::io;
use std::process::ExitCode;

use crate::api::ApiError;

/// What went wrong, as far as a script can act on it. Wrong usage is 2 (by the argument parser).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    /// Attempted and failed; the message says what.
    Failure = 1,
    /// The configuration is refused (`EX_USAGE` of sysexits.h); nothing was touched.
    Config = 64,
    /// No daemon answers (`EX_UNAVAILABLE`).
    NoDaemon = 69,
}

impl Exit {
    /// The code for `error`, by its cause.
    pub fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if let Some(ApiError::NoDaemon { .. }) = cause.downcast_ref() {
                return Self::NoDaemon;
            }
            if let Some(error) = cause.downcast_ref::<io::Error>() {
                // The reader of our output has seen enough, as in `veer connections | head`.
                if error.kind() == io::ErrorKind::BrokenPipe {
                    return Self::Ok;
                }
            }
        }
        Self::Failure
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_missing_daemon_has_its_own_code_however_deep_it_is() {
        let error = ApiError::NoDaemon {
            socket: "/nowhere".into(),
        };
        let wrapped = Err::<(), _>(error).context("list Groups").unwrap_err();

        assert_eq!(Exit::of(&wrapped), Exit::NoDaemon);
        assert_eq!(Exit::of(&anyhow::anyhow!("other")), Exit::Failure);
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));

        assert_eq!(Exit::of(&error), Exit::Ok);
    }
}
