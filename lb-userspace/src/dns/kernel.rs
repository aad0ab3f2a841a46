//! What the kernel may answer by itself: the records and what name servers said, as `dns_lo` reads it.
//!
//! Everything that the kernel has here the daemon would answer with the same bytes. What does not fit,
//! or would need more than one look, is marked there as the daemon's own.

mod changes;
mod collisions;
mod kept;
mod render;
mod services;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::Resolver;
use lb_common::dns::{Answer, AnswerKey, Counts, HOST, NamedAnswer, Question, TABLES, View};
use tracing::warn;

use changes::Changes;
use collisions::{put, remove};
use render::Index;

use super::records::Records;
use crate::model::NetworkId;

pub(super) use kept::Kept;
pub(super) use render::{Numbers, view};

/// The maps that the kernel answers from. Each call is one step for everybody who reads.
pub trait Kernel: Debug + Send + Sync {
    /// Lets the namespace be known by this socket, which queries inside are led to.
    fn claim(&self, socket: BorrowedFd<'_>, cookie: u64) -> io::Result<()>;
    fn put_view(&self, cookie: u64, view: &View) -> io::Result<()>;
    /// No error if it is not there.
    fn remove_view(&self, cookie: u64) -> io::Result<()>;
    fn answer(&self, key: &AnswerKey) -> io::Result<Option<NamedAnswer>>;
    fn put_answer(&self, key: &AnswerKey, answer: &NamedAnswer) -> io::Result<()>;
    /// No error if it is not there.
    fn remove_answer(&self, key: &AnswerKey) -> io::Result<()>;
    /// Removes everything.
    fn clear(&self) -> io::Result<()>;
    /// The answers given from a table, on all CPUs together.
    fn counts(&self, table: u32) -> io::Result<Counts>;
    /// Nanoseconds since boot, as the kernel counts.
    fn now(&self) -> io::Result<u64>;
}

/// How long nothing is tried after the kernel did not take everything: it has as little room as before, and
/// what does fit would be written again and again.
const PAUSE: Duration = Duration::from_secs(60);

/// The kernel's copy of the records.
#[derive(Debug)]
pub(super) struct Mirror {
    kernel: Arc<dyn Kernel>,
    numbers: Numbers,
    /// What is there.
    records: Arc<Records>,
    views: HashMap<u64, View>,
    /// When the last attempt failed: since then nobody is answered by the kernel.
    broken_at: Option<Instant>,
}

impl Mirror {
    /// An empty one; what a former daemon left is gone.
    pub(super) fn new(kernel: Arc<dyn Kernel>) -> io::Result<Self> {
        kernel.clear()?;
        Ok(Self {
            kernel,
            numbers: Numbers::default(),
            records: Arc::default(),
            views: HashMap::new(),
            broken_at: None,
        })
    }

    /// Makes the kernel answer as `records` say, for the namespaces in which somebody listens. If it has no
    /// room for that, nobody is answered by the kernel, and it is tried again with records that come a
    /// minute later.
    ///
    /// What a view names is there before the view is, and as long.
    pub(super) fn publish(
        &mut self,
        records: &Arc<Records>,
        served: impl IntoIterator<Item = (u64, Resolver)>,
        now: Instant,
    ) {
        let is_paused = |at: Instant| now.saturating_duration_since(at) < PAUSE;
        if self.broken_at.is_some_and(is_paused) {
            return;
        }
        let result = self.write(records, served);
        if let Err(error) = &result {
            if self.broken_at.is_none() {
                warn!(%error, "the kernel answers no names, the daemon does: raise maps.dns_answers");
            }
            self.give_up(records);
        }
        self.broken_at = result.is_err().then_some(now);
    }

    fn write(
        &mut self,
        records: &Arc<Records>,
        served: impl IntoIterator<Item = (u64, Resolver)>,
    ) -> io::Result<()> {
        self.numbers.give(records.tables());
        let served = served.into_iter();
        let views = served.filter_map(|(cookie, resolver)| {
            let view = render::view(records, &self.numbers, cookie, resolver)?;
            Some((cookie, view))
        });
        let views: HashMap<u64, View> = views.collect();

        let (kernel, had) = (&self.kernel, &mut self.views);
        let mut result = Ok(());
        had.retain(|cookie, _| {
            let stays = views.contains_key(cookie);
            if !stays && let Err(error) = kernel.remove_view(*cookie) {
                result = Err(error);
            }
            stays
        });
        result?;
        let gone = self.write_answers(records)?;
        for (cookie, view) in views {
            self.put_view(cookie, view)?;
        }
        for question in gone {
            remove(&*self.kernel, &question)?;
        }
        self.numbers.retain(records.tables());
        self.records = Arc::clone(records);
        Ok(())
    }

    /// Writes what `records` say differently, and returns what they no longer say.
    fn write_answers(&self, records: &Records) -> io::Result<Vec<Question>> {
        let changes = Changes::between(&self.records, records);
        let mut gone = Vec::new();
        if changes.is_empty() {
            return Ok(gone);
        }
        let (old, new) = (Index::new(&self.records), Index::new(records));
        for text in &changes.texts {
            let before = old.answers(text, &self.numbers);
            let after = new.answers(text, &self.numbers);
            for (question, answer) in &after {
                if before.get(question) != Some(answer) {
                    put(&*self.kernel, question, *answer)?;
                }
            }
            gone.extend(before.into_keys().filter(|q| !after.contains_key(q)));
        }
        for &(network, address) in &changes.addresses {
            let before = old.owner(network, address, &self.numbers);
            match new.owner(network, address, &self.numbers) {
                Some((question, answer)) => put(&*self.kernel, &question, answer)?,
                None => gone.extend(before.map(|(question, _)| question)),
            }
        }
        Ok(gone)
    }

    /// Lets the namespace be answered, in which somebody listens now.
    pub(super) fn admit(&mut self, records: &Records, cookie: u64, resolver: Resolver) {
        if self.broken_at.is_some() {
            return;
        }
        if let Some(view) = render::view(records, &self.numbers, cookie, resolver)
            && let Err(error) = self.put_view(cookie, view)
        {
            warn!(cookie, %error, "the kernel answers no names of a container");
        }
    }

    fn put_view(&mut self, cookie: u64, view: View) -> io::Result<()> {
        if self.views.get(&cookie) != Some(&view) {
            self.kernel.put_view(cookie, &view)?;
            self.views.insert(cookie, view);
        }
        Ok(())
    }

    /// Leaves the namespace to the daemon, and to whoever comes after it.
    pub(super) fn dismiss(&mut self, cookie: u64) {
        if self.views.remove(&cookie).is_some()
            && let Err(error) = self.kernel.remove_view(cookie)
        {
            warn!(cookie, %error, "the kernel goes on answering names of a container");
        }
    }

    /// Half of the records would be worse than none: a name that is missing in one table is looked for
    /// in the next. Answers that nobody reads take room from those that may come.
    fn give_up(&mut self, attempted: &Records) {
        for (cookie, _) in self.views.drain() {
            if let Err(error) = self.kernel.remove_view(cookie) {
                warn!(cookie, %error, "the kernel goes on answering names of a container");
            }
        }
        for records in [&*self.records, attempted] {
            let (index, all) = (Index::new(records), Changes::all(records));
            let mut answers = index.about(&all, &self.numbers);
            let removed = answers.try_for_each(|(question, _)| remove(&*self.kernel, &question));
            if let Err(error) = removed {
                warn!(%error, "the kernel keeps answers that nobody gets");
            }
        }
        self.records = Arc::default();
        self.numbers.retain(&[]);
    }

    /// The Network of a table.
    pub(super) fn network(&self, table: u32) -> Option<&NetworkId> {
        let mut numbers = self.numbers.iter();
        let found = numbers.find(|(_, number)| *number == table);
        found.map(|(id, _)| id)
    }

    /// How long ago it was this many nanoseconds since boot.
    pub(super) fn age(&self, at: u64) -> Duration {
        let now = self.kernel.now().unwrap_or(at);
        Duration::from_nanos(now.saturating_sub(at))
    }

    /// What the kernel has answered of each Network's names, and of what the host's servers said.
    pub(super) fn counts(&self) -> Vec<(Option<NetworkId>, Counts)> {
        let host = self.kernel.counts(HOST).map(|counts| (None, counts));
        let networks = self.numbers.iter().map(|(id, number)| {
            let counts = self.kernel.counts(number)?;
            Ok((Some(id.clone()), counts))
        });
        // What cannot be read is not counted.
        std::iter::once(host).chain(networks).flatten().collect()
    }
}

/// Every answer that follows from `records`.
pub(super) fn answers(records: &Records, numbers: &mut Numbers) -> BTreeMap<Question, Answer> {
    numbers.give(records.tables());
    let index = Index::new(records);
    index.about(&Changes::all(records), numbers).collect()
}

/// The view of an asker that may ask `tables`; `None` if there are too many for the kernel.
fn view_of(resolver: Resolver, tables: &[u32]) -> Option<View> {
    let mut view = View {
        port: resolver.udp,
        count: u8::try_from(tables.len()).ok()?,
        stands_in: u8::from(resolver.servers[0] != 0),
        tables: [0; TABLES],
    };
    view.tables.get_mut(..tables.len())?.copy_from_slice(tables);
    Some(view)
}

#[cfg(test)]
mod tests;
