//! Every network namespace that there is, as far as it can be reached.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Namespace, for_each};

/// Where namespaces without a process are kept: by the Engine and by `ip netns`.
const KEPT: [&str; 2] = ["/var/run/docker/netns", "/run/netns"];

/// The namespaces of all processes and those that are kept by files, each once, with its cookie. What
/// vanishes meanwhile is left out.
pub fn every_namespace() -> Vec<(u64, Namespace)> {
    let processes = entries(Path::new("/proc"));
    let processes = processes.into_iter().map(|folder| folder.join("ns/net"));
    let kept = KEPT.iter().flat_map(|folder| entries(Path::new(folder)));
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for path in processes.chain(kept) {
        let Ok(file) = fs::metadata(&path) else {
            continue;
        };
        if seen.insert((file.dev(), file.ino())) {
            found.extend(Namespace::open(&path));
        }
    }
    // What else is in these folders is no namespace, and says so.
    let cookies = for_each(&found, |namespace| namespace.cookie().ok());
    let both = cookies.into_iter().zip(found);
    both.filter_map(|(cookie, namespace)| Some((cookie?, namespace)))
        .collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
