//! The kernel's packet generator, where its module exists.

use std::fs;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use anyhow::{Context as _, Result, ensure};
use lb_common::Mac;
use lb_userspace::netns::Namespace;

/// Of the thread, because `/proc/net` is that of the process's first thread.
const FOLDER: &str = "/proc/thread-self/net/pktgen";

/// Datagrams of 64 bytes with their checksum, of one flow or of one for each source port.
pub(crate) struct Flow<'a> {
    pub(crate) from: &'a Namespace,
    /// Interface that they leave by.
    pub(crate) device: &'a str,
    /// Address and ports, of which each datagram has one at random.
    pub(crate) source: (Ipv4Addr, RangeInclusive<u16>),
    pub(crate) destination: (Ipv4Addr, u16),
    pub(crate) next_hop: Mac,
}

/// Whether there is one in this kernel, loaded by now.
pub(crate) fn is_here() -> bool {
    // Fails where there is no such module or no such program; what counts is looked at.
    let _ = std::process::Command::new("modprobe")
        .arg("pktgen")
        .status();
    fs::exists(FOLDER).unwrap_or(false)
}

impl Flow<'_> {
    /// Sends this many; gives the nanoseconds that one took.
    pub(crate) fn send(&self, count: u64) -> Result<f64> {
        self.from.run(|| self.send_here(count))?
    }

    fn send_here(&self, count: u64) -> Result<f64> {
        tell("kpktgend_0", "rem_device_all")?;
        tell("kpktgend_0", &format!("add_device {}", self.device))?;
        let (source, ports) = &self.source;
        let destination = self.destination;
        let settings = [
            format!("count {count}"),
            "pkt_size 60".to_owned(),
            "delay 0".to_owned(),
            "burst 1".to_owned(),
            format!("src_min {source}"),
            format!("src_max {source}"),
            format!("udp_src_min {}", ports.start()),
            // The kernel chooses among those below it, unless both are the same.
            format!("udp_src_max {}", ports.end()),
            "flag UDPSRC_RND".to_owned(),
            format!("dst {}", destination.0),
            format!("udp_dst_min {}", destination.1),
            format!("udp_dst_max {}", destination.1),
            format!("dst_mac {}", self.next_hop),
            // From 6.7 on: each packet is the path's own, as those of a network card are.
            "flag !SHARED".to_owned(),
        ];
        for setting in &settings {
            tell(self.device, setting)?;
        }
        tell("pgctrl", "start")?;
        let path = format!("{FOLDER}/{}", self.device);
        let told = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let (sent, microseconds) = result(&told).with_context(|| format!("read {told}"))?;
        ensure!(sent == count, "{sent} of {count} packets were sent");
        Ok(microseconds as f64 * 1e3 / sent as f64)
    }
}

fn tell(file: &str, what: &str) -> Result<()> {
    let path = format!("{FOLDER}/{file}");
    // It takes the last byte for the end of a line.
    fs::write(&path, format!("{what}\n")).with_context(|| format!("write `{what}` to {path}"))
}

/// Packets and microseconds, from what a device says of itself.
fn result(told: &str) -> Option<(u64, u64)> {
    let after = |mark: &str| {
        let (_, rest) = told.split_once(mark)?;
        let rest = rest.trim_start();
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        rest[..end].parse().ok()
    };
    Some((after("pkts-sofar:")?, after("Result: OK:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_tells_how_many_packets_it_sent_and_in_what_time() {
        let told = "Params: count 10000  min_pkt_size: 60\nCurrent:\n     pkts-sofar: 10000  errors: 0\n\
                    Result: OK: 91234(c91000+d234) usec, 10000 (60byte,0frags)\n";

        assert_eq!(result(told), Some((10_000, 91_234)));
        assert_eq!(result("Result: Idle"), None);
    }
}
