//! What failed, and when it is tried again.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::api;
use crate::model::{ContainerId, NetworkId};

/// First pause before something is tried again; it doubles with every attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a failure concerns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A container on one Network.
    Attachment {
        container: ContainerId,
        network: NetworkId,
        /// Name of the container, for people.
        name: String,
    },
    /// The namespace of a container: routes and DNS.
    Namespace { cookie: u64, name: String },
    /// A Frontend, by `network/alias` or its address.
    Frontend(String),
    /// Something of the host's: an interface, an address, a Network.
    Host(String),
    /// Settings of the whole datapath.
    Settings,
    /// The file with the identities.
    Identities,
    /// Looking for what Connections hold, or forgetting them.
    Collection,
    /// Comparing the maps with what was written.
    Audit,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attachment { name, .. } => write!(f, "container {name}"),
            Self::Namespace { name, .. } => write!(f, "namespace of {name}"),
            Self::Frontend(name) => write!(f, "frontend {name}"),
            Self::Host(what) => f.write_str(what),
            Self::Settings => f.write_str("settings"),
            Self::Identities => f.write_str("identities"),
            Self::Collection => f.write_str("collection"),
            Self::Audit => f.write_str("audit"),
        }
    }
}

impl Subject {
    /// Whether a round tries it again; the others have their own times.
    const fn is_of_rounds(&self) -> bool {
        match self {
            Self::Attachment { .. }
            | Self::Namespace { .. }
            | Self::Frontend(_)
            | Self::Host(_)
            | Self::Settings
            | Self::Identities => true,
            Self::Collection | Self::Audit => false,
        }
    }
}

/// Everything that fails at the moment.
#[derive(Debug, Default)]
pub(super) struct Failures {
    known: BTreeMap<Subject, Failure>,
}

#[derive(Debug)]
struct Failure {
    error: String,
    attempts: u32,
    since: Instant,
    retry: Instant,
}

impl Failures {
    /// Notes a failure. Returns whether it is news: another error than the last one, or the first.
    #[must_use = "news is logged"]
    pub(super) fn note(&mut self, subject: Subject, error: String, now: Instant) -> bool {
        let failure = self.known.entry(subject).or_insert_with(|| Failure {
            error: String::new(),
            attempts: 0,
            since: now,
            retry: now,
        });
        let is_news = failure.error != error;
        failure.error = error;
        failure.retry = now + pause(failure.attempts);
        failure.attempts += 1;
        is_news
    }

    /// Notes that `subject` works. Returns whether it did not before.
    pub(super) fn clear(&mut self, subject: &Subject) -> bool {
        self.known.remove(subject).is_some()
    }

    /// Forgets what `keep` does not want, because there is nothing left to try.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Subject) -> bool) {
        self.known.retain(|subject, _| keep(subject));
    }

    /// Whether `subject` failed and its pause is not over.
    pub(super) fn is_paused(&self, subject: &Subject, now: Instant) -> bool {
        self.known
            .get(subject)
            .is_some_and(|failure| failure.retry > now)
    }

    /// What failed and is not tried at the moment.
    pub(super) fn paused(&self, now: Instant) -> impl Iterator<Item = &Subject> {
        let paused = self
            .known
            .iter()
            .filter(move |(_, failure)| failure.retry > now);
        paused.map(|(subject, _)| subject)
    }

    /// What failed and was to be tried again by a round at `now`.
    pub(super) fn due(&self, now: Instant) -> Vec<Subject> {
        let due = self.of_rounds().filter(|(_, failure)| failure.retry <= now);
        due.map(|(subject, _)| subject.clone()).collect()
    }

    /// When a round is to try next; none if nothing fails.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.of_rounds().map(|(_, failure)| failure.retry).min()
    }

    fn of_rounds(&self) -> impl Iterator<Item = (&Subject, &Failure)> {
        self.known
            .iter()
            .filter(|(subject, _)| subject.is_of_rounds())
    }

    /// The list for `veer status`.
    pub(super) fn report(&self, now: Instant) -> Vec<api::Failure> {
        let report = |(subject, failure): (&Subject, &Failure)| api::Failure {
            subject: subject.to_string(),
            error: failure.error.clone(),
            attempts: failure.attempts.into(),
            for_seconds: now.saturating_duration_since(failure.since).as_secs(),
        };
        self.known.iter().map(report).collect()
    }
}

fn pause(attempts: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.min(16));
    doubled.min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_error_is_news_once() {
        let mut failures = Failures::default();
        let now = Instant::now();

        let mut note = |error: &str| failures.note(Subject::Settings, error.to_owned(), now);

        assert!(note("no room"));
        assert!(!note("no room"));
        assert!(note("no map"));
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut failures = Failures::default();
        let now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let _ = failures.note(Subject::Settings, "no room".to_owned(), now);
            pauses.push(failures.next_retry().unwrap() - now);
        }

        assert_eq!(pauses[..3], [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4]);
        assert_eq!(pauses[8], LONGEST_PAUSE);
    }

    #[test]
    fn a_failure_is_paused_until_its_retry_and_gone_when_it_works() {
        let mut failures = Failures::default();
        let now = Instant::now();
        let _ = failures.note(Subject::Settings, "no map".to_owned(), now);

        assert!(failures.is_paused(&Subject::Settings, now));
        assert_eq!(failures.due(now), []);
        assert!(!failures.is_paused(&Subject::Settings, now + FIRST_PAUSE));
        assert_eq!(failures.due(now + FIRST_PAUSE), [Subject::Settings]);
        assert!(failures.clear(&Subject::Settings));
        assert!(!failures.clear(&Subject::Settings));
        assert_eq!(failures.next_retry(), None);
    }

    #[test]
    fn what_has_its_own_time_does_not_begin_rounds() {
        let mut failures = Failures::default();

        let _ = failures.note(Subject::Audit, "no map".to_owned(), Instant::now());

        assert_eq!(failures.next_retry(), None);
    }

    #[test]
    fn status_says_what_fails_for_how_long() {
        let mut failures = Failures::default();
        let start = Instant::now();
        let subject = Subject::Namespace {
            cookie: 7,
            name: "web".to_owned(),
        };
        for _ in 0..2 {
            let _ = failures.note(subject.clone(), "no such process".to_owned(), start);
        }

        let report = failures.report(start + Duration::from_secs(9));

        assert_eq!(report[0].subject, "namespace of web");
        assert_eq!((report[0].attempts, report[0].for_seconds), (2, 9));
    }
}
