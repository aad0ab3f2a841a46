//! Real programs through a published port: whether they see what the load tool says.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::seq::SliceRandom as _;
use veer_tests::child::Guarded;
use veer_tests::deadline::within;

use super::ports::{HOST, PORT, Site};
use crate::cpu;
use crate::measure::Effort;
use crate::progress::Progress;
use crate::proxy::{find, start_pinned};
use crate::report::Suite;
use crate::rounds::Notes;

/// A server, and a client that measures it.
struct Pair {
    measure: &'static str,
    server: &'static str,
    client: &'static str,
    /// Arguments of the server, whose folder this is.
    serve: fn(&Path) -> Result<Vec<String>>,
    /// Arguments of the client.
    ask: fn(Ipv4Addr) -> String,
    /// What stands before the figure that it prints.
    mark: &'static str,
}

const PAIRS: [Pair; 2] = [
    Pair {
        measure: "wrk against nginx",
        server: "nginx",
        client: "wrk",
        serve: |folder| {
            let (config, shown) = (folder.join("config"), folder.display());
            let text = format!(
                "daemon off;\nmaster_process off;\nworker_processes 1;\npid {shown}/pid;\n\
                 error_log {shown}/error;\nevents {{ worker_connections 1024; }}\n\
                 http {{ access_log off; client_body_temp_path {shown}/body; proxy_temp_path {shown}/proxy;\n\
                 fastcgi_temp_path {shown}/fastcgi; uwsgi_temp_path {shown}/uwsgi;\n\
                 scgi_temp_path {shown}/scgi; keepalive_requests 1000000000;\n\
                 server {{ listen {PORT}; return 200 ok; }} }}\n"
            );
            fs::write(&config, text)?;
            Ok(vec!["-c".to_owned(), config.display().to_string()])
        },
        ask: |to| format!("-t1 -c16 -d1s http://{to}:{PORT}/"),
        mark: "Requests/sec:",
    },
    Pair {
        measure: "redis-benchmark against redis",
        server: "redis-server",
        client: "redis-benchmark",
        serve: |folder| {
            let text = format!(
                "--port {PORT} --bind 0.0.0.0 --protected-mode no --appendonly no --dir {}",
                folder.display()
            );
            let mut words: Vec<_> = text.split(' ').map(str::to_owned).collect();
            words.extend(["--save".to_owned(), String::new()]);
            Ok(words)
        },
        ask: |to| format!("-h {to} -p {PORT} -t get -n 30000 -c 16 -q"),
        mark: "GET:",
    },
];

pub(super) fn suite(effort: Effort) -> Result<Suite> {
    let [routed, iptables, faced] = [Site::new(), Site::new(), Site::new()];
    let mut suite = Suite {
        name: "sanity".to_owned(),
        about: "Real programs of Debian through a published port, client and server on one CPU: what they \
                say themselves, in wall-clock time."
            .to_owned(),
        settings: vec!["wrk, redis-benchmark: 16 connections, one thread".to_owned()],
        ..Suite::default()
    };
    let mut ways = vec![("routed", &routed, routed.web.v4)];
    if suite.is_set_up("iptables", iptables.by_iptables(1)) {
        ways.push(("iptables", &iptables, HOST));
    }
    let _veer = faced.by_veer(1);
    ways.push(("veer", &faced, HOST));
    let mut pairs = Vec::new();
    for pair in &PAIRS {
        match (find(pair.server)?, find(pair.client)?) {
            (Some(_), Some(_)) => pairs.push(pair),
            _ => {
                let why = format!("{} is not installed", pair.measure);
                suite.left_out.push(why);
            }
        }
    }

    let mut notes = Notes::default();
    let all = pairs
        .iter()
        .flat_map(|pair| ways.iter().map(move |way| (*pair, *way)));
    let mut order: Vec<_> = all.collect();
    let mut progress = Progress::new(order.len() * effort.rounds);
    for _ in 0..effort.rounds {
        order.shuffle(&mut rand::rng());
        for (pair, (name, site, to)) in &order {
            progress.step(&format!("{} over {name}", pair.measure));
            let attempt = || format!("{} over {name}", pair.measure);
            let rate = pair.rate(site, *to).with_context(attempt)?;
            notes.note(name, pair.measure, "requests/s", rate);
        }
    }
    let place = |name: &str| ways.iter().position(|way| way.0 == name);
    notes.0.sort_by(|a, b| {
        let key = |series: &crate::report::Series| (series.measure.clone(), place(&series.variant));
        key(a).cmp(&key(b))
    });
    suite.series = notes.0;
    Ok(suite)
}

impl Pair {
    /// What the client says that it got each second.
    fn rate(&self, site: &Site, to: Ipv4Addr) -> Result<f64> {
        let folder = tempfile::tempdir()?;
        let _server = self.start(site, folder.path())?;
        let mut command = Command::new("taskset");
        command.args(["-c", &cpu::last().to_string(), self.client]);
        command.args((self.ask)(to).split(' '));
        let output = site.outside.run(|| command.output())??;
        let printed = String::from_utf8_lossy(&output.stdout);
        figure(&printed, self.mark).with_context(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("{} printed {printed}{said}", self.client)
        })
    }

    fn start(&self, site: &Site, folder: &Path) -> Result<Guarded> {
        let program = find(self.server)?.context("find the server")?;
        let mut command = Command::new(program);
        command
            .args((self.serve)(folder)?)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = start_pinned(&site.web.namespace, &mut command)?;
        let mut listens = false;
        within(
            Duration::from_secs(10),
            "the server listens or ends",
            || {
                let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT);
                listens = site.web.run(|| TcpStream::connect(at).is_ok());
                listens || !child.is_running()
            },
        );
        ensure!(listens, "{} ended at once", self.server);
        Ok(child)
    }
}

/// The last number that stands behind `mark`.
pub(super) fn figure(printed: &str, mark: &str) -> Option<f64> {
    let lines = printed.split(['\n', '\r']);
    let mut behind = lines.filter_map(|line| {
        let (_, rest) = line.split_once(mark)?;
        rest.split_whitespace().next()?.parse().ok()
    });
    behind.next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_figure_is_read_from_what_programs_print() {
        let redis =
            "GET: rps=0.0 (overall: 0.0)\rGET: 51234.50 requests per second, p50=0.2 msec\n";

        assert_eq!(figure(redis, "GET:"), Some(51_234.5));
        assert_eq!(
            figure("Requests/sec:  12000.25\n", "Requests/sec:"),
            Some(12_000.25)
        );
        assert_eq!(figure("nothing", "GET:"), None);
    }
}
