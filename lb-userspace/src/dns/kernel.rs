//! What the kernel may answer by itself: the records and what name servers said, as `dns_lo` reads it.
//!
//! Everything that the kernel has here the daemon would answer with the same bytes. What does not fit,
//! or would need more than one look, is marked there as the daemon's own.

mod kept;
mod render;
mod services;

use std::collections::HashMap;
use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use lb_common::Resolver;
use lb_common::dns::{Answer, Counts, HOST, Question, TABLES, View};
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

use super::records::Records;
use crate::model::NetworkId;

pub(super) use kept::Kept;
pub(super) use render::{Numbers, answers, view};

/// The maps that the kernel answers from. Each call is one step for everybody who reads.
pub trait Kernel: Debug + Send + Sync {
    /// Lets the namespace be known by this socket, which queries inside are led to.
    fn claim(&self, socket: BorrowedFd<'_>, cookie: u64) -> io::Result<()>;
    fn put_view(&self, cookie: u64, view: &View) -> io::Result<()>;
    /// No error if it is not there.
    fn remove_view(&self, cookie: u64) -> io::Result<()>;
    fn put_answer(&self, question: &Question, answer: &Answer) -> io::Result<()>;
    /// No error if it is not there.
    fn remove_answer(&self, question: &Question) -> io::Result<()>;
    /// Removes everything.
    fn clear(&self) -> io::Result<()>;
    /// The answers given from a table, on all CPUs together.
    fn counts(&self, table: u32) -> io::Result<Counts>;
    /// Nanoseconds since boot, as the kernel counts.
    fn now(&self) -> io::Result<u64>;
}

/// The kernel's copy of the records.
#[derive(Debug)]
pub(super) struct Mirror {
    kernel: Arc<dyn Kernel>,
    numbers: Numbers,
    /// What is there, each answer by its hash.
    answers: HashMap<Question, u64>,
    views: HashMap<u64, View>,
    /// Whether the last attempt failed: then nobody is answered by the kernel.
    is_broken: bool,
}

impl Mirror {
    /// An empty one; what a former daemon left is gone.
    pub(super) fn new(kernel: Arc<dyn Kernel>) -> io::Result<Self> {
        kernel.clear()?;
        Ok(Self {
            kernel,
            numbers: Numbers::default(),
            answers: HashMap::new(),
            views: HashMap::new(),
            is_broken: false,
        })
    }

    /// Makes the kernel answer as `records` say, for the namespaces in which somebody listens.
    ///
    /// What a view names is there before the view is, and as long.
    pub(super) fn publish(
        &mut self,
        records: &Records,
        served: impl IntoIterator<Item = (u64, Resolver)>,
    ) {
        let result = self.write(records, served);
        if let Err(error) = &result {
            if !self.is_broken {
                warn!(%error, "the kernel answers no names, the daemon does: raise maps.dns_answers");
            }
            self.give_up();
        }
        self.is_broken = result.is_err();
    }

    fn write(
        &mut self,
        records: &Records,
        served: impl IntoIterator<Item = (u64, Resolver)>,
    ) -> io::Result<()> {
        let rendered = render::answers(records, &mut self.numbers);
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
        for (question, answer) in &rendered {
            let hash = xxh3_64(bytemuck::bytes_of(answer));
            if self.answers.get(question) != Some(&hash) {
                self.kernel.put_answer(question, answer)?;
                self.answers.insert(*question, hash);
            }
        }
        for (cookie, view) in views {
            self.put_view(cookie, view)?;
        }
        let gone = self.answers.keys().filter(|q| !rendered.contains_key(q));
        let gone: Vec<Question> = gone.copied().collect();
        for question in gone {
            self.kernel.remove_answer(&question)?;
            self.answers.remove(&question);
        }
        Ok(())
    }

    /// Lets the namespace be answered, in which somebody listens now.
    pub(super) fn admit(&mut self, records: &Records, cookie: u64, resolver: Resolver) {
        if self.is_broken {
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
    /// in the next.
    fn give_up(&mut self) {
        for (cookie, _) in self.views.drain() {
            if let Err(error) = self.kernel.remove_view(cookie) {
                warn!(cookie, %error, "the kernel goes on answering names of a container");
            }
        }
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

/// The view of an asker that may ask `tables`; `None` if there are too many for the kernel.
fn view_of(resolver: Resolver, tables: &[u32]) -> Option<View> {
    let mut view = View {
        port: resolver.udp,
        count: u16::try_from(tables.len()).ok()?,
        tables: [0; TABLES],
    };
    view.tables.get_mut(..tables.len())?.copy_from_slice(tables);
    Some(view)
}

#[cfg(test)]
mod tests;
