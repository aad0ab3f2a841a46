//! Programs of the host that are given their input.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

/// What `command` says and how it ends, with `input` to read.
pub(crate) fn run(command: &mut Command, input: &str) -> io::Result<Output> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let stdin = child.stdin.take();
    let written = stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    // Who has failed says itself why it did not read on.
    if output.status.success() {
        written?;
    }
    Ok(output)
}
