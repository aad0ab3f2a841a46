//! What is going on, for whoever waits.

use std::io::{IsTerminal as _, Write as _, stderr};

/// A line on the terminal that is written over; nothing elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    done: usize,
    all: usize,
}

impl Progress {
    pub(crate) fn new(all: usize) -> Self {
        Self { done: 0, all }
    }

    /// The next one begins.
    pub(crate) fn step(&mut self, what: &str) {
        self.done += 1;
        if stderr().is_terminal() {
            // A closed terminal is no reason to stop measuring.
            let _ = write!(stderr(), "\r\x1b[K[{}/{}] {what}", self.done, self.all);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if stderr().is_terminal() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
