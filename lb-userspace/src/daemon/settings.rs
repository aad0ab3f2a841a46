//! Where the configuration comes from, and what a change of it means.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Config, ConfigError, Dns, LogFormat, ProviderChoice, ServerOrder};
use crate::dns::{Forwarding, Rules};

/// What the command line says in place of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub provider: Option<ProviderChoice>,
    pub engine_socket: Option<PathBuf>,
    pub log_format: Option<LogFormat>,
    pub log_level: Option<String>,
}

/// A file, and what overrides it.
#[derive(Clone, Debug)]
pub struct ConfigSource {
    /// `None`: the usual file, which may be missing.
    path: Option<PathBuf>,
    overrides: Overrides,
}

impl ConfigSource {
    pub fn new(path: Option<PathBuf>, overrides: Overrides) -> Self {
        Self { path, overrides }
    }

    /// The file that is read; `None` if there is none.
    pub fn file(&self) -> Option<PathBuf> {
        let usual = || {
            Path::new(Config::PATH)
                .exists()
                .then(|| PathBuf::from(Config::PATH))
        };
        self.path.clone().or_else(usual)
    }

    /// Reads the file as it is now.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut config = match self.file() {
            Some(file) => Config::load(&file)?,
            None => Config::default(),
        };
        let overrides = self.overrides.clone();
        if let Some(provider) = overrides.provider {
            config.provider = provider;
        }
        if let Some(socket) = overrides.engine_socket {
            config.engine.socket = socket;
        }
        if let Some(format) = overrides.log_format {
            config.log.format = format;
        }
        if let Some(level) = overrides.log_level {
            config.log.level = level;
        }
        Ok(config)
    }
}

/// The sections that `new` changes and that a running daemon cannot take over.
pub(super) fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let sections = [
        ("provider", old.provider != new.provider),
        ("engine", old.engine != new.engine),
        ("maps", old.maps != new.maps),
        ("dns.takeover", old.dns.takeover != new.dns.takeover),
        ("dns.lead", old.dns.lead != new.dns.lead),
        ("dns.kernel", old.dns.kernel != new.dns.kernel),
        (
            "dns.no_conntrack",
            old.dns.no_conntrack != new.dns.no_conntrack,
        ),
        ("dns.upstreams", old.dns.upstreams != new.dns.upstreams),
        ("dns", forwarding(&old.dns) != forwarding(&new.dns)),
        ("log", old.log != new.log),
    ];
    let changed = sections.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(section, _)| section).collect()
}

/// `new` with the sections of `old` that cannot change while the daemon runs.
pub(super) fn keep_running(old: &Config, new: Config) -> Config {
    let dns = Dns {
        ttl: new.dns.ttl,
        tasks: new.dns.tasks,
        srv: new.dns.srv,
        leak: new.dns.leak,
        single_labels: new.dns.single_labels,
        query_log: new.dns.query_log,
        ..old.dns.clone()
    };
    Config {
        provider: old.provider,
        engine: old.engine.clone(),
        maps: old.maps,
        log: old.log.clone(),
        dns,
        ..new
    }
}

/// How names of others are asked for.
pub(super) fn forwarding(dns: &Dns) -> Forwarding {
    Forwarding {
        in_flight: dns.in_flight as usize,
        cache: dns.cache as usize,
        stale: Duration::from_secs(dns.stale.into()),
        fastest_first: dns.order == ServerOrder::Fastest,
        random_case: dns.random_case,
    }
}

/// How names of ours are answered.
pub(super) fn rules(dns: &Dns) -> Rules {
    Rules {
        ttl: dns.ttl,
        tasks: dns.tasks,
        srv: dns.srv,
        leak: dns.leak,
        single_labels: dns.single_labels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_and_policies_change_at_once_and_maps_do_not() {
        let old = Config::default();
        let mut new = Config::default();
        new.timeouts.udp_new = 5;
        new.maps.connections = 2_048;
        new.dns.ttl = 1;
        new.dns.takeover = false;

        let running = keep_running(&old, new.clone());

        assert_eq!(needs_restart(&old, &new), ["maps", "dns.takeover"]);
        assert_eq!((running.timeouts.udp_new, running.dns.ttl), (5, 1));
        assert_eq!((running.maps, running.dns.takeover), (old.maps, true));
        assert_eq!(needs_restart(&old, &running), Vec::<&str>::new());
    }
}
