//! What Docker's own tests ask for, under the numbers of the table in `docs/conformance.md`.

mod changes;
mod guards;
mod live;
mod modes;
mod ports;

use std::net::IpAddr;
use std::process::Command;

use lb_userspace::netns::Namespace;

use crate::street::{HOST_V4, HOST_V6, SILENCE, Street, ask, ask_within, ip};

/// The two addresses of the container that came as the `last` one into network `number`.
fn addresses(number: u8, last: u8) -> [String; 2] {
    [
        format!("10.{number}.0.{last}"),
        format!("fd00:{number}::{last}"),
    ]
}

impl Street {
    /// Who is outside sends what is for network `number` to the host.
    fn routes(&self, number: u8) {
        let outside = &self.outside;
        ip(
            outside,
            &format!("route add 10.{number}.0.0/16 via {HOST_V4}"),
        );
        ip(
            outside,
            &format!("-6 route add fd00:{number}::/64 via {HOST_V6}"),
        );
    }
}

/// Asks by TCP: the server of this name answers.
#[track_caller]
fn reaches(client: &Namespace, address: &str, port: u16, name: &str) {
    let answer = ask(client, address, port);
    let answer = answer.unwrap_or_else(|error| panic!("{address} port {port}: {error}"));
    assert!(answer.starts_with(name), "{address} port {port}: {answer}");
}

/// Asks by TCP: nobody answers.
#[track_caller]
fn is_barred(client: &Namespace, address: &str, port: u16) {
    let answer = ask_within(client, address, port, SILENCE);
    assert!(answer.is_err(), "{address} port {port}: {answer:?}");
}

/// Whether an echo request from `client` to `address` is answered.
fn is_pinged(client: &Namespace, address: &str) -> bool {
    let address: IpAddr = address.parse().unwrap();
    let family = if address.is_ipv4() { "-4" } else { "-6" };
    let mut command = Command::new("busybox");
    command.args(["ping", family, "-c", "3", "-W", "2", &address.to_string()]);
    client
        .run(|| command.output())
        .unwrap()
        .unwrap()
        .status
        .success()
}
