//! The kernel's copy of what the host's name servers said.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lb_common::dns::{HOST, NAME, Question};
use tracing::debug;

use super::Kernel;
use super::collisions::{put, remove};
use super::render::question;
use crate::dns::message::Body;
use crate::dns::query::Query;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// What is there, and of which edition of the list of servers.
#[derive(Debug)]
pub(in crate::dns) struct Kept {
    kernel: Arc<dyn Kernel>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    edition: u64,
    questions: HashSet<Question>,
}

impl Kept {
    pub(in crate::dns) fn new(kernel: Arc<dyn Kernel>) -> Self {
        Self {
            kernel,
            known: Mutex::default(),
        }
    }

    /// Gives the kernel an answer that has just come from the servers of this edition, if it fits.
    /// It is asked for again, from the daemon, in the last `1 / share` of its time.
    pub(in crate::dns) fn put(&self, edition: u64, query: &Query, body: &Body, share: u32) {
        // Names of services are made of those of containers, which the kernel knows only by themselves.
        let Some(question) = question_of(query.question()).filter(|q| q.kind != Question::SRV)
        else {
            return;
        };
        let mut known = self.edition(edition);
        let written = match body.in_kernel() {
            Some(mut answer) => self.kernel.now().and_then(|now| {
                let life = u64::from(body.ttl()) * SECOND;
                answer.expires = now + life;
                answer.until = now + life - life / u64::from(share.max(1));
                put(&*self.kernel, &question, answer)
            }),
            // An older answer may be there that did fit.
            None => Err(io::ErrorKind::FileTooLarge.into()),
        };
        if written.is_ok() {
            known.questions.insert(question);
        } else if known.questions.remove(&question) {
            self.remove(&question);
        }
    }

    /// Takes an answer away.
    pub(in crate::dns) fn forget(&self, bytes: &[u8]) {
        if let Some(question) = question_of(bytes)
            && self.lock().questions.remove(&question)
        {
            self.remove(&question);
        }
    }

    /// Takes everything away that servers of another edition said.
    pub(in crate::dns) fn keep_only(&self, edition: u64) {
        drop(self.edition(edition));
    }

    fn edition(&self, edition: u64) -> MutexGuard<'_, Known> {
        let mut known = self.lock();
        if known.edition != edition {
            known.edition = edition;
            for question in std::mem::take(&mut known.questions) {
                self.remove(&question);
            }
        }
        known
    }

    fn remove(&self, question: &Question) {
        // It runs out by itself.
        if let Err(error) = remove(&*self.kernel, question) {
            debug!(%error, "an answer stays in the kernel");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a question section asks for of the host's name servers; `None` if its name is too long for the kernel.
fn question_of(bytes: &[u8]) -> Option<Question> {
    let (name, rest) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let mut key = [0; NAME];
    key.get_mut(..name.len())?
        .copy_from_slice(&name.to_ascii_lowercase());
    let kind = u16::from_be_bytes([rest[0], rest[1]]);
    Some(question(HOST, kind, &key))
}
