//! Programs of the system, run inside a station.

use std::process::Command;

use crate::station::Station;

impl Station {
    /// Runs `words` inside the container's network namespace. Returns what it writes; panics, with
    /// what it says, when it fails.
    #[track_caller]
    pub fn program(&self, words: &str) -> String {
        let mut words_of = words.split_whitespace();
        let mut command = Command::new(words_of.next().expect("a program"));
        command.args(words_of);
        let output = self.run(|| command.output()).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words} in {}: {said}", self.name);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
