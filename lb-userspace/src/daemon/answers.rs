//! The daemon's answers to operators.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lb_common::RuleCounters;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::explain;
use super::report::View;
use super::rounds;
use super::shared::Shared;
use crate::api::{
    Api, ApiError, ConfigReport, ConnectionFilter, ConnectionList, DnsAnswer, DnsLog,
    DnsLogRequest, DnsLogRow, DnsNamesRequest, DnsRequest, DnsRow, EndpointRow, ExplainRequest,
    Explanation, FrontendRow, GroupRow, MapFill, MemoryReport, NameRow, NetworkRow, Problem,
    ReasonCount, RuleRow, Status,
};
use crate::config::FirewallRule;
use crate::datapath::{self, DatapathError, Filter};
use crate::dns::{self, Known, Sample};
use crate::model::{Container, Netns};
use crate::reconcile::ServedEndpoint;

/// Seconds that a client may wait for logged queries.
const LONGEST_WAIT: u64 = 60;

/// Answers over what is shared with the loop.
#[derive(Clone, Debug)]
pub(super) struct Answers(pub(super) Arc<Shared>);

impl Answers {
    /// Runs `ask`, which makes system calls, where it holds nobody up.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Shared) -> Result<T, Unanswered> + Send + 'static,
    ) -> Result<T, ApiError> {
        let shared = Arc::clone(&self.0);
        let result = spawn_blocking(move || ask(&shared)).await;
        match result {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Unanswered::Problem(problem))) => Err(problem.into()),
            Ok(Err(Unanswered::Datapath(error))) => Err(Problem::failed(error.to_string()).into()),
            Err(error) => Err(Problem::failed(error.to_string()).into()),
        }
    }
}

/// Why there is no answer.
pub(super) enum Unanswered {
    Problem(Problem),
    Datapath(DatapathError),
}

impl From<Problem> for Unanswered {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<DatapathError> for Unanswered {
    fn from(error: DatapathError) -> Self {
        Self::Datapath(error)
    }
}

impl Api for Answers {
    async fn status(&self) -> Result<Status, ApiError> {
        self.ask(status).await
    }

    async fn networks(&self) -> Result<Vec<NetworkRow>, ApiError> {
        Ok(self.0.view().networks())
    }

    async fn endpoints(&self) -> Result<Vec<EndpointRow>, ApiError> {
        let rows = |shared: &Shared| {
            let view = shared.view();
            Ok(view.endpoints(&shared.counted(&view)?))
        };
        self.ask(rows).await
    }

    async fn groups(&self) -> Result<Vec<GroupRow>, ApiError> {
        let rows = |shared: &Shared| {
            let view = shared.view();
            Ok(view.groups(&shared.counted(&view)?))
        };
        self.ask(rows).await
    }

    async fn firewall(&self) -> Result<Vec<RuleRow>, ApiError> {
        let rows = |shared: &Shared| {
            let (datapath, now) = (shared.datapath(), datapath::now().unwrap_or_default());
            let view = shared.view();
            let rules = view.desired.firewall.iter().zip(1..);
            let rules = rules.map(|(served, place)| (place, served.number, Some(&served.rule)));
            let row = |(place, number, rule): (u16, u16, Option<&FirewallRule>)| {
                let counters = datapath.rule_counters(u32::from(number))?;
                Ok(rule_row(place, rule, counters, now))
            };
            rules.chain([(0, 0, None)]).map(row).collect()
        };
        self.ask(rows).await
    }

    async fn frontends(&self) -> Result<Vec<FrontendRow>, ApiError> {
        let rows = |shared: &Shared| {
            let view = shared.view();
            Ok(view.frontends(&shared.counted(&view)?))
        };
        self.ask(rows).await
    }

    async fn names(&self) -> Result<Vec<NameRow>, ApiError> {
        let records = self.0.records.load_full();
        let mut rows: Vec<_> = records.names().map(name_row).collect();
        rows.sort_by(|a, b| (&a.network, &a.name).cmp(&(&b.network, &b.name)));
        Ok(rows)
    }

    async fn dns(&self) -> Result<Vec<DnsRow>, ApiError> {
        let rows = |shared: &Shared| {
            let all = shared.dns.tally().into_iter();
            let row = |(network, path, outcome, count): (_, dns::Path, dns::Outcome, _)| DnsRow {
                network,
                path: path.name().to_owned(),
                outcome: outcome.name().to_owned(),
                count,
            };
            Ok(all.map(row).collect())
        };
        self.ask(rows).await
    }

    async fn dns_log(&self, request: &DnsLogRequest) -> Result<DnsLog, ApiError> {
        let shared = &self.0;
        if shared.config.load().dns.query_log == 0 {
            let message = "no answers are logged: set query_log in [dns], 1 for all of them";
            return Err(Problem::bad_request(message.to_owned()).into());
        }
        let mut latest = shared.dns.watch_log();
        let wait = Duration::from_secs(request.wait.min(LONGEST_WAIT));
        // What there is when the time is over is the answer either way.
        let _ = timeout(wait, latest.wait_for(|latest| *latest > request.after)).await;
        let (samples, latest) = shared.dns.logged(request.after);
        let names = rounds::names(&shared.view().observed);
        let rows = samples.into_iter().map(|sample| log_row(sample, &names));
        Ok(DnsLog {
            latest,
            rows: rows.collect(),
        })
    }

    async fn dns_names(&self, request: &DnsNamesRequest) -> Result<Vec<NameRow>, ApiError> {
        let netns = namespace(&self.0.view(), &request.container)?;
        let records = self.0.records.load_full();
        let names = records.view(netns.cookie).map(|view| view.names());
        Ok(names
            .unwrap_or_default()
            .into_iter()
            .map(name_row)
            .collect())
    }

    async fn dns_query(&self, request: &DnsRequest) -> Result<DnsAnswer, ApiError> {
        let request = request.clone();
        self.ask(move |shared| dns_query(shared, &request)).await
    }

    async fn connections(&self, filter: &ConnectionFilter) -> Result<ConnectionList, ApiError> {
        let filter = filter.clone();
        self.ask(move |shared| connections(shared, &filter)).await
    }

    async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ApiError> {
        let request = request.clone();
        self.ask(move |shared| explain::explain(&shared.view(), &shared.datapath(), &request))
            .await
    }

    async fn config(&self) -> Result<ConfigReport, ApiError> {
        Ok(self.0.config_report())
    }
}

fn log_row(sample: Sample, names: &BTreeMap<u64, String>) -> DnsLogRow {
    let at = sample.at.duration_since(SystemTime::UNIX_EPOCH);
    let at = at.unwrap_or_default().as_millis();
    DnsLogRow {
        at: u64::try_from(at).unwrap_or(u64::MAX),
        container: names.get(&sample.netns).cloned(),
        network: sample.network,
        name: sample.name,
        kind: sample.kind,
        path: sample.path.name().to_owned(),
        outcome: sample.outcome.name().to_owned(),
    }
}

/// A rule by its place, or what stands for Frontends' own lists.
fn rule_row(place: u16, rule: Option<&FirewallRule>, counters: RuleCounters, now: u64) -> RuleRow {
    let action = |rule: &FirewallRule| if rule.allows { "allow" } else { "deny" };
    let ports = |ports: &RangeInclusive<u16>| match ports.start() == ports.end() {
        true => ports.start().to_string(),
        false => format!("{}-{}", ports.start(), ports.end()),
    };
    let has_judged = counters.last != 0;
    let idle = now.saturating_sub(counters.last) / 1_000_000_000;
    RuleRow {
        rule: place,
        action: rule.map(|rule| action(rule).to_owned()),
        source: rule.and_then(|rule| Some(rule.source?.to_string())),
        address: rule.and_then(|rule| rule.address),
        ports: rule.and_then(|rule| rule.ports.as_ref().map(ports)),
        protocol: rule.and_then(|rule| Some(rule.protocol?.name().to_owned())),
        connections: counters.connections,
        idle_seconds: has_judged.then_some(idle),
    }
}

fn name_row((network, name, known): (&str, &str, &Known)) -> NameRow {
    let v4 = known.v4.iter().copied().map(IpAddr::V4);
    NameRow {
        name: name.to_owned(),
        network: network.to_owned(),
        addresses: v4.chain(known.v6.iter().copied().map(IpAddr::V6)).collect(),
    }
}

/// Where the container lives that an operator calls so.
fn namespace(view: &View, container: &str) -> Result<Netns, Problem> {
    let mut containers = view.observed.containers.iter();
    let is = |known: &&Container| known.name == container || known.id.short() == container;
    let found = containers.find(is).ok_or_else(|| {
        let way_out = "`veer endpoints` lists those that are";
        Problem::not_found(format!(
            "no container {container} is served here: {way_out}"
        ))
    })?;
    found.netns.clone().ok_or_else(|| {
        Problem::not_found(format!(
            "{container} has no network namespace yet: try again"
        ))
    })
}

fn dns_query(shared: &Shared, request: &DnsRequest) -> Result<DnsAnswer, Unanswered> {
    let netns = namespace(&shared.view(), &request.container)?;
    if !shared.dns.served_namespaces().contains(&netns.cookie) {
        let reason = "veer does not answer this container: Docker's resolver does";
        return Err(Problem::not_found(reason.to_owned()).into());
    }
    let kind = request.kind.as_deref().unwrap_or("A");
    let told = shared.dns.told(&netns, &request.name, kind);
    let told = told.ok_or_else(|| {
        let what = format!("{} {kind}", request.name);
        Problem::bad_request(format!("{what}: write a name and a type such as AAAA"))
    })?;
    Ok(DnsAnswer {
        path: told.path.name().to_owned(),
        outcome: told.outcome.map(|outcome| outcome.name().to_owned()),
        records: told.records,
        reasons: told.reasons,
    })
}

fn status(shared: &Shared) -> Result<Status, Unanswered> {
    let view = shared.view();
    let reasons = shared.datapath().reasons()?;
    let maps = maps(shared, &view);
    // Whoever asked for the datapath twice at once would wait for a change that waits for the first.
    let maps_bytes = shared.datapath().maps_memory()?;
    let memory = MemoryReport {
        resident_bytes: super::memory::resident()?,
        maps_bytes,
    };
    let progress = shared.progress();
    let notices = progress.warnings.iter().chain(&view.desired.notices);
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: shared.instance.name().to_owned(),
        pid: std::process::id(),
        uptime_seconds: shared.started.elapsed().as_secs(),
        counts: view.counts(),
        ports: shared.ports_report(&view),
        latency: progress.latency.report(),
        collection: progress.collection,
        reasons: reasons
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| ReasonCount {
                name: reason.name().to_owned(),
                count,
                drop: reason.is_drop(),
                meaning: reason.meaning().to_owned(),
            })
            .collect(),
        notices: notices.cloned().collect(),
        failing: progress.failures.report(std::time::Instant::now()),
        maps,
        memory,
        provider: shared.provider_report(),
        dns: {
            drop(progress);
            shared.dns_report(&view)
        },
    })
}

/// What one map has in use.
fn fill(name: &str, used: Option<usize>, size: u32, configured: u32) -> MapFill {
    MapFill {
        name: name.to_owned(),
        used: used.map(|used| used as u64),
        size: size.into(),
        configured: (size != configured).then_some(configured.into()),
    }
}

fn maps(shared: &Shared, view: &View) -> Vec<MapFill> {
    let (datapath, config) = (shared.datapath(), shared.config.load());
    let (maps, sizes, state) = (datapath.maps(), &config.maps, &view.desired.state);
    let slots = state.slots.values().map(Vec::len).sum();
    let taken_over = shared.progress().taken_over;
    let tracked = shared.progress().tracked;
    vec![
        fill(
            "VETHS",
            Some(state.veths.len()),
            maps.veths.capacity(),
            sizes.veths,
        ),
        fill(
            "ENDPOINTS",
            Some(state.endpoints.len()),
            maps.endpoints.len(),
            sizes.endpoints,
        ),
        fill(
            "FRONTENDS",
            Some(state.frontends.len()),
            maps.frontends.capacity(),
            sizes.frontends,
        ),
        fill("SLOTS", Some(slots), maps.slots.len(), sizes.slots),
        fill(
            "CONNECTIONS",
            tracked.map(|(established, _)| established),
            maps.connections.capacity(),
            sizes.connections,
        ),
        fill(
            "HALF_OPEN",
            tracked.map(|(_, half_open)| half_open),
            maps.half_open.capacity(),
            sizes.half_open,
        ),
        fill(
            "RESOLVERS",
            Some(taken_over),
            maps.resolvers.capacity(),
            sizes.resolvers,
        ),
    ]
}

/// Who a filter means: a name is one of a container, an address stands for itself.
fn endpoint<'a>(view: &'a View, who: &str) -> Result<Vec<&'a ServedEndpoint>, Problem> {
    let found = view.endpoints_of(who);
    if found.is_empty() {
        let message =
            format!("no container {who} is served here: `veer endpoints` lists those that are");
        return Err(Problem::not_found(message));
    }
    Ok(found)
}

fn connections(shared: &Shared, filter: &ConnectionFilter) -> Result<ConnectionList, Unanswered> {
    let view = shared.view();
    let limit = filter.limit.unwrap_or(ConnectionFilter::LIMIT);
    let now = datapath::now().unwrap_or_default();
    let mut rows = Vec::new();
    for wanted in filters(&view, filter)? {
        // One more than wanted tells whether there are more.
        let found = shared.datapath().connections(&wanted, limit + 1)?;
        rows.extend(
            found
                .iter()
                .map(|(key, entry)| view.connection(key, entry, now)),
        );
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    Ok(ConnectionList { rows, more })
}

/// What is to be looked for: every combination of what each part of the filter means.
fn filters(view: &View, filter: &ConnectionFilter) -> Result<Vec<Filter>, Problem> {
    let mut filters = vec![Filter::default()];
    if let Some(client) = &filter.client {
        let addresses = addresses(client, &endpoint(view, client)?);
        filters = combine(&filters, &addresses, |filter, address| Filter {
            client: Some((*address).into()),
            ..filter
        });
    }
    if let Some(backend) = &filter.backend {
        let endpoints = endpoint(view, backend)?;
        filters = combine(&filters, &endpoints, |filter, endpoint| Filter {
            backend: Some(endpoint.id),
            ..filter
        });
    }
    if let Some(alias) = &filter.group {
        let ids = view.frontends_of(alias);
        if ids.is_empty() {
            let message =
                format!("no Group {alias} has a VIP here: `veer groups` lists the Groups");
            return Err(Problem::not_found(message));
        }
        filters = combine(&filters, &ids, |filter, id| Filter {
            frontend: Some(*id),
            ..filter
        });
    }
    Ok(filters)
}

fn combine<T>(
    filters: &[Filter],
    values: &[T],
    with: impl Fn(Filter, &T) -> Filter,
) -> Vec<Filter> {
    let each = filters
        .iter()
        .flat_map(|filter| values.iter().map(|value| with(*filter, value)));
    each.collect()
}

/// The address that was given, or all of the container's.
fn addresses(who: &str, endpoints: &[&ServedEndpoint]) -> Vec<IpAddr> {
    if let Ok(address) = who.parse() {
        return vec![address];
    }
    let both = |endpoint: &&ServedEndpoint| {
        let v4 = endpoint.v4.map(IpAddr::V4);
        v4.into_iter().chain(endpoint.v6.map(IpAddr::V6))
    };
    endpoints.iter().flat_map(both).collect()
}
