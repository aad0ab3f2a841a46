//! Names with the same hash: the kernel has one place for them.
//!
//! Where two of a Network meet, the place is nobody's from then on: the kernel leaves both to the daemon, as
//! it does with every name that it finds another one for. It stays nobody's when they go, since an empty
//! place would say that the name is not there, and another Network's would be answered. By chance two meet on
//! one in 4 billion hosts with 90,000 names (2^32 pairs, 2^64 places); somebody may mean it.
//!
//! What the host's name servers said is asked for last: there the later one has the place.

use std::io;

use bytemuck::Zeroable;
use lb_common::dns::{Answer, HOST, NamedAnswer, Question, WORDS};

use super::Kernel;

/// What is in a place that is nobody's.
fn nobodys() -> NamedAnswer {
    NamedAnswer {
        name: [0; WORDS],
        answer: Answer::zeroed(),
    }
}

/// Puts an answer where the kernel looks for it.
pub(super) fn put(kernel: &dyn Kernel, question: &Question, answer: Answer) -> io::Result<()> {
    let key = question.key();
    let mut named = NamedAnswer::new(question, answer);
    if question.table != HOST
        && let Some(there) = kernel.answer(&key)?
        && there.bytes() != &question.name
    {
        named = nobodys();
    }
    kernel.put_answer(&key, &named)
}

/// Takes it away, if it is there.
pub(super) fn remove(kernel: &dyn Kernel, question: &Question) -> io::Result<()> {
    let key = question.key();
    match kernel.answer(&key)? {
        Some(there) if there.bytes() == &question.name => kernel.remove_answer(&key),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use lb_common::dns::NAME;

    use super::super::tests::Fake;
    use super::*;

    fn question(table: u32, last: u8) -> Question {
        let mut question = Question {
            table,
            kind: Question::A,
            ..Question::zeroed()
        };
        question.name[..3].copy_from_slice(&[1, last, 0]);
        question
    }

    /// A kernel in which the place of `a` is taken by another name.
    fn taken(table: u32) -> std::sync::Arc<Fake> {
        let fake = Fake::new(usize::MAX);
        let other = NamedAnswer::new(&question(table, b'b'), Answer::zeroed());
        let put = fake.put_answer(&question(table, b'a').key(), &other);
        put.expect("there is room");
        fake
    }

    fn there(fake: &Fake, question: &Question) -> Option<[u8; NAME]> {
        let found = fake.answer(&question.key()).expect("readable");
        found.map(|answer| *answer.bytes())
    }

    #[test]
    fn a_place_in_which_names_met_is_nobodys_for_good() {
        let a = question(HOST + 1, b'a');
        let fake = taken(a.table);

        put(&*fake, &a, Answer::zeroed()).unwrap();
        assert_eq!(there(&fake, &a), Some([0; NAME]));
        remove(&*fake, &a).unwrap();
        assert_eq!(there(&fake, &a), Some([0; NAME]));
        put(&*fake, &a, Answer::zeroed()).unwrap();
        assert_eq!(there(&fake, &a), Some([0; NAME]));
    }

    #[test]
    fn of_what_servers_said_the_later_one_has_the_place() {
        let a = question(HOST, b'a');
        let fake = taken(a.table);

        remove(&*fake, &a).unwrap();
        assert_eq!(there(&fake, &a), Some(question(HOST, b'b').name));
        put(&*fake, &a, Answer::zeroed()).unwrap();
        assert_eq!(there(&fake, &a), Some(a.name));
        remove(&*fake, &a).unwrap();
        assert_eq!(there(&fake, &a), None);
    }
}
