//! Root for what cargo starts, while cargo itself and its files stay the user's.

use anyhow::{Result, ensure};

use crate::process;

/// True if this task runs as root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A value for cargo's `--config` that starts programs under sudo; `None` for root itself.
///
/// `variables` are set for the program: sudo drops `PATH` and `LD_LIBRARY_PATH` even with `-E`.
pub(crate) fn runner(variables: &[(String, String)]) -> Result<Option<String>> {
    if is_root() {
        return Ok(None);
    }
    ensure!(
        process::is_installed("sudo"),
        "become root: this machine has no sudo, run the task as root"
    );
    Ok(Some(runner_line(variables)))
}

fn runner_line(variables: &[(String, String)]) -> String {
    let mut words = vec!["sudo".to_owned(), "-E".into()];
    if !variables.is_empty() {
        words.push("env".into());
        words.extend(
            variables
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
    }
    // The words are paths and names; Debug's quoting of those is also TOML's.
    format!("target.'cfg(unix)'.runner={words:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_variables_sudo_starts_the_program_itself() {
        assert_eq!(
            runner_line(&[]),
            r#"target.'cfg(unix)'.runner=["sudo", "-E"]"#
        );
    }

    #[test]
    fn variables_that_sudo_would_drop_are_set_behind_it() {
        let line = runner_line(&[("PATH".into(), "/a b:/c".into())]);

        assert_eq!(
            line,
            r#"target.'cfg(unix)'.runner=["sudo", "-E", "env", "PATH=/a b:/c"]"#
        );
    }
}
