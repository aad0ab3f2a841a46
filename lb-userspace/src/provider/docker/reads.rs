//! What is being read from the Engine: one request for a subject at a time, and not too many.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::view::Subject;

/// Requests of a resync under way at once. More only make them wait for each other in the Engine.
const LIMIT: usize = 16;

/// What is being read, and what waits for it.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Under way; `true`: what it will say may be out of date already.
    under_way: BTreeMap<Subject, bool>,
    waiting: VecDeque<Subject>,
    queued: BTreeSet<Subject>,
}

impl Reads {
    /// Something happened to `subject`. Returns whether a request is to be made now; if not, one is
    /// under way and will be made again.
    #[must_use]
    pub(super) fn now(&mut self, subject: &Subject) -> bool {
        if let Some(again) = self.under_way.get_mut(subject) {
            *again = true;
            return false;
        }
        self.under_way.insert(subject.clone(), false);
        true
    }

    /// Queues `subject` for a request in its turn.
    pub(super) fn later(&mut self, subject: Subject) {
        if !self.under_way.contains_key(&subject) && self.queued.insert(subject.clone()) {
            self.waiting.push_back(subject);
        }
    }

    /// The next request to be made of those that wait; `None`: none, or enough are under way.
    pub(super) fn next(&mut self) -> Option<Subject> {
        while self.under_way.len() < LIMIT {
            let subject = self.waiting.pop_front()?;
            self.queued.remove(&subject);
            if self.now(&subject) {
                return Some(subject);
            }
        }
        None
    }

    /// A request ended. Returns whether its answer is out of date and it is to be made again.
    #[must_use]
    pub(super) fn done(&mut self, subject: &Subject) -> bool {
        match self.under_way.get_mut(subject) {
            Some(again) if *again => {
                *again = false;
                true
            }
            Some(_) => {
                self.under_way.remove(subject);
                false
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ContainerId;

    fn subject(number: usize) -> Subject {
        Subject::Container(ContainerId(number.to_string()))
    }

    #[test]
    fn news_during_a_request_make_it_again_once() {
        let mut reads = Reads::default();
        assert!(reads.now(&subject(1)));

        assert!(!reads.now(&subject(1)));
        assert!(!reads.now(&subject(1)));

        assert!(reads.done(&subject(1)), "made again");
        assert!(!reads.done(&subject(1)), "and then done");
        assert!(reads.now(&subject(1)), "new news, a new request");
    }

    #[test]
    fn a_resync_asks_for_everything_once_and_a_few_at_a_time() {
        let mut reads = Reads::default();
        for number in 0..100 {
            reads.later(subject(number));
            reads.later(subject(number));
        }

        let mut asked = Vec::new();
        let mut at_once = 0;
        let mut under_way: VecDeque<Subject> = VecDeque::new();
        loop {
            while let Some(subject) = reads.next() {
                under_way.push_back(subject);
            }
            at_once = at_once.max(under_way.len());
            let Some(subject) = under_way.pop_front() else {
                break;
            };
            assert!(!reads.done(&subject));
            asked.push(subject);
        }

        asked.sort();
        asked.dedup();
        assert_eq!((asked.len(), at_once), (100, LIMIT));
    }
}
