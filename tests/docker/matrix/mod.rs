//! A host as Docker installs it and a host with veer, asked the same questions at the same time.
//!
//! Every difference is on the list in [`differences`], and everything on that list differs.

mod cell;
mod differences;
mod probe;
mod scene;

use std::thread;

use cell::{Cell, cells};
use differences::{BESIDE, Difference, REPLACE};
use probe::Outcome;
use scene::Scene;

use crate::street::WITHOUT_RULES;

/// Docker 20.10 has rules for IPv6 among its experiments.
const DOCKER: &[&str] = &["--experimental", "--ip6tables"];

/// The release that the lists were measured with. Others may have caught up with veer.
const RELEASE: &str = "20.10.";

const MANUAL: &str = include_str!("../../../docs/ports.md");

#[test]
fn a_host_with_veer_differs_from_one_with_docker_alone_where_it_is_said_and_nowhere_else() {
    let cells = cells();
    let measure = &|arguments, with_veer| {
        let scene = Scene::new(arguments, with_veer);
        (scene.measure(&cells), scene.release())
    };
    let [(docker, release), (replace, _), (beside, _)] = thread::scope(|scope| {
        let hosts = [(DOCKER, false), (WITHOUT_RULES, true), (DOCKER, true)];
        let hosts = hosts.map(|(arguments, veer)| scope.spawn(move || measure(arguments, veer)));
        hosts.map(|host| host.join().unwrap())
    });

    let is_exact = release.starts_with(RELEASE);
    for (mode, veer, list) in [
        ("in place of Docker's rules", replace, REPLACE),
        ("beside Docker's rules", beside, BESIDE),
    ] {
        let wrong = unexplained(&cells, &docker, &veer, list, is_exact);
        assert!(
            wrong.is_empty(),
            "Docker {release}, {mode}:\n{}",
            wrong.join("\n")
        );
    }
}

#[test]
fn the_manual_gives_every_difference_with_its_reason() {
    let manual = MANUAL.split_whitespace().collect::<Vec<_>>().join(" ");
    for difference in REPLACE.iter().chain(BESIDE) {
        assert!(manual.contains(difference.reason), "{difference}");
    }
}

/// What is not as the list says: differences that are not on it, and what is on it and does not differ
/// so. Unless `is_exact`, nothing need differ.
fn unexplained(
    cells: &[Cell],
    docker: &[Outcome],
    veer: &[Outcome],
    list: &[Difference],
    is_exact: bool,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for ((cell, docker), veer) in cells.iter().zip(docker).zip(veer) {
        let mut patterns = list.iter().flat_map(|difference| {
            let patterns = difference.patterns.iter();
            patterns.map(move |pattern| (difference, pattern))
        });
        let found = patterns.find(|(_, pattern)| pattern.has(cell));
        let expected = match found {
            Some((_, pattern)) => pattern.docker == *docker && pattern.veer == *veer,
            None => false,
        };
        let is_same = docker == veer && (found.is_none() || !is_exact);
        if !expected && !is_same {
            let said = found.map_or("not on the list", |(difference, _)| difference.reason);
            wrong.push(format!("{cell}: Docker {docker}, veer {veer}; {said}"));
        }
    }
    wrong
}
