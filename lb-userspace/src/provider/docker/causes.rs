//! When what the next observation tells of began.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::view::Subject;

/// The causes of what has not been told yet.
///
/// One piece of news is told twice if that is how it comes: a container's new interface at once, and
/// its aliases when the Engine has answered. Both began with the same event, and the second must not
/// pass for quicker than it was.
#[derive(Debug, Default)]
pub(super) struct Causes {
    /// The oldest cause that no observation covers.
    untold: Option<SystemTime>,
    /// The oldest cause for which each subject is being read.
    reading: BTreeMap<Subject, SystemTime>,
}

impl Causes {
    /// Something happened that the next observation tells.
    pub(super) fn add(&mut self, at: SystemTime) {
        self.untold = Some(self.untold.map_or(at, |known| known.min(at)));
    }

    /// `subject` is being read because of what happened then.
    pub(super) fn read_for(&mut self, subject: Subject, at: SystemTime) {
        let known = self.reading.entry(subject).or_insert(at);
        *known = at.min(*known);
    }

    /// `subject` was read: what that says is the next observation's.
    pub(super) fn was_read(&mut self, subject: &Subject) {
        if let Some(at) = self.reading.remove(subject) {
            self.add(at);
        }
    }

    /// The oldest cause of what is told now.
    pub(super) fn untold(&self) -> Option<SystemTime> {
        self.untold
    }

    /// An observation has told everything up to now.
    pub(super) fn told(&mut self) {
        self.untold = None;
    }

    /// Nothing is under way any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::ContainerId;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn container(id: &str) -> Subject {
        Subject::Container(ContainerId(id.to_string()))
    }

    #[test]
    fn what_is_told_began_with_the_oldest_cause() {
        let mut causes = Causes::default();

        causes.add(at(2));
        causes.add(at(1));
        causes.add(at(3));

        assert_eq!(causes.untold(), Some(at(1)));
    }

    #[test]
    fn what_the_engine_says_later_began_with_the_same_event() {
        let mut causes = Causes::default();
        causes.add(at(1));
        causes.read_for(container("a"), at(1));

        causes.told();
        causes.add(at(5));
        let other = causes.untold();
        causes.was_read(&container("a"));

        assert_eq!(other, Some(at(5)), "nobody else waited for the Engine");
        assert_eq!(causes.untold(), Some(at(1)));
    }

    #[test]
    fn a_reading_without_a_cause_makes_none() {
        let mut causes = Causes::default();

        causes.was_read(&container("a"));

        assert_eq!(causes.untold(), None);
    }
}
