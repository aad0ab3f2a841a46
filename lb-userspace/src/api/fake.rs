//! A host that answers from memory, for tests.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::model::Notice;

/// A host with one Network `app`, one Group `tg-net` of two Members, and a client `web`.
pub(crate) struct Host;

fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));

fn side(address: IpAddr, port: u16, container: Option<&str>) -> Side {
    Side {
        address,
        port,
        container: container.map(str::to_owned),
    }
}

fn connection(group: &str, idle_seconds: u64) -> ConnectionRow {
    ConnectionRow {
        protocol: "tcp".into(),
        network: "app".into(),
        group: group.into(),
        client: side(v4(5), 40_000, Some("web")),
        frontend: side(VIP, 80, None),
        backend: side(v4(2), 80, Some("one")),
        phase: ConnectionPhase::Established,
        age_seconds: 65,
        idle_seconds,
        timeout_seconds: 8_000,
    }
}

fn member(name: &str, endpoint: u32) -> MemberRow {
    MemberRow {
        container: name.into(),
        endpoint,
        v4: Some(v4(endpoint as u8)),
        v6: None,
        state: "active".into(),
        weight: 1,
        connections: 5,
        established: 0,
    }
}

impl Api for Host {
    async fn status(&self) -> Result<Status, ApiError> {
        Ok(Status {
            version: "0.1.0".into(),
            instance: "netns-1".into(),
            pid: 42,
            uptime_seconds: 65,
            provider: ProviderReport {
                name: "docker".into(),
                state: ProviderState::Failing,
                for_seconds: 3,
                detail: "connection refused".into(),
            },
            ports: PortsReport {
                mode: "replace".into(),
                masquerade: "ebpf".into(),
                uplinks: vec!["eth0".into()],
                published: 1,
            },
            counts: Counts {
                networks: 1,
                containers: 3,
                endpoints: 3,
                groups: 1,
                frontends: 1,
            },
            dns: DnsReport {
                taken_over: 3,
                wanted: 3,
                lead: "sockets".into(),
                ..DnsReport::default()
            },
            latency: Latency {
                count: 9,
                p50_microseconds: 800,
                p99_microseconds: 4_100,
                max_microseconds: 5_000,
            },
            collection: Collection::default(),
            reasons: vec![ReasonCount {
                name: "no-backend".into(),
                count: 7,
                drop: true,
                meaning: "The Group has no Member that can take it.".into(),
            }],
            maps: vec![MapFill {
                name: "CONNECTIONS".into(),
                used: Some(512),
                size: 1_024,
                configured: Some(2_048),
            }],
            memory: MemoryReport {
                resident_bytes: 20 << 20,
                maps_bytes: 300 << 20,
            },
            notices: vec![Notice {
                subject: "container db".into(),
                message: "label veer.weight=\"x\": not a weight".into(),
            }],
            failing: vec![Failure {
                subject: "container bad".into(),
                error: "attach endpoint_in to veth9: no such device".into(),
                attempts: 3,
                for_seconds: 9,
            }],
        })
    }

    async fn networks(&self) -> Result<Vec<NetworkRow>, ApiError> {
        Ok(vec![NetworkRow {
            name: "app".into(),
            id: "0123456789abcdef".into(),
            zone: 1,
            bridge: "br-0123456789ab".into(),
            subnets: vec!["10.0.0.0/24".parse().unwrap()],
            internal: true,
            vip_ranges: vec!["198.18.0.0/22".parse().unwrap()],
            endpoints: 3,
            groups: 1,
        }])
    }

    async fn endpoints(&self) -> Result<Vec<EndpointRow>, ApiError> {
        Ok(vec![EndpointRow {
            id: 2,
            container: "one".into(),
            container_id: "abcdef012345".into(),
            network: "app".into(),
            v4: Some(v4(2)),
            v6: None,
            mac: "02:42:0a:00:00:02".into(),
            interface: "veth1".into(),
            ifindex: 7,
            generation: 1,
            state: "active".into(),
            connections: 5,
            established: 1,
            packets: 60,
            bytes: 4_096,
        }])
    }

    async fn groups(&self) -> Result<Vec<GroupRow>, ApiError> {
        let group = GroupRow {
            alias: "tg-net".into(),
            network: "app".into(),
            vips: vec![VIP],
            mode: "vip".into(),
            algorithm: "round-robin".into(),
            affinity_seconds: 0,
            connections: 10,
            refused: 0,
            members: vec![member("one", 2), member("two", 3)],
        };
        let peers = GroupRow {
            alias: "peers".into(),
            vips: Vec::new(),
            mode: "dnsrr".into(),
            ..group.clone()
        };
        Ok(vec![peers, group])
    }

    async fn firewall(&self) -> Result<Vec<RuleRow>, ApiError> {
        let rule = |rule, action: &str, source: Option<&str>| RuleRow {
            rule,
            action: Some(action.into()),
            source: source.map(Into::into),
            address: None,
            ports: Some("5432".into()),
            protocol: Some("tcp".into()),
            connections: 7,
            idle_seconds: Some(75),
        };
        Ok(vec![
            rule(1, "allow", Some("192.0.2.0/24")),
            rule(2, "deny", None),
            RuleRow {
                rule: 0,
                action: None,
                ports: None,
                protocol: None,
                connections: 0,
                idle_seconds: None,
                ..rule(0, "", None)
            },
        ])
    }

    async fn frontends(&self) -> Result<Vec<FrontendRow>, ApiError> {
        Ok(vec![FrontendRow {
            id: 1,
            address: VIP,
            port: None,
            last_port: None,
            protocol: None,
            network: "app".into(),
            group: "tg-net".into(),
            algorithm: "round-robin".into(),
            affinity_seconds: 0,
            backends: vec!["one".into(), "two".into()],
            slots: 2,
            connections: 10,
            refused: 0,
        }])
    }

    async fn names(&self) -> Result<Vec<NameRow>, ApiError> {
        Ok(vec![NameRow {
            name: "tg-net".into(),
            network: "app".into(),
            addresses: vec![VIP],
        }])
    }

    async fn connections(&self, filter: &ConnectionFilter) -> Result<ConnectionList, ApiError> {
        let rows = vec![connection("tg-net", 9), connection("tg-net", 1)];
        let limit = filter.limit.unwrap_or(ConnectionFilter::LIMIT);
        Ok(ConnectionList {
            more: rows.len() > limit,
            rows: rows.into_iter().take(limit).collect(),
        })
    }

    async fn dns(&self) -> Result<Vec<DnsRow>, ApiError> {
        Ok(vec![
            DnsRow {
                network: Some("tutorial".into()),
                path: "kernel".into(),
                outcome: "NOERROR".into(),
                count: 12,
            },
            DnsRow {
                network: None,
                path: "upstream".into(),
                outcome: "NXDOMAIN".into(),
                count: 3,
            },
        ])
    }

    async fn dns_log(&self, request: &DnsLogRequest) -> Result<DnsLog, ApiError> {
        let row = DnsLogRow {
            at: 1_600_000_000_042,
            container: Some("web".into()),
            network: Some("tutorial".into()),
            name: "db".into(),
            kind: "A".into(),
            path: "kernel".into(),
            outcome: "NOERROR".into(),
        };
        Ok(DnsLog {
            latest: 1,
            rows: Vec::from_iter((request.after == 0).then_some(row)),
        })
    }

    async fn dns_names(&self, request: &DnsNamesRequest) -> Result<Vec<NameRow>, ApiError> {
        match request.container.as_str() {
            "web" => self.names().await,
            other => Err(Problem::not_found(format!("no container {other}")).into()),
        }
    }

    async fn dns_query(&self, request: &DnsRequest) -> Result<DnsAnswer, ApiError> {
        Ok(DnsAnswer {
            path: "kernel".into(),
            outcome: Some("NOERROR".into()),
            records: vec![format!("{}. 5 IN A 198.18.0.1", request.name)],
            reasons: vec!["tutorial is the first that knows the name".into()],
        })
    }

    async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ApiError> {
        if request.client != "web" {
            return Err(Problem::not_found(format!("no container {}", request.client)).into());
        }
        Ok(Explanation {
            findings: vec![Finding {
                step: "veth".into(),
                text: "veth5 carries what web sends".into(),
                passes: true,
            }],
            outcome: Outcome::Forwarded {
                backend: "one".into(),
                address: "10.0.0.2:80".into(),
                by_chance: false,
            },
            connections: vec![connection("tg-net", 1)],
        })
    }

    async fn config(&self) -> Result<ConfigReport, ApiError> {
        Ok(ConfigReport {
            path: None,
            text: "[vips]\n".into(),
        })
    }
}
