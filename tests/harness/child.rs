//! Programs that a test starts.

use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::deadline::within;
use std::time::Duration;

/// A program that ends with the test at the latest.
#[derive(Debug)]
pub struct Guarded(Child);

impl Guarded {
    /// Starts `command`, without input.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).spawn().map(Self)
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Waits for its end. Panics when it does not come within `limit`.
    #[track_caller]
    pub fn end(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        within(limit, "the program ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.expect("it was waited for")
    }

    /// Ends it without asking, as `kill -9` does.
    pub fn kill(&mut self) {
        // Only fails for a program that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}
