//! What people and programs read, over an API that answers from memory.

use clap::CommandFactory;

use super::*;
use crate::api::fake::Host;
use crate::api::{Api, ConnectionRow};

/// What `veer <arguments>` prints when it asks `api`.
async fn output(arguments: &str, api: &impl Api) -> anyhow::Result<String> {
    let words = std::iter::once("veer").chain(arguments.split_whitespace());
    let mut out = Vec::new();
    match Cli::try_parse_from(words)?.verb {
        Verb::Connections(verb) => verb.run(api, &mut out).await?,
        Verb::Dns(verb) => verb.run(api, &mut out).await?,
        Verb::Endpoints(verb) => verb.run(api, &mut out).await?,
        Verb::Explain(verb) => verb.run(api, &mut out).await?,
        Verb::Firewall(verb) => verb.run(api, &mut out).await?,
        Verb::Frontends(verb) => verb.run(api, &mut out).await?,
        Verb::Groups(verb) => verb.run(api, &mut out).await?,
        Verb::Names(verb) => verb.run(api, &mut out).await?,
        Verb::Networks(verb) => verb.run(api, &mut out).await?,
        Verb::Status(verb) => verb.run(api, &mut out).await?,
        other => anyhow::bail!("{other:?} does not ask the daemon"),
    }
    Ok(String::from_utf8(out)?)
}

const ASKING: [&str; 13] = [
    "connections",
    "dns",
    "dns log",
    "dns names web",
    "dns query web db",
    "endpoints",
    "explain web tg-net",
    "firewall",
    "frontends",
    "groups",
    "names",
    "networks",
    "status",
];

#[test]
fn the_arguments_are_consistent_and_every_verb_explains_itself() {
    let mut command = Cli::command();
    command.clone().debug_assert();

    for verb in command.get_subcommands_mut() {
        assert!(
            verb.get_about().is_some(),
            "{} has no help",
            verb.get_name()
        );
    }
}

#[test]
fn the_help_lists_every_verb() {
    let help = Cli::command().render_help().to_string();

    for verb in [
        "run",
        "lab",
        "migrate",
        "names",
        "uninstall",
        "check",
        "status",
        "networks",
        "endpoints",
        "groups",
        "firewall",
        "frontends",
        "connections",
        "explain",
        "config",
    ] {
        let listed = help
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{verb} ")));
        assert!(listed, "{verb} is not in:\n{help}");
    }
}

#[tokio::test]
async fn every_table_fits_100_columns() {
    for arguments in ASKING {
        let text = output(arguments, &Host).await.unwrap();

        let long = text.lines().find(|line| line.chars().count() > 100);
        assert_eq!(long, None, "veer {arguments}");
    }
}

#[tokio::test]
async fn json_is_one_object_per_line() {
    for arguments in ASKING {
        let text = output(&format!("{arguments} --json"), &Host).await.unwrap();

        assert!(!text.is_empty(), "veer {arguments}");
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(value.is_object(), "veer {arguments}: {line}");
        }
    }
}

#[tokio::test]
async fn status_tells_of_a_failing_provider_and_of_everything_that_is_tried_again() {
    let text = output("status", &Host).await.unwrap();

    for expected in [
        "docker: FAILING for 3s, membership is the last one seen: connection refused",
        "3 of 3 namespaces; 0 by kernel",
        "replace mode, 1 published, masquerade ebpf, uplinks eth0",
        "p50 800 µs, p99 4.10 ms, max 5.00 ms",
        "20.0 MiB resident, 300.0 MiB of the kernel's in maps",
        "no-backend",
        "50.0 %",
        "2048 configured",
        "container bad: attach endpoint_in to veth9: no such device (3 attempts in 9s)",
        "container db: label veer.weight",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
}

#[tokio::test]
async fn a_group_is_shown_with_its_members_and_may_be_chosen_in_any_case() {
    let text = output("groups TG-NET", &Host).await.unwrap();

    assert!(
        text.starts_with("tg-net on app: vip 198.18.0.1, round-robin, 10 Connections\n"),
        "{text}"
    );
    assert!(
        text.lines()
            .any(|line| line.starts_with("  two") && line.contains("10.0.0.3"))
    );
    assert!(!text.contains("peers"), "{text}");
}

#[tokio::test]
async fn connections_come_most_recent_first_and_say_if_there_are_more() {
    let all = output("connections --json", &Host).await.unwrap();
    let one = output("connections --limit 1", &Host).await.unwrap();

    let idle = |line: &str| -> u64 {
        let row: ConnectionRow = serde_json::from_str(line).unwrap();
        row.idle_seconds
    };
    assert_eq!(all.lines().map(idle).collect::<Vec<_>>(), [1, 9]);
    assert!(one.contains("and more"), "{one}");
}

#[tokio::test]
async fn explain_ends_with_what_happens_next() {
    let text = output("explain web tg-net", &Host).await.unwrap();
    let unknown = output("explain nobody tg-net", &Host).await.unwrap_err();

    assert!(
        text.contains("→ the next Connection goes to one at 10.0.0.2:80"),
        "{text}"
    );
    assert_eq!(unknown.to_string(), "no container nobody");
}

#[tokio::test]
async fn dns_tells_what_was_answered_and_what_would_be() {
    let counts = output("dns", &Host).await.unwrap();
    assert!(
        counts.contains("kernel") && counts.contains("NXDOMAIN"),
        "{counts}"
    );

    let told = output("dns query web db AAAA", &Host).await.unwrap();
    assert!(told.contains("NOERROR, answered by: kernel"), "{told}");
    assert!(told.contains("1.  tutorial is the first"), "{told}");

    let log = output("dns log", &Host).await.unwrap();
    let line = "12:26:40.042 web db A network=tutorial kernel NOERROR\n";
    assert_eq!(log, line);
    let others = output("dns log --container db", &Host).await.unwrap();
    assert_eq!(others, "");

    let unknown = output("dns names nobody", &Host).await.unwrap_err();
    assert!(
        unknown.to_string().contains("no container nobody"),
        "{unknown}"
    );
}
