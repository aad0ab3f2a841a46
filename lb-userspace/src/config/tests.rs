use std::path::Path;

use lb_common::Algorithm;

use super::*;

fn parsed(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("veer.toml"))
}

/// The error, as the operator reads it.
fn refused(text: &str) -> String {
    parsed(text).expect_err("an error").to_string()
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parsed(""), Ok(Config::default()));
}

#[test]
fn the_default_prints_and_comes_back() {
    let text = Config::default().effective();

    assert_eq!(parsed(&text), Ok(Config::default()), "{text}");
}

/// Every key with a value that is not its default.
const OTHERWISE: &str = r#"
provider = "lab"
endpoint_mode = "dnsrr"
[engine]
socket = "/run/other.sock"
[vips]
ipv4 = "10.99.0.0/16"
ipv6 = "fd12:3456::/48"
[balancing]
algorithm = "maglev"
affinity = "10m"
[timeouts]
tcp_new = "5s"
tcp_established = "2h"
tcp_fin = "1m"
tcp_reset = "90s"
udp_new = "1s"
udp_replied = "1d"
icmp = "3s"
[limits]
refusals_per_second = 7
events_per_second = 0
[dns]
takeover = false
lead = "loopback"
kernel = false
ttl = "0s"
tasks = false
srv = false
leak = true
single_labels = false
order = "fastest"
random_case = false
in_flight = 7
cache = 0
stale = "1d"
no_conntrack = true
default_bridge = true
query_log = 100
upstreams = ["192.0.2.53", "2001:db8::53"]
[anti_spoofing]
enabled = false
[uplinks]
interfaces = ["eth0", "wg*"]
[ports]
mode = "beside"
masquerade = "off"
masquerade_ports = "50000-50999"
[log]
level = "warn,lb_userspace::dns=debug"
format = "json"
[maps]
connections = 2_048
half_open = 4_096
affinity = 1_024
fragments = 2_048
veths = 100
endpoints = 200
frontends = 300
slots = 400
resolvers = 500
dns_answers = 600
events = 8_192
[network."front end"]
serve = false
endpoint_mode = "dnsrr"
algorithm = "random"
affinity = "7s"
anti_spoofing = false
[group."net.1/tg-net"]
endpoint_mode = "vip"
algorithm = "least-connections"
affinity = "1h"
[[publish]]
port = "8000-8009"
network = "net.1"
alias = "TG-net"
[[publish]]
address = "192.0.2.1"
port = 53
protocol = "udp"
network = "net.1"
alias = "dns"
target_port = 5353
algorithm = "random"
allow = ["192.0.2.0/24", "2001:db8::1"]
deny = ["192.0.2.7"]
[[firewall]]
action = "allow"
source = "10.0.0.0/8"
[[firewall]]
action = "deny"
address = "::1"
port = 22
protocol = "tcp"
"#;

#[test]
fn every_key_is_read_printed_and_comes_back() {
    let config = parsed(OTHERWISE).unwrap();

    let text = config.effective();

    assert_eq!(parsed(&text), Ok(config), "{text}");
    let default = Config::default().effective();
    let (general, _) = text.split_once("[network").unwrap();
    for line in default.lines().filter(|line| line.contains(" = ")) {
        assert!(!general.contains(&format!("\n{line}\n")), "{line}");
    }
}

#[test]
fn sections_are_read_as_they_mean() {
    let config = parsed(OTHERWISE).unwrap();

    assert_eq!(config.timeouts.udp_replied, 86_400);
    assert_eq!(config.balancing.algorithm, Algorithm::Maglev);
    assert!(!config.serves("front end") && config.serves("net.1"));
    let name = GroupName {
        network: "net.1".to_string(),
        alias: "tg-net".to_string(),
    };
    assert_eq!(config.groups[&name].affinity, Some(3_600));
    let published = &config.publish[0];
    assert_eq!(
        (&published.group, &published.ports),
        (&name, &(8_000..=8_009))
    );
    let deny = &config.firewall[1];
    assert_eq!((deny.allows, deny.ports.clone()), (false, Some(22..=22)));
}

#[test]
fn a_section_of_a_list_that_lacks_what_it_is_about_is_refused() {
    let error = refused("\n[[publish]]\nport = 80\nnetwork = \"net\"\n");

    let expected = "veer.toml:2: [[publish]] does not say what it publishes; write port, network \
                    and alias";
    assert_eq!(error, expected);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    let error = refused("\n[balancing]\nalgoritm = \"random\"\n");

    let expected = "veer.toml:3: unknown key `algoritm` in [balancing]; write `algorithm`";
    assert_eq!(error, expected);
}

#[test]
fn a_key_that_is_near_to_none_is_refused_with_all() {
    let error = refused("[vips]\ncolour = 1\n");

    assert!(
        error.ends_with("remove it, or write one of: ipv4, ipv6"),
        "{error}"
    );
}

#[test]
fn an_unknown_section_is_refused() {
    assert_eq!(
        refused("[timeout]\n"),
        "veer.toml:1: unknown key `timeout`; write `timeouts`"
    );
}

/// A value, and what the error must say.
#[test]
fn wrong_values_are_refused_with_what_to_write() {
    for (text, expected) in [
        (
            "[timeouts]\nudp_new = 30",
            ["2: [timeouts] udp_new", "write \"30s\""],
        ),
        (
            "[timeouts]\nicmp = \"fast\"",
            ["2: [timeouts] icmp is \"fast\"", "\"20s\""],
        ),
        (
            "[timeouts]\nicmp = \"0s\"",
            ["a duration from 1s to 168h", "\"20s\""],
        ),
        (
            "[balancing]\nalgorithm = \"fastest\"",
            ["an algorithm", "\"maglev\""],
        ),
        ("endpoint_mode = 1", ["1: `endpoint_mode`", "write \"vip\""]),
        (
            "[dns]\ntakeover = \"yes\"",
            ["[dns] takeover", "true or false"],
        ),
        (
            "[dns]\nupstreams = [\"dns\"]",
            ["is \"dns\", not an address", "192.0.2.53"],
        ),
        (
            "[dns]\nupstreams = [\"198.18.0.9\"]",
            ["198.18.0.9", "pool"],
        ),
        (
            "[maps]\nslots = 0",
            ["a number from 1 to 16_777_216", "is \"0\""],
        ),
        ("[maps]\nevents = 5_000", ["a power of two", "write 8_192"]),
        ("[vips]\nipv4 = \"10.0.0.0/24\"", ["too small", "/22"]),
        (
            "[vips]\nipv4 = \"10.0.0.9/16\"",
            ["first address", "\"10.0.0.0/16\""],
        ),
        (
            "[vips]\nipv4 = \"127.0.0.0/16\"",
            ["other purposes", "198.18.0.0/15"],
        ),
        (
            "[vips]\nipv6 = \"fe80::/64\"",
            ["other purposes", "fd76:6565:7200::/48"],
        ),
        (
            "[vips]\nipv6 = \"10.0.0.0/16\"",
            ["not an IPv6 range", "/48"],
        ),
        (
            "[engine]\nsocket = \"docker.sock\"",
            ["an absolute path", "/var/run"],
        ),
        ("[log]\nlevel = \"loud\"", ["is \"loud\"", "\"info\""]),
        (
            "[group.web]\n",
            ["1: [group.\"web\"] does not name a Group", "network/alias"],
        ),
        (
            "[group.\"net/Web\"]\n",
            ["upper case", "[group.\"net/web\"]"],
        ),
        ("engine = 1", ["`engine` is a section", "[engine]"]),
        ("a b", ["1: not TOML", "correct this line"]),
    ] {
        let error = refused(text);
        for part in expected {
            assert!(
                error.contains(part),
                "{text:?}: {part:?} is not in {error:?}"
            );
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing.toml");

    let error = Config::load(&path).unwrap_err();

    assert_eq!((error.file.as_path(), error.line), (path.as_path(), None));
}

#[test]
fn a_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("veer.toml");
    std::fs::write(&path, OTHERWISE).unwrap();

    assert_eq!(Config::load(&path), parsed(OTHERWISE));
}

/// Every `[section]` and `key` of the effective configuration is in the manual.
#[test]
fn the_manual_has_every_key_and_its_default() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let mut section = String::new();
    for line in Config::default().effective().lines() {
        if line.starts_with('[') {
            section = line.to_string();
            assert!(
                manual.contains(&format!("`{section}`")),
                "{section} is missing"
            );
        }
        if let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            let row = format!("| `{key}` | `{value}` |");
            let place = manual.find(&format!("`{section}`")).unwrap_or(0);
            assert!(
                manual[place..].contains(&row),
                "{row} of {section} is missing"
            );
        }
    }
    for key in [
        "serve",
        "endpoint_mode",
        "algorithm",
        "affinity",
        "anti_spoofing",
    ] {
        let special = manual.split("## Networks and Groups").nth(1).unwrap();
        assert!(
            special.contains(&format!("| `{key}` |")),
            "{key} is missing"
        );
    }
}
