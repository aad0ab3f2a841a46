//! Where membership comes from.
//!
//! A provider is a task that publishes complete observations, and never ends: when its source cannot
//! be reached, the last observation stays and [`ProviderHealth`] says so.

pub mod docker;
pub mod lab;

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::model::Observed;

/// What a provider publishes.
#[derive(Clone, Debug)]
pub struct Feed {
    /// `None` until the source was reached for the first time: nothing is known, which is not the
    /// same as nothing being there.
    pub observed: watch::Receiver<Option<Snapshot>>,
    pub health: watch::Receiver<ProviderHealth>,
}

/// The writing side of a [`Feed`], for the provider's own task.
#[derive(Debug)]
pub struct Publisher {
    observed: watch::Sender<Option<Snapshot>>,
    health: watch::Sender<ProviderHealth>,
}

/// One complete observation.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub observed: Arc<Observed>,
    /// When its cause happened, by the source's own clock, where the source says so.
    pub caused_at: Option<SystemTime>,
}

/// How a provider stands with its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ProviderHealth {
    /// Not reached yet: nothing has been observed.
    Connecting,
    /// Reached, and followed.
    Following {
        since: SystemTime,
        /// What is followed, such as an Engine's version.
        detail: String,
    },
    /// Lost or never reached; tried again without end. What was observed last still holds.
    Failing { since: SystemTime, error: String },
}

/// A feed and its writing side: nothing observed, connecting.
pub fn feed() -> (Publisher, Feed) {
    let (observed, observed_receiver) = watch::channel(None);
    let (health, health_receiver) = watch::channel(ProviderHealth::Connecting);
    let feed = Feed {
        observed: observed_receiver,
        health: health_receiver,
    };
    (Publisher { observed, health }, feed)
}

impl Publisher {
    /// Publishes `observed` if it says something new, and returns whether it does. `caused_at` is
    /// when its cause happened.
    pub fn publish(&self, observed: Observed, caused_at: Option<SystemTime>) -> bool {
        self.observed.send_if_modified(|known| {
            if let Some(known) = known
                && *known.observed == observed
            {
                return false;
            }
            *known = Some(Snapshot {
                observed: Arc::new(observed),
                caused_at,
            });
            true
        })
    }

    /// Says that the source is followed. `detail` is what is followed.
    pub fn following(&self, detail: &str) {
        self.health.send_if_modified(|health| match health {
            ProviderHealth::Following { detail: known, .. } if known == detail => false,
            ProviderHealth::Following { .. }
            | ProviderHealth::Connecting
            | ProviderHealth::Failing { .. } => {
                *health = ProviderHealth::Following {
                    since: SystemTime::now(),
                    detail: detail.to_string(),
                };
                true
            }
        });
    }

    /// Says that the source cannot be reached, and why. `since` stays that of the first failure.
    pub fn failing(&self, error: &str) {
        self.health.send_if_modified(|health| match health {
            ProviderHealth::Failing { error: known, .. } => {
                let news = known != error;
                *known = error.to_string();
                news
            }
            ProviderHealth::Connecting | ProviderHealth::Following { .. } => {
                *health = ProviderHealth::Failing {
                    since: SystemTime::now(),
                    error: error.to_string(),
                };
                true
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_observation_is_news_even_when_it_is_empty() {
        let (publisher, mut feed) = feed();

        publisher.publish(Observed::default(), None);

        assert!(feed.observed.has_changed().unwrap());
        assert!(feed.observed.borrow_and_update().is_some());
        publisher.publish(Observed::default(), None);
        assert!(!feed.observed.has_changed().unwrap(), "the same is no news");
    }

    #[test]
    fn a_failing_source_keeps_its_last_observation_and_the_time_of_its_first_failure() {
        let (publisher, feed) = feed();
        publisher.publish(Observed::default(), None);
        publisher.failing("connection refused");
        let first = feed.health.borrow().clone();

        publisher.failing("no such file");

        let ProviderHealth::Failing { since, .. } = first else {
            panic!("{first:?}");
        };
        let error = "no such file".to_string();
        assert_eq!(
            *feed.health.borrow(),
            ProviderHealth::Failing { since, error }
        );
        assert!(feed.observed.borrow().is_some());
    }
}
