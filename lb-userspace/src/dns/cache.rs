//! Answers of others that are kept, absence included (RFC 2308), and given beyond their time when
//! nobody answers (RFC 8767).

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::rr::{DNSClass, RecordType};
use lru::LruCache;
use tokio::time::Instant;

use super::kernel::Kept as InKernel;
use super::message::Body;
use super::query::Query;

/// Seconds that clients may keep an answer that has run out, RFC 8767 §4.
const STALE_TTL: u32 = 30;

/// How long servers that did not answer a question are not asked it again, RFC 8767 §5.
const RETRY: Duration = Duration::from_secs(30);

/// An answer is asked for again when this part of its time is left, if it is asked for at all.
const PREFETCH: u32 = 10;

/// Longest reply that is kept, in bytes.
const LONGEST: usize = 4_096;

/// Who gave an answer: what one asker hears may differ from what another does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// The host's name servers, in this version of the list.
    Host(u64),
    /// The own ones of the container in the namespace with this cookie.
    Own(u64),
}

/// One question to one source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    source: Source,
    flags: u8,
    /// In lower case.
    question: Box<[u8]>,
}

/// What is known of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Nothing,
    /// This is the reply. Somebody should ask again if it is about to run out.
    Fresh {
        reply: Vec<u8>,
        runs_out: bool,
    },
    /// This is the reply if nobody gives another one. There is no use in asking if somebody has just
    /// tried.
    Stale {
        reply: Vec<u8>,
        just_tried: bool,
    },
}

#[derive(Debug)]
struct Entry {
    body: Body,
    expires: Instant,
    /// When it is asked for again, whoever asks.
    next_try: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Cache {
    entries: Option<Mutex<LruCache<Key, Entry>>>,
    stale: Duration,
    kernel: Option<InKernel>,
}

impl Key {
    /// `None` for questions whose answers are not kept.
    pub(super) fn of(query: &Query, source: Source) -> Option<Self> {
        const RD: u8 = 0x01;
        const CD: u8 = 0x10;
        const AD: u8 = 0x20;
        let header = query.header();
        // From 128 on: zone transfers, ANY, transaction keys.
        let kind = u16::from(query.kind());
        let is_kept = kind < 128 && query.kind() != RecordType::OPT;
        let wants_all = header[2] & RD != 0 && header[3] & CD == 0;
        if !is_kept || !wants_all || query.class() != DNSClass::IN {
            return None;
        }
        let signatures = u8::from(query.wants_signatures() == Some(true));
        Some(Self {
            source,
            flags: (header[3] & AD) | signatures,
            question: query.question().to_ascii_lowercase().into(),
        })
    }
}

impl Cache {
    /// Room for `size` answers; those of the host's servers are given to `kernel` as well.
    pub(super) fn new(size: usize, stale: Duration, kernel: Option<InKernel>) -> Self {
        let size = NonZeroUsize::new(size);
        Self {
            entries: size.map(|size| Mutex::new(LruCache::new(size))),
            stale,
            kernel,
        }
    }

    /// What is known of `key`, as a reply to `query`.
    pub(super) fn get(&self, key: &Key, query: &Query, now: Instant) -> Kept {
        let Some(mut entries) = self.lock() else {
            return Kept::Nothing;
        };
        let Some(entry) = entries.get_mut(key) else {
            return Kept::Nothing;
        };
        let left = entry.expires.saturating_duration_since(now).as_secs();
        // Less than a second is left as nothing: no client is told that it may keep it for 0 s.
        if let Some(left) = u32::try_from(left).ok().filter(|left| *left > 0) {
            let runs_out = left * PREFETCH <= entry.body.ttl() && entry.is_due(now);
            return Kept::Fresh {
                reply: entry.body.reply(query, left),
                runs_out,
            };
        }
        if now.saturating_duration_since(entry.expires) >= self.stale {
            entries.pop(key);
            self.forget(key);
            return Kept::Nothing;
        }
        Kept::Stale {
            reply: entry.body.reply(query, STALE_TTL),
            just_tried: !entry.is_due(now),
        }
    }

    /// Keeps `message`, a reply to `query`, if it may be kept.
    pub(super) fn put(&self, key: Key, query: &Query, message: &[u8], now: Instant) {
        let Some(mut entries) = self.lock() else {
            return;
        };
        if message.len() > LONGEST {
            return;
        }
        let Some(body) = Body::of(message, query.question_end()) else {
            return;
        };
        let expires = now + Duration::from_secs(body.ttl().into());
        if let (Some(kernel), Source::Host(edition), 0) = (&self.kernel, &key.source, key.flags) {
            kernel.put(*edition, query, &body, PREFETCH);
        }
        let entry = Entry {
            body,
            expires,
            next_try: None,
        };
        if let Some((other, _)) = entries.push(key.clone(), entry)
            && other != key
        {
            self.forget(&other);
        }
    }

    /// Takes away what the kernel has of servers that are no longer the host's.
    pub(super) fn keep_only(&self, edition: u64) {
        if let Some(kernel) = &self.kernel {
            kernel.keep_only(edition);
        }
    }

    fn forget(&self, key: &Key) {
        if let (Some(kernel), Source::Host(_), 0) = (&self.kernel, &key.source, key.flags) {
            kernel.forget(&key.question);
        }
    }

    /// Notes that somebody asks for `key` again, or has just tried in vain.
    pub(super) fn tried(&self, key: &Key, now: Instant) {
        if let Some(mut entries) = self.lock()
            && let Some(entry) = entries.get_mut(key)
        {
            entry.next_try = Some(now + RETRY);
        }
    }

    /// How many answers are kept.
    pub(super) fn len(&self) -> usize {
        self.lock().map_or(0, |entries| entries.len())
    }

    fn lock(&self) -> Option<MutexGuard<'_, LruCache<Key, Entry>>> {
        let entries = self.entries.as_ref()?;
        Some(entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Entry {
    fn is_due(&self, now: Instant) -> bool {
        self.next_try.is_none_or(|next| next <= now)
    }
}

#[cfg(test)]
mod tests;
