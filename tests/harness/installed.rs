//! What veer has in the kernel for a namespace, as the kernel itself tells.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use aya::maps::{MapData, loaded_maps};
use lb_userspace::netns::Namespace;

/// The folder in which everything is pinned of the veer that serves `host`.
pub fn pins(host: &Namespace) -> PathBuf {
    let cookie = host.cookie().expect("ask for a namespace's cookie");
    Path::new("/sys/fs/bpf/veer").join(format!("netns-{cookie}"))
}

/// Bytes of kernel memory that the maps take which are pinned for `host`.
pub fn map_memory(host: &Namespace) -> u64 {
    maps(host).iter().map(memory_of).sum()
}

/// The kernel's numbers of the maps that are pinned for `host`. Every program uses some of them, and
/// keeps them: where they are gone, so are the programs.
pub fn map_ids(host: &Namespace) -> BTreeSet<u32> {
    let maps = maps(host);
    let ids = maps
        .iter()
        .map(|map| map.info().expect("ask about a map").id());
    ids.collect()
}

/// The numbers of all maps that there are.
pub fn every_map_id() -> BTreeSet<u32> {
    // One that goes meanwhile cannot be asked.
    loaded_maps()
        .filter_map(|map| Some(map.ok()?.id()))
        .collect()
}

fn maps(host: &Namespace) -> Vec<MapData> {
    let layouts = fs::read_dir(pins(host)).expect("read veer's pins");
    let folders = layouts.map(|layout| layout.expect("read a pin").path().join("maps"));
    let pins = folders.flat_map(|folder| fs::read_dir(folder).expect("read the pins of maps"));
    pins.map(|pin| MapData::from_pin(pin.expect("read a pin").path()).expect("open a pinned map"))
        .collect()
}

fn memory_of(map: &MapData) -> u64 {
    let told = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let told = fs::read_to_string(told).expect("ask about a map");
    let bytes = told.lines().find_map(|line| line.strip_prefix("memlock:"));
    let bytes = bytes.expect("the kernel tells a map's size").trim();
    bytes.parse().expect("a number of bytes")
}

/// The names of the programs whose processes are in `host`, this one aside.
pub fn programs_in(host: &Namespace) -> Vec<String> {
    let own = identity(&PathBuf::from(format!(
        "/proc/self/fd/{}",
        host.as_fd().as_raw_fd()
    )));
    let entries = fs::read_dir("/proc").expect("read /proc").flatten();
    let numbered = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_str()
            .is_some_and(|name| name.parse::<u32>().is_ok())
    });
    let inside = numbered.filter(|entry| identity(&entry.path().join("ns/net")) == own);
    // One that has ended meanwhile has none.
    let names = inside.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

/// Device and number of what is open or linked at `path`.
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}
