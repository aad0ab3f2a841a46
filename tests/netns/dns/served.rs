//! A site whose queries veer answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lb_common::{Port, Resolver};
use lb_userspace::dns::{Dns, Forwarding, Kernel, Options, Records, Rules};
use lb_userspace::netns::Namespace;

use super::hooks::Hooks;
use super::site::{Dockers, Site, observed};

/// A site whose queries are led to a DNS server.
pub struct Served {
    pub site: Site,
    pub dns: Option<Dns>,
    pub is_beating: Arc<AtomicBool>,
    /// Where it is answered, if that is not inside.
    _host: Option<Namespace>,
    _hooks: Hooks,
}

impl Served {
    /// A site with Docker's resolver, in which queries are led on its loopback interface.
    pub fn beside(rules: Dockers) -> Self {
        let site = Site::new();
        let [docker_udp, docker_tcp] = site.start_dockers_resolver(rules).map(Port::new);
        let mut hooks = Hooks::load();
        let server = start_dns(&site, &mut hooks, false);
        let resolver = server.0.take_over(&site.netns()).unwrap();
        let beside = Resolver {
            docker_udp,
            docker_tcp,
            ..resolver
        };
        hooks.lead_inside(&site.namespace, beside);
        Self::of(site, server, hooks, None)
    }

    /// A site with another resolver, whose queries are led to the host.
    pub fn on_host(in_kernel: bool) -> Self {
        let site = Site::new();
        site.start_other_resolver();
        let (host, gate) = site.plug_in();
        let (netns, mut hooks) = (site.netns(), Hooks::attach());
        let server = start_dns(&site, &mut hooks, in_kernel);
        let resolver = host.run(|| server.0.take_over_at(&netns, &gate).unwrap());
        let resolver = resolver.unwrap();
        hooks.lead(netns.cookie, resolver);
        if in_kernel {
            hooks.answer_at(&host, &gate.bridge, netns.cookie, resolver);
        }
        Self::of(site, server, hooks, Some(host))
    }

    /// A site in which the container `web` lives, served as the daemon does it: by the daemon alone.
    pub fn new() -> Self {
        Self::start(false)
    }

    /// The same site, twice: answered by the daemon alone, and by the kernel where it can.
    pub fn both() -> [Self; 2] {
        [false, true].map(Self::start)
    }

    /// How many answers the kernel has given.
    pub fn answered_in_kernel(&self) -> u64 {
        let dns = self.dns.as_ref().expect("it is there");
        let counts = dns.kernel_counts();
        let all = counts.iter().map(|(_, c)| c.answered + c.empty + c.absent);
        all.sum()
    }

    fn of(
        site: Site,
        (dns, is_beating): (Dns, Arc<AtomicBool>),
        hooks: Hooks,
        host: Option<Namespace>,
    ) -> Self {
        Self {
            site,
            dns: Some(dns),
            is_beating,
            _host: host,
            _hooks: hooks,
        }
    }

    pub fn start(in_kernel: bool) -> Self {
        let (site, mut hooks) = (Site::new(), Hooks::attach());
        let server = start_dns(&site, &mut hooks, in_kernel);
        let resolver = server.0.take_over(&site.netns()).unwrap();
        hooks.lead(site.netns().cookie, resolver);
        if in_kernel {
            hooks.answer_inside(&site.namespace);
        }
        Self::of(site, server, hooks, None)
    }
}

/// A server that knows `web` in `site`, and what lets its heart beat.
fn start_dns(site: &Site, hooks: &mut Hooks, in_kernel: bool) -> (Dns, Arc<AtomicBool>) {
    let kernel = in_kernel.then(|| hooks.names() as Arc<dyn Kernel>);
    let is_beating = Arc::new(AtomicBool::new(true));
    let mut beat = hooks.beat();
    let beating = Arc::clone(&is_beating);
    let dns = Dns::start(Options {
        resolv_conf: site.folder().join("no-name-servers"),
        forwarding: Forwarding::default(),
        kernel,
        register: Some(hooks.register()),
        beat: Box::new(move || {
            if beating.load(Ordering::Relaxed) {
                beat();
            }
        }),
    });
    let dns = dns.unwrap();
    let observed = observed(&site.netns());
    let records = Records::build(&observed, &[], &Rules::default());
    dns.publish(Arc::new(records));
    (dns, is_beating)
}
