//! How soon a container that the Engine connects to a network is served.

use std::path::Path;
use std::thread::sleep;

use anyhow::{Context as _, Result, ensure};
use veer_tests::engine::{Engine, IMAGE};

use super::super::lab::{Latency, Site, host};
use super::{REST, until};

/// Where the Engine's data is in memory: it writes down each connection before it lets anybody ask
/// about the container, and how long a disk takes says nothing about veer.
const MEMORY: &str = "/dev/shm";

/// What the daemon says of the time from the Engine's event to a served container, for `connections`
/// of containers that run. `None`, and why, where there is no Engine to be had.
pub(super) fn connect(connections: usize) -> Result<Result<Latency, String>> {
    if let Some(program) = Engine::lacks() {
        return Ok(Err(format!("{program} is not installed")));
    }
    if !Path::new(MEMORY).is_dir() {
        return Ok(Err(format!("there is no {MEMORY}")));
    }
    let data = tempfile::Builder::new()
        .prefix("veer-engine-")
        .tempdir_in(MEMORY)?;
    let root = data.path().join("data");
    let namespace = host()?;
    let site = Site::on(namespace.try_clone()?)?;
    let arguments = ["--data-root", &root.to_string_lossy()];
    let engine = Engine::start_with(namespace, &arguments);
    let (containers, networks) = (connections.min(20), connections.div_ceil(20));
    let network = |number: usize| format!("net{number}");
    for number in 0..=networks {
        engine.docker(["network", "create", &network(number)]);
    }
    for number in 0..containers {
        let words = format!(
            "run -d --name web{number} --network {} {IMAGE} sleep 100000",
            network(0)
        );
        engine.docker(words.split(' '));
    }

    let daemon = site.following(&engine.socket())?;
    let mut endpoints = containers;
    site.until_served(containers, &daemon)?;
    for number in 1..=networks {
        for container in 0..containers {
            let words = format!(
                "network connect --alias tg-net {} web{container}",
                network(number)
            );
            engine.docker(words.split(' '));
            endpoints += 1;
            sleep(REST);
            until(|| {
                let status = site.status().context("ask the daemon")?;
                Ok(status.counts.endpoints == endpoints)
            })?;
        }
    }
    let latency = site.status().context("ask the daemon")?.latency;
    ensure!(
        latency.count >= connections,
        "{} of {connections} changes were measured",
        latency.count
    );
    Ok(Ok(latency))
}
