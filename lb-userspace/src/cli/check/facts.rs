//! What can be seen of this host.

use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::{SchedClassifier, TcAttachType};

use super::engine::Engine;
use super::routes::{self, Route};
use crate::api::{Api, Client};
use crate::config::Vips;
use crate::daemon::{ConfigSource, Overrides};
use crate::datapath::{Feature, features};
use crate::instance::Instance;
use crate::netns::{InterfaceKind, Namespace};

/// Everything that the rules judge.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// What the datapath needs or makes use of.
    pub(super) features: Vec<Feature>,
    pub(super) routes: Vec<Route>,
    /// `net.bridge.bridge-nf-call-iptables`; none: br_netfilter is not loaded.
    pub(super) bridge_netfilter: Option<bool>,
    /// Programs of others on ports of bridges.
    pub(super) strangers: Vec<Stranger>,
    pub(super) engine: Engine,
    /// The file and what it says of VIPs, or why it is refused.
    pub(super) config: Result<(Option<PathBuf>, Vips), String>,
    pub(super) daemon: Daemon,
}

/// A program that is not veer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stranger {
    pub(super) interface: String,
    pub(super) program: String,
}

/// The daemon of this namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Daemon {
    Running {
        pid: u32,
        version: String,
    },
    /// Its socket cannot be asked, and why.
    Silent(String),
}

/// Looks at everything. What cannot be read is taken as not being there.
pub(super) async fn gather(config: Option<&Path>, engine: Engine) -> Facts {
    Facts {
        features: features(Path::new("/sys/fs/bpf")),
        routes: [
            routes::parse_v4(&read("/proc/net/route")),
            routes::parse_v6(&read("/proc/net/ipv6_route")),
        ]
        .concat(),
        bridge_netfilter: fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables")
            .ok()
            .map(|text| text.trim() == "1"),
        strangers: strangers(),
        engine,
        config: vips(config),
        daemon: daemon().await,
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn vips(path: Option<&Path>) -> Result<(Option<PathBuf>, Vips), String> {
    let source = ConfigSource::new(path.map(Path::to_owned), Overrides::default());
    let config = source.load().map_err(|error| error.to_string())?;
    Ok((source.file(), config.vips))
}

async fn daemon() -> Daemon {
    let socket = match Instance::here() {
        Ok(instance) => instance.socket(),
        Err(error) => return Daemon::Silent(error.to_string()),
    };
    match Client::new(socket).status().await {
        Ok(status) => Daemon::Running {
            pid: status.pid,
            version: status.version,
        },
        Err(error) => Daemon::Silent(error.to_string()),
    }
}

/// Programs on the tcx ingress of bridge ports (Linux 6.6).
fn strangers() -> Vec<Stranger> {
    let interfaces = Namespace::current().and_then(|namespace| namespace.interfaces());
    let mut found = Vec::new();
    for interface in interfaces.unwrap_or_default() {
        if interface.kind != InterfaceKind::Veth || interface.master.is_none() {
            continue;
        }
        let Ok((_, programs)) =
            SchedClassifier::query_tcx(interface.name.as_str(), TcAttachType::Ingress)
        else {
            continue;
        };
        let names = programs.iter().filter_map(|program| program.name_as_str());
        found.extend(
            names
                .filter(|name| !OURS.contains(name))
                .map(|name| Stranger {
                    interface: interface.name.clone(),
                    program: name.to_owned(),
                }),
        );
    }
    found
}

/// Names of veer's programs on veths.
const OURS: [&str; 1] = ["endpoint_in"];
