//! Carrying a Plan out, whatever fails.

use std::fmt::Display;
use std::time::Instant;

use super::failures::Failures;
use super::round::{self, Blocked};
use crate::datapath::{Datapath, DatapathError};
use crate::reconcile::{Desired, State, Step};

/// Where Steps are carried out.
pub(super) trait Writes {
    type Error: Display;

    /// Carries out one Step. Carrying it out again changes nothing.
    fn write(&mut self, step: &Step) -> Result<(), Self::Error>;
}

impl Writes for Datapath {
    type Error = DatapathError;

    fn write(&mut self, step: &Step) -> Result<(), DatapathError> {
        self.apply(step)
    }
}

/// How a Plan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Ended {
    /// Everything was carried out but what is noted among the failures.
    Done,
    /// An attachment cannot be put in: make another Plan without it.
    PlanAgain,
}

/// Carries out `steps` and keeps `actual` true. What fails is noted in `failures`.
pub(super) fn carry_out(
    steps: &[Step],
    writes: &mut impl Writes,
    actual: &mut State,
    desired: &Desired,
    failures: &mut Failures,
    now: Instant,
) -> Ended {
    let mut blocked = Blocked::default();
    for step in steps {
        if blocked.has(step) {
            blocked.add(step, actual);
            continue;
        }
        let Err(error) = writes.write(step) else {
            actual.apply(step);
            continue;
        };
        let subject = round::subject(step, actual, desired);
        blocked.add(step, actual);
        if failures.note(subject.clone(), error.to_string(), now) {
            tracing::warn!(%subject, %error, "a step failed and is tried again");
        }
        if round::needs_another_plan(step) {
            return Ended::PlanAgain;
        }
    }
    Ended::Done
}

#[cfg(test)]
mod tests;
