//! Programs that tasks start: run to the end, or take the task's place.

use std::{
    env,
    io::{self, IsTerminal as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Runs `command` to its end; an error unless it succeeds. What it prints goes to stderr, because
/// stdout belongs to the task's own answer.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = described(command);
    let status = command
        .stdout(Stdio::from(io::stderr()))
        .status()
        .with_context(|| format!("start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Becomes `command`, so that signals and the exit status are its own. Returns only on failure.
pub(crate) fn replace_by(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("start `{}`", described(command)))
}

/// True if `program` is in a folder of `PATH`, or in one that root's has and a user's may lack.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let for_root = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut folders = env::split_paths(&path).chain(for_root);
    folders.any(|folder| folder.join(program).is_file())
}

/// The cargo that runs this task; its siblings build everything but the kernel programs.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Tells the user about a step, on stderr.
pub(crate) fn say(message: &str) {
    let (bold, plain) = if io::stderr().is_terminal() {
        ("\x1b[1;36m", "\x1b[0m")
    } else {
        ("", "")
    };
    eprintln!("{bold}xtask:{plain} {message}");
}

/// The command line as a person would type it, without the environment.
fn described(command: &Command) -> String {
    let arguments = command
        .get_args()
        .map(|argument| argument.to_string_lossy());
    std::iter::once(command.get_program().to_string_lossy())
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}
