//! veer's own table in nftables: masquerade by the kernel, where the configuration asks for it.
//!
//! The text of what is there is kept in a file, so that it is changed only when it differs and taken
//! away when it is no longer wanted.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::Command;

use crate::tool::run;

/// Makes the table empty, whether it is there or not.
const CLEARED: &str = "table inet veer\ndelete table inet veer\n";

/// The table of one instance.
#[derive(Debug)]
pub struct Table {
    file: PathBuf,
}

impl Table {
    /// The one whose text is in `file`; no file: it is not there.
    pub fn open(file: PathBuf) -> Self {
        Self { file }
    }

    /// Replaces the table in one step, if it is another one; `None` takes it away. Must be called from a
    /// thread in the namespace that is meant. Returns whether anything changed.
    pub fn set(&self, wanted: Option<&str>) -> io::Result<bool> {
        let there = match fs::read_to_string(&self.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            result => Some(result?),
        };
        if there.as_deref() == wanted {
            return Ok(false);
        }
        load(&format!("{CLEARED}{}", wanted.unwrap_or_default()))?;
        match wanted {
            Some(text) => fs::write(&self.file, text)?,
            None => fs::remove_file(&self.file)?,
        }
        Ok(true)
    }
}

fn load(text: &str) -> io::Result<()> {
    let attempted = |error: io::Error| {
        let message =
            format!("run nft: {error}; install nftables, or set [ports] masquerade to ebpf");
        io::Error::new(error.kind(), message)
    };
    let output = run(Command::new("nft").args(["-f", "-"]), text).map_err(attempted)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "load the nftables table veer: {}",
        said.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Namespace;

    fn listed(namespace: &Namespace) -> String {
        let mut command = Command::new("nft");
        command.args(["list", "ruleset"]);
        let output = namespace.run(|| command.output()).unwrap().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn the_table_is_replaced_as_a_whole_and_taken_away() {
        let (folder, namespace) = (tempfile::tempdir().unwrap(), Namespace::create().unwrap());
        let file = folder.path().join("rules.nft");
        let table = Table::open(file.clone());
        let text = |chain| format!("table inet veer {{\n chain {chain} {{ }}\n}}\n");
        let set = |wanted: Option<&str>| namespace.run(|| table.set(wanted)).unwrap().unwrap();

        assert!(set(Some(&text("one"))) && !set(Some(&text("one"))));
        assert!(set(Some(&text("two"))));
        let rules = listed(&namespace);
        assert!(
            rules.contains("chain two") && !rules.contains("chain one"),
            "{rules}"
        );
        assert!(set(None) && !set(None));

        assert_eq!(listed(&namespace), "");
        assert!(!file.exists());
    }
}
