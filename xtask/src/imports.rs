//! Which module may mention what: the rules that keep decisions apart from actions.
//!
//! The sources are read as text, not compiled: every path in them (`a::b::c`, and each leaf of a
//! `use` tree) is compared with the names that its room forbids. Comments and strings are not code.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::paths::{self, Mention};

/// Names that the files of one room must not mention.
struct Rule {
    /// A folder or file below the root; all Rust files in it.
    room: &'static str,
    /// Folders or files in the room to which the rule does not apply.
    except: &'static [&'static str],
    forbidden: &'static [&'static str],
    why: &'static str,
}

const IO: &[&str] = &[
    "async",
    "await",
    "aya",
    "axum",
    "bollard",
    "futures_util",
    "hickory_proto",
    "hyper",
    "hyper_util",
    "libc",
    "netlink_packet_route",
    "nix",
    "rtnetlink",
    "tokio",
    "std::env",
    "std::fs",
    "std::io",
    "std::os",
    "std::process",
    "std::thread",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "crate::api",
    "crate::cli",
    "crate::daemon",
    "crate::datapath",
    "crate::dns",
    "crate::netns",
    "crate::provider",
];
const PURE: &str = "it decides and does nothing, so that every decision is tested without a kernel";
const UNSAFE: &str = "unsafe code has rooms of its own, where every block is argued";

const RULES: [Rule; 5] = [
    Rule {
        room: "lb-userspace/src/model",
        except: &[],
        forbidden: IO,
        why: PURE,
    },
    Rule {
        room: "lb-userspace/src/reconcile",
        except: &[],
        forbidden: IO,
        why: PURE,
    },
    Rule {
        room: "lb-userspace/src",
        except: &[
            "lb-userspace/src/datapath",
            "lb-userspace/src/netns",
            "lb-userspace/src/daemon/memory.rs",
        ],
        forbidden: &["unsafe"],
        why: UNSAFE,
    },
    Rule {
        room: "lb-ebpf/src",
        except: &["lb-ebpf/src/kernel"],
        forbidden: &["unsafe", "aya_ebpf"],
        why: "the datapath's decisions also run on the host, under `cargo test`",
    },
    Rule {
        room: "lb-common/src",
        except: &[],
        forbidden: &["unsafe"],
        why: UNSAFE,
    },
];

/// The crate whose root must forbid unsafe code.
const FORBIDS_UNSAFE: &str = "lb-ebpf/src/lib.rs";

/// Checks every rule on the workspace at `root`; the error lists what breaks them.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut broken = Vec::new();
    for rule in &RULES {
        broken.extend(breaches(root, rule)?);
    }
    if !read(&root.join(FORBIDS_UNSAFE))?.contains("#![forbid(unsafe_code)]") {
        broken.push(format!("{FORBIDS_UNSAFE}: lacks #![forbid(unsafe_code)]"));
    }
    if !broken.is_empty() {
        bail!(
            "{} mentions in the wrong place:\n  {}",
            broken.len(),
            broken.join("\n  ")
        );
    }
    Ok(())
}

fn breaches(root: &Path, rule: &Rule) -> Result<Vec<String>> {
    let files = rust_files(&root.join(rule.room))?;
    let excepted = |file: &Path| {
        rule.except
            .iter()
            .any(|room| file.starts_with(root.join(room)))
    };
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| !excepted(file)) {
        let shown = file.strip_prefix(root).unwrap_or(file).display();
        for Mention { line, path } in forbidden(&read(file)?, rule.forbidden) {
            let why = rule.why;
            broken.push(format!(
                "{shown}:{line}: `{path}` does not belong here: {why}"
            ));
        }
    }
    Ok(broken)
}

/// The mentions in `source` that contain one of the `forbidden` names.
fn forbidden(source: &str, forbidden: &[&str]) -> Vec<Mention> {
    let mut mentions = paths::mentions(source);
    mentions.retain(|mention| forbidden.iter().any(|name| mention.contains(name)));
    mentions
}

/// The Rust files in `room` and below; an error if there are none, for a rule must guard something.
fn rust_files(room: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![room.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries =
                fs::read_dir(&path).with_context(|| format!("read {}", path.display()))?;
            open.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!(
            "an import rule guards {}, but there is no Rust file",
            room.display()
        );
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(source: &str, names: &[&str]) -> Vec<String> {
        forbidden(source, names)
            .into_iter()
            .map(|mention| mention.path)
            .collect()
    }

    #[test]
    fn a_room_that_mentions_what_it_must_not_is_found_with_file_and_line() {
        let root = tempfile::tempdir().unwrap();
        let room = root.path().join("lb-userspace/src/model");
        fs::create_dir_all(&room).unwrap();
        fs::write(
            room.join("group.rs"),
            "//! Groups.\n\nuse tokio::sync::watch;\n",
        )
        .unwrap();

        let broken = breaches(root.path(), &RULES[0]).unwrap();

        assert_eq!(broken.len(), 1, "{broken:?}");
        assert!(broken[0].starts_with("lb-userspace/src/model/group.rs:3: `tokio::sync::watch`"));
    }

    #[test]
    fn an_excepted_room_may_mention_it() {
        let root = tempfile::tempdir().unwrap();
        for room in ["lb-ebpf/src", "lb-ebpf/src/kernel"] {
            fs::create_dir_all(root.path().join(room)).unwrap();
            fs::write(root.path().join(room).join("x.rs"), "fn f() { unsafe {} }").unwrap();
        }

        let broken = breaches(root.path(), &RULES[3]).unwrap();

        assert_eq!(broken.len(), 1, "only the file outside kernel: {broken:?}");
        assert!(broken[0].starts_with("lb-ebpf/src/x.rs:1:"));
    }

    #[test]
    fn a_rule_without_files_is_an_error() {
        let root = tempfile::tempdir().unwrap();

        assert!(breaches(root.path(), &RULES[0]).is_err());
    }

    #[test]
    fn io_hidden_in_a_use_tree_is_found() {
        let source = "use std::{collections::BTreeMap, net::{IpAddr, UdpSocket}, fs};";

        assert_eq!(named(source, IO), ["std::net::UdpSocket", "std::fs"]);
    }

    #[test]
    fn addresses_and_words_in_comments_are_no_io() {
        let source =
            "use std::net::{IpAddr, Ipv4Addr}; // no tokio here\n/// Not std::fs.\nfn f() {}";

        assert_eq!(named(source, IO), Vec::<String>::new());
    }
}
