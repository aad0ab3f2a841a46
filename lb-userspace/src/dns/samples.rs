//! The query log: some of the answers, the latest of them kept.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::BinDecodable;
use lb_common::dns::Sample as InKernel;
use rand::RngExt;
use tokio::sync::watch;

use super::query::Query;
use super::tally::{Outcome, Path};

/// Answers that are kept for those who ask later.
const KEPT: usize = 1_000;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub at: SystemTime,
    /// Cookie of the network namespace that asked.
    pub netns: u64,
    /// The Network whose name it is; `None`: a name of others.
    pub network: Option<String>,
    /// As it was asked for; in lower case if the kernel answered.
    pub name: String,
    /// The type, such as `AAAA`.
    pub kind: String,
    pub path: Path,
    pub outcome: Outcome,
}

/// The latest of them, numbered from 1 on.
#[derive(Debug)]
pub(super) struct Samples {
    every: AtomicU32,
    kept: Mutex<VecDeque<Sample>>,
    /// The number of the latest.
    latest: watch::Sender<u64>,
}

impl Default for Samples {
    fn default() -> Self {
        Self {
            every: AtomicU32::new(0),
            kept: Mutex::default(),
            latest: watch::Sender::new(0),
        }
    }
}

impl Samples {
    /// From now on keeps one in `every` answers; 0: none.
    pub(super) fn set(&self, every: u32) {
        self.every.store(every, Ordering::Relaxed);
    }

    /// Keeps the answer if it is one of those.
    pub(super) fn note(
        &self,
        netns: u64,
        query: &Query,
        network: Option<&str>,
        path: Path,
        reply: &[u8],
    ) {
        let every = self.every.load(Ordering::Relaxed);
        if every == 0 || rand::rng().random_range(0..every) != 0 {
            return;
        }
        self.keep(Sample {
            at: SystemTime::now(),
            netns,
            network: network.map(str::to_owned),
            name: text(query.name()),
            kind: query.kind().to_string(),
            path,
            outcome: Outcome::of(reply),
        });
    }

    /// Keeps an answer that the kernel gave about a name of `network`, `age` ago.
    pub(super) fn note_kernel(&self, sample: &InKernel, network: Option<String>, age: Duration) {
        let name = Name::from_bytes(&sample.name);
        self.keep(Sample {
            at: SystemTime::now() - age,
            netns: sample.netns,
            network,
            // The kernel answers well-formed names only.
            name: name.map_or_else(|_| String::new(), |name| text(&name)),
            kind: RecordType::from(sample.kind).to_string(),
            path: Path::Kernel,
            outcome: Outcome::coded(sample.code, sample.answers),
        });
    }

    fn keep(&self, sample: Sample) {
        let mut kept = self.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(sample);
        // Under the lock, so that numbers and samples agree.
        self.latest.send_modify(|latest| *latest += 1);
    }

    /// Those after the one with this number, oldest first, and the number of the latest.
    pub(super) fn after(&self, number: u64) -> (Vec<Sample>, u64) {
        let kept = self.lock();
        let latest = *self.latest.borrow();
        let new = usize::try_from(latest.saturating_sub(number)).unwrap_or(usize::MAX);
        let old = kept.len().saturating_sub(new);
        (kept.iter().skip(old).cloned().collect(), latest)
    }

    /// Tells whenever there is another one.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(name: &Name) -> String {
    let mut text = name.to_string();
    if text.len() > 1 && text.ends_with('.') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use lb_common::dns::NAME;

    use super::*;
    use crate::dns::query::Transport;

    const WEB: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03Web\0\0\x1c\0\x01";

    fn note(samples: &Samples, netns: u64) {
        let query = Query::parse(WEB, Transport::Udp).unwrap();
        let reply = query.failure(hickory_proto::op::ResponseCode::NoError);
        samples.note(netns, &query, Some("app"), Path::Daemon, &reply);
    }

    #[test]
    fn nothing_is_kept_unless_it_is_asked_for() {
        let samples = Samples::default();

        note(&samples, 1);

        assert_eq!(samples.after(0), (Vec::new(), 0));
    }

    #[test]
    fn every_answer_is_told_once_and_the_latest_are_kept() {
        let samples = Samples::default();
        samples.set(1);
        let told = samples.watch();
        for netns in 0..KEPT as u64 + 5 {
            note(&samples, netns);
        }

        let (all, latest) = samples.after(0);
        assert!(told.has_changed().unwrap());
        assert_eq!((all.len(), latest), (KEPT, KEPT as u64 + 5));
        assert_eq!(all[0].netns, 5);
        let (new, _) = samples.after(latest - 2);
        assert_eq!(new, all[KEPT - 2..]);
        assert_eq!(samples.after(latest).0, Vec::new());
        let one = &new[0];
        let said = (one.name.as_str(), one.kind.as_str(), one.outcome);
        assert_eq!(said, ("Web", "AAAA", Outcome::Empty));
        assert_eq!(one.network.as_deref(), Some("app"));
    }

    #[test]
    fn one_in_many_is_kept() {
        let samples = Samples::default();
        samples.set(10);
        for netns in 0..2_000 {
            note(&samples, netns);
        }

        // 200 are expected; by chance it is outside of this less than once in 10^12 runs.
        let (_, kept) = samples.after(0);
        assert!((90..=320).contains(&kept), "{kept}");
    }

    #[test]
    fn what_the_kernel_tells_is_read() {
        let samples = Samples::default();
        let mut name = [0; NAME];
        name[..11].copy_from_slice(b"\x03web\x05front\0"[..11].try_into().unwrap());
        let told = InKernel {
            netns: 7,
            kind: 65,
            code: 3,
            name,
            ..InKernel::zeroed()
        };

        samples.note_kernel(&told, Some("front".to_string()), Duration::from_secs(1));

        let (all, _) = samples.after(0);
        let said = (all[0].name.as_str(), all[0].kind.as_str(), all[0].outcome);
        assert_eq!(said, ("web.front", "HTTPS", Outcome::Absent));
        assert_eq!((all[0].netns, all[0].path), (7, Path::Kernel));
    }
}
