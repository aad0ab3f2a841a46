//! Values of the configuration file: read, checked, and written again.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lb_common::Algorithm;
use toml::de::DeValue;

use super::error::Wrong;
use super::section::Value;
use super::{GroupName, Lead, LogFormat, Masquerade, Mode, ProviderChoice, ServerOrder, Vips};
use crate::model::{EndpointMode, Protocol};

/// A day in seconds.
pub(super) const DAY: u32 = 86_400;

pub(super) fn boolean(value: Value<'_>) -> Result<bool, Wrong> {
    let known = value.as_bool();
    known.ok_or_else(|| mistyped(value, "true or false", "true or false"))
}

/// Seconds from a duration such as `"20s"`.
pub(super) fn seconds(range: RangeInclusive<u32>) -> impl FnOnce(Value<'_>) -> Result<u32, Wrong> {
    move |value| {
        let (from, to) = (duration(*range.start()), duration(*range.end()));
        let kind = format!("a duration from {from} to {to}");
        if let Some(number) = value.as_integer() {
            let remedy = format!("say the unit, write \"{}s\"", number.as_str());
            return Err(Wrong::new(format!("is not {kind}"), remedy));
        }
        let text = string(value, &kind, "20s")?;
        let seconds = parse_duration(text).filter(|seconds| range.contains(seconds));
        seconds.ok_or_else(|| unfit(text, &kind, "\"20s\", \"10m\" or \"2h\""))
    }
}

/// A whole number.
pub(super) fn number(range: RangeInclusive<u32>) -> impl FnOnce(Value<'_>) -> Result<u32, Wrong> {
    move |value| {
        let (from, to) = (grouped(*range.start()), grouped(*range.end()));
        let kind = format!("a number from {from} to {to}");
        let found = value.as_integer();
        let found = found.ok_or_else(|| mistyped(value, &kind, &from))?;
        let number = u32::from_str_radix(&found.as_str().replace('_', ""), found.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        number.ok_or_else(|| unfit(found.as_str(), &kind, "one of these"))
    }
}

/// A size in bytes of a ring buffer.
pub(super) fn ring(value: Value<'_>) -> Result<u32, Wrong> {
    let bytes = number(4_096..=1 << 28)(value)?;
    if bytes.is_power_of_two() {
        return Ok(bytes);
    }
    let next = grouped(bytes.next_power_of_two());
    Err(unfit(&grouped(bytes), "a power of two", &next))
}

pub(super) fn path(value: Value<'_>) -> Result<PathBuf, Wrong> {
    let text = string(value, "a path", "/var/run/docker.sock")?;
    let path = PathBuf::from(text);
    let absolute = path.is_absolute().then_some(path);
    absolute.ok_or_else(|| unfit(text, "an absolute path", "\"/var/run/docker.sock\""))
}

pub(super) fn algorithm(value: Value<'_>) -> Result<Algorithm, Wrong> {
    one_of(
        value,
        "an algorithm",
        &Algorithm::ALL.map(|a| (a.name(), a)),
    )
}

pub(super) fn endpoint_mode(value: Value<'_>) -> Result<EndpointMode, Wrong> {
    let modes = [EndpointMode::Vip, EndpointMode::Dnsrr];
    one_of(value, "an endpoint mode", &modes.map(|m| (mode_name(m), m)))
}

pub(super) fn provider(value: Value<'_>) -> Result<ProviderChoice, Wrong> {
    let providers = [
        ProviderChoice::Auto,
        ProviderChoice::Docker,
        ProviderChoice::Lab,
    ];
    one_of(value, "a provider", &providers.map(|p| (p.name(), p)))
}

pub(super) fn lead(value: Value<'_>) -> Result<Lead, Wrong> {
    let leads = [Lead::Auto, Lead::Sockets, Lead::Loopback, Lead::Veth];
    one_of(value, "a way", &leads.map(|lead| (lead.name(), lead)))
}

pub(super) fn server_order(value: Value<'_>) -> Result<ServerOrder, Wrong> {
    let orders = [ServerOrder::Listed, ServerOrder::Fastest];
    one_of(
        value,
        "an order",
        &orders.map(|order| (order.name(), order)),
    )
}

pub(super) fn log_format(value: Value<'_>) -> Result<LogFormat, Wrong> {
    let formats = [LogFormat::Text, LogFormat::Json];
    one_of(value, "a format", &formats.map(|f| (f.name(), f)))
}

/// A level, or levels by module.
pub(super) fn log_level(value: Value<'_>) -> Result<String, Wrong> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = string(value, "a level", "info")?;
    let fits = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        LEVELS.contains(&level.trim())
    };
    if text.split(',').all(fits) {
        return Ok(text.to_string());
    }
    let levels = quoted(&LEVELS);
    let remedy = format!("{levels}, or levels by module as in \"info,lb_userspace::dns=debug\"");
    Err(unfit(text, "a level", &remedy))
}

/// Name servers.
pub(super) fn servers(value: Value<'_>) -> Result<Vec<IpAddr>, Wrong> {
    const EXAMPLE: &str = "[\"192.0.2.53\", \"2001:db8::53\"]";
    let texts = texts(value, "a list of addresses", EXAMPLE)?;
    let server = |text: &str| text.parse().map_err(|_| unfit(text, "an address", EXAMPLE));
    texts.into_iter().map(server).collect()
}

fn texts<'a>(value: Value<'a>, kind: &str, example: &str) -> Result<Vec<&'a str>, Wrong> {
    let list = value.as_array();
    let list = list.ok_or_else(|| mistyped(value, kind, example))?;
    let text = |value: &'a toml::Spanned<DeValue<'a>>| {
        let text = value.get_ref().as_str();
        text.ok_or_else(|| mistyped(value.get_ref(), "text", example))
    };
    list.iter().map(text).collect()
}

pub(super) fn mode(value: Value<'_>) -> Result<Mode, Wrong> {
    one_of(value, "a mode", &Mode::ALL.map(|m| (m.name(), m)))
}

pub(super) fn masquerade(value: Value<'_>) -> Result<Masquerade, Wrong> {
    let ways = Masquerade::ALL.map(|m| (m.name(), m));
    one_of(value, "a way of masquerading", &ways)
}

pub(super) fn protocol(value: Value<'_>) -> Result<Protocol, Wrong> {
    one_of(value, "a protocol", &Protocol::ALL.map(|p| (p.name(), p)))
}

/// Whether a rule allows.
pub(super) fn action(value: Value<'_>) -> Result<bool, Wrong> {
    one_of(value, "an action", &[("allow", true), ("deny", false)])
}

/// The name of a Network or an alias.
pub(super) fn name(value: Value<'_>) -> Result<String, Wrong> {
    let text = string(value, "a name", "front")?;
    let named = (!text.is_empty()).then(|| text.to_string());
    named.ok_or_else(|| unfit(text, "a name", "\"front\""))
}

/// Names of interfaces; `*` may stand at the end.
pub(super) fn interfaces(value: Value<'_>) -> Result<Vec<String>, Wrong> {
    let kind = "a list of interfaces";
    const EXAMPLE: &str = "[\"eth0\", \"en*\"]";
    let names = texts(value, kind, EXAMPLE)?;
    let fits = |name: &&str| {
        let beginning = name.strip_suffix('*').unwrap_or(name);
        !name.is_empty() && name.len() < 16 && !beginning.contains(['*', '/', ' '])
    };
    match names.iter().find(|name| !fits(name)) {
        Some(unfitting) => Err(unfit(unfitting, "the name of an interface", EXAMPLE)),
        None => Ok(names.into_iter().map(str::to_string).collect()),
    }
}

pub(super) fn address(value: Value<'_>) -> Result<IpAddr, Wrong> {
    let text = string(value, "an address", "192.0.2.1")?;
    let address = text.parse();
    address.map_err(|_| unfit(text, "an address", "\"192.0.2.1\" or \"2001:db8::1\""))
}

/// A range of addresses, or a single one.
pub(super) fn source(value: Value<'_>) -> Result<IpNet, Wrong> {
    network(string(value, "an address or a range", "192.0.2.0/24")?)
}

pub(super) fn sources(value: Value<'_>) -> Result<Vec<IpNet>, Wrong> {
    let texts = texts(value, "a list of ranges", "[\"192.0.2.0/24\"]")?;
    texts.into_iter().map(network).collect()
}

fn network(text: &str) -> Result<IpNet, Wrong> {
    let single = || text.parse::<IpAddr>().map(IpNet::from).ok();
    let found = text.parse().ok().or_else(single);
    let kind = "an address or a range";
    let found: IpNet =
        found.ok_or_else(|| unfit(text, kind, "\"192.0.2.0/24\" or \"2001:db8::1\""))?;
    whole(found, found.trunc())?;
    Ok(found)
}

pub(super) fn port(value: Value<'_>) -> Result<u16, Wrong> {
    let ports = ports(value)?;
    let one = (ports.start() == ports.end()).then_some(*ports.start());
    one.ok_or_else(|| Wrong::new("is a range", "write the first port of it"))
}

/// A port as a number, or `"8000-8999"`.
pub(super) fn ports(value: Value<'_>) -> Result<RangeInclusive<u16>, Wrong> {
    const REMEDY: &str = "8080 or \"8000-8999\"";
    let kind = "a port or a range of ports";
    if value.as_integer().is_some() {
        let port = number(1..=65_535)(value)? as u16;
        return Ok(port..=port);
    }
    let text = string(value, kind, "8000-8999")?;
    let parsed = || {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first > 0 && first <= last).then_some(first..=last)
    };
    parsed().ok_or_else(|| unfit(text, kind, REMEDY))
}

/// Enough ports for masquerading, above those that services use.
pub(super) fn masquerade_ports(value: Value<'_>) -> Result<RangeInclusive<u16>, Wrong> {
    let ports = ports(value)?;
    if *ports.start() < 1_024 || ports.len() < 256 {
        let message = format!("is {}-{}", ports.start(), ports.end());
        let remedy = "write a range of 256 ports or more, all above 1023, such as \"61000-65535\"";
        return Err(Wrong::new(message, remedy));
    }
    Ok(ports)
}

pub(super) fn pool_v4(value: Value<'_>) -> Result<Ipv4Net, Wrong> {
    let default = Vips::default().ipv4;
    let pool: Ipv4Net = pool(value, "an IPv4 range", &default.to_string())?;
    let first = pool.network();
    let kept = first.is_loopback() || first.is_link_local() || first.octets()[0] == 0;
    if kept || first.is_multicast() || first.is_broadcast() {
        return Err(reserved(&pool.to_string(), &default.to_string()));
    }
    whole(pool.into(), pool.trunc().into())?;
    large_enough(pool.into(), Vips::SLICE_PREFIX_V4)?;
    Ok(pool)
}

pub(super) fn pool_v6(value: Value<'_>) -> Result<Ipv6Net, Wrong> {
    let default = Vips::default().ipv6;
    let pool: Ipv6Net = pool(value, "an IPv6 range", &default.to_string())?;
    let first = pool.network();
    let link_local = first.segments()[0] & 0xffc0 == 0xfe80;
    if first.segments()[0] == 0 || first.is_multicast() || link_local {
        return Err(reserved(&pool.to_string(), &default.to_string()));
    }
    whole(pool.into(), pool.trunc().into())?;
    large_enough(pool.into(), Vips::SLICE_PREFIX_V6)?;
    Ok(pool)
}

/// A Group's name from `network/alias`.
pub(super) fn group_name(name: &str) -> Result<GroupName, Wrong> {
    let parts = name.split_once('/');
    let parts = parts.filter(|(network, alias)| !network.is_empty() && !alias.is_empty());
    let Some((network, alias)) = parts else {
        let remedy = "write the Network and the alias: [group.\"network/alias\"]";
        return Err(Wrong::new("does not name a Group", remedy));
    };
    let lower = alias.to_lowercase();
    if lower != alias {
        let remedy = format!("write [group.\"{network}/{lower}\"]");
        return Err(Wrong::new("has an alias in upper case", remedy));
    }
    Ok(GroupName {
        network: network.to_string(),
        alias: lower,
    })
}

/// A duration in the largest unit that leaves nothing over.
pub(super) fn duration(seconds: u32) -> String {
    match seconds {
        0 => "0s".to_string(),
        _ if seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

/// A number with its digits in groups of three, as TOML allows.
pub(super) fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

pub(super) const fn mode_name(mode: EndpointMode) -> &'static str {
    match mode {
        EndpointMode::Vip => "vip",
        EndpointMode::Dnsrr => "dnsrr",
    }
}

fn parse_duration(text: &str) -> Option<u32> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => DAY,
        _ => return None,
    };
    number.parse::<u32>().ok()?.checked_mul(factor)
}

fn one_of<T: Copy>(value: Value<'_>, kind: &str, known: &[(&str, T)]) -> Result<T, Wrong> {
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let text = string(value, kind, names[0])?;
    let found = known.iter().find(|(name, _)| *name == text);
    let found = found.map(|(_, meant)| *meant);
    found.ok_or_else(|| unfit(text, kind, &quoted(&names)))
}

fn pool<N: FromStr>(value: Value<'_>, kind: &str, example: &str) -> Result<N, Wrong> {
    let text = string(value, kind, example)?;
    let pool = text.parse().ok();
    pool.ok_or_else(|| {
        unfit(
            text,
            kind,
            &format!("an address and a length: \"{example}\""),
        )
    })
}

/// Refuses a range that is written with an address inside it.
fn whole(pool: IpNet, trunc: IpNet) -> Result<(), Wrong> {
    let message = format!("is {pool}, which does not begin at its first address");
    (pool == trunc)
        .then_some(())
        .ok_or_else(|| Wrong::new(message, format!("write \"{trunc}\"")))
}

fn large_enough(pool: IpNet, longest: u8) -> Result<(), Wrong> {
    let message = format!("is {pool}, which is too small for the VIPs of one Network");
    let remedy = format!("write a range of length /{longest} or shorter");
    (pool.prefix_len() <= longest && pool.prefix_len() >= 4)
        .then_some(())
        .ok_or_else(|| Wrong::new(message, remedy))
}

fn reserved(pool: &str, example: &str) -> Wrong {
    let message = format!("is {pool}, which hosts keep for other purposes");
    Wrong::new(
        message,
        format!("write a private range such as \"{example}\""),
    )
}

fn string<'a>(value: Value<'a>, kind: &str, example: &str) -> Result<&'a str, Wrong> {
    let known = value.as_str();
    known.ok_or_else(|| mistyped(value, kind, &format!("\"{example}\"")))
}

fn mistyped(value: Value<'_>, kind: &str, example: &str) -> Wrong {
    let found = value.type_str();
    Wrong::new(
        format!("is not {kind} but of type {found}"),
        format!("write {example}"),
    )
}

fn unfit(text: &str, kind: &str, remedy: &str) -> Wrong {
    Wrong::new(
        format!("is {text:?}, not {kind}"),
        format!("write {remedy}"),
    )
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some(_) | None => names.concat(),
    }
}
