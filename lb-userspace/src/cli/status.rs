//! `veer status`.

use std::io::Write;

use clap::Args;

use super::table::{self, Output, Table};
use super::units;
use crate::api::{self, Api, MapFill, ProviderState, ReasonCount};
use crate::config::Lead;

/// Show how the daemon and its datapath are
///
/// Instance, provider, what is served, DNS takeover, latency from an event to a datapath that serves
/// it, memory, Reasons (why packets left the fast path), map fill, notices and failing Steps.
#[derive(Args, Debug)]
pub(super) struct Status {
    #[command(flatten)]
    output: Output,
}

impl Status {
    pub(super) async fn run(self, api: &impl Api, out: &mut impl Write) -> anyhow::Result<()> {
        let status = api.status().await?;
        if self.output.json {
            return Ok(table::json(out, &status)?);
        }
        summary(&status, out)?;
        reasons(&status.reasons, out)?;
        maps(&status.maps, out)?;
        troubles(&status, out)?;
        Ok(())
    }
}

/// What leads queries, where it is not programs on sockets alone.
fn led(lead: &str) -> &'static str {
    match lead {
        _ if lead == Lead::Loopback.name() => " on loopback",
        _ if lead == Lead::Veth.name() => " through veths",
        _ => "",
    }
}

fn summary(status: &api::Status, out: &mut impl Write) -> std::io::Result<()> {
    let (counts, dns, latency) = (&status.counts, &status.dns, &status.latency);
    writeln!(
        out,
        "veer {}  instance {}  pid {}  up {}",
        status.version,
        status.instance,
        status.pid,
        units::duration(status.uptime_seconds)
    )?;
    writeln!(out, "provider    {}", provider(&status.provider))?;
    writeln!(
        out,
        "serving     {} Networks, {} containers, {} Endpoints, {} Groups, {} Frontends",
        counts.networks, counts.containers, counts.endpoints, counts.groups, counts.frontends
    )?;
    writeln!(out, "ports       {}", ports(&status.ports))?;
    writeln!(
        out,
        "dns         {} of {} namespaces{}; {} by kernel, {} by daemon, {} kept, {} forwarded, {} failed",
        dns.taken_over,
        dns.wanted,
        led(&dns.lead),
        dns.in_kernel,
        dns.answered,
        dns.cached + dns.stale,
        dns.forwarded,
        dns.failed
    )?;
    if latency.count == 0 {
        writeln!(out, "latency     no change measured yet")?;
    } else {
        writeln!(
            out,
            "latency     p50 {}, p99 {}, max {} from event to served, {} changes",
            units::latency(latency.p50_microseconds),
            units::latency(latency.p99_microseconds),
            units::latency(latency.max_microseconds),
            latency.count
        )?;
    }
    writeln!(
        out,
        "memory      {} resident, {} of the kernel's in maps",
        units::bytes(status.memory.resident_bytes),
        units::bytes(status.memory.maps_bytes)
    )?;
    writeln!(
        out,
        "collection  {} entries examined, {} Connections forgotten",
        status.collection.examined, status.collection.expired
    )
}

fn ports(report: &api::PortsReport) -> String {
    let uplinks = match report.uplinks.as_slice() {
        [] => "no uplink: none has a default route, name one in [uplinks]".to_owned(),
        names => format!("uplinks {}", names.join(", ")),
    };
    let (mode, masquerade) = (&report.mode, &report.masquerade);
    let published = report.published;
    format!("{mode} mode, {published} published, masquerade {masquerade}, {uplinks}")
}

fn provider(report: &api::ProviderReport) -> String {
    let since = units::duration(report.for_seconds);
    let (name, detail) = (&report.name, &report.detail);
    match report.state {
        ProviderState::Connecting => format!("{name}: connecting for {since}"),
        ProviderState::Following => format!("{name}: following {detail} for {since}"),
        ProviderState::Failing => {
            format!("{name}: FAILING for {since}, membership is the last one seen: {detail}")
        }
    }
}

fn reasons(reasons: &[ReasonCount], out: &mut impl Write) -> std::io::Result<()> {
    if reasons.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["REASON", ">COUNT", "", "MEANING"]);
    for reason in reasons {
        let mark = if reason.drop { "drop" } else { "" };
        table.row([
            reason.name.clone(),
            reason.count.to_string(),
            mark.to_owned(),
            reason.meaning.clone(),
        ]);
    }
    writeln!(out)?;
    table.write(out)
}

fn maps(maps: &[MapFill], out: &mut impl Write) -> std::io::Result<()> {
    if maps.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["MAP", ">USED", ">SIZE", ">FULL", "NOTE"]);
    for map in maps {
        let share = map.used.map(|used| share(used, map.size));
        table.row([
            map.name.clone(),
            table::option(map.used),
            map.size.to_string(),
            table::option(share),
            map.configured.map(other_size).unwrap_or_default(),
        ]);
    }
    writeln!(out)?;
    table.write(out)
}

fn share(used: u64, size: u64) -> String {
    format!("{:.1} %", used as f64 * 100.0 / size.max(1) as f64)
}

fn other_size(configured: u64) -> String {
    format!("{configured} configured; takes effect after `veer uninstall` and a restart")
}

fn troubles(status: &api::Status, out: &mut impl Write) -> std::io::Result<()> {
    if !status.failing.is_empty() {
        writeln!(out, "\nfailing, tried again:")?;
    }
    for failure in &status.failing {
        writeln!(
            out,
            "  {}: {} ({} attempts in {})",
            failure.subject,
            failure.error,
            failure.attempts,
            units::duration(failure.for_seconds)
        )?;
    }
    if !status.notices.is_empty() {
        writeln!(out, "\nnotices:")?;
    }
    for notice in &status.notices {
        writeln!(out, "  {}: {}", notice.subject, notice.message)?;
    }
    Ok(())
}
