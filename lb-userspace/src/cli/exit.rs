//! Exit codes, the same for every verb.

use std::io;
use std::process::ExitCode;

use crate::api::ApiError;
use crate::config::ConfigError;
use crate::provider::lab::LabError;

/// What went wrong, as far as a script can act on it. Wrong usage is 2 (by the argument parser).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0.
    Ok,
    /// 1: attempted and failed; the message says what.
    Failure,
    /// 64: the configuration or topology is refused (`EX_USAGE` of sysexits.h); nothing was touched.
    Config,
    /// 69: no daemon answers (`EX_UNAVAILABLE`).
    NoDaemon,
    /// That of a command that was run in a container of the lab.
    Command(u8),
}

impl Exit {
    /// The code for `error`, by its cause.
    pub fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if let Some(ApiError::NoDaemon { .. }) = cause.downcast_ref() {
                return Self::NoDaemon;
            }
            if cause.downcast_ref::<ConfigError>().is_some() {
                return Self::Config;
            }
            if let Some(LabError::File { .. } | LabError::Topology(_)) = cause.downcast_ref() {
                return Self::Config;
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
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Config => 64,
            Exit::NoDaemon => 69,
            Exit::Command(code) => code,
        })
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
    fn a_refused_configuration_has_its_own_code() {
        let error = crate::config::Config::load(std::path::Path::new("/nowhere")).unwrap_err();

        assert_eq!(Exit::of(&error.into()), Exit::Config);
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));

        assert_eq!(Exit::of(&error), Exit::Ok);
    }
}
