//! Which Connections are forgotten: a decision over one entry, its other half and the Endpoints.

use lb_common::{Connection, EndpointId};

/// Why a Connection is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// Nothing has passed in either direction for as long as each direction waits.
    Idle,
    /// An Endpoint that it was opened with is gone.
    Orphaned,
}

/// Whether a Connection is to be forgotten, and why. `half` is one of its entries and `other` the
/// other one, which the table of half-open Connections may have lost. `generation` gives the present
/// generation of an Endpoint; `now` is nanoseconds since boot.
pub(super) fn expiry(
    half: &Connection,
    other: Option<&Connection>,
    now: u64,
    generation: impl Fn(EndpointId) -> Option<u32>,
) -> Option<Expiry> {
    let gone = |half: &Connection| generation(half.target) != Some(half.generation);
    if gone(half) || other.is_some_and(gone) {
        return Some(Expiry::Orphaned);
    }
    let idle = half.is_idle(now) && other.is_none_or(|other| other.is_idle(now));
    idle.then_some(Expiry::Idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const NOW: u64 = 100_000 * SECOND;

    /// A half towards Endpoint `target` that was last used `idle` seconds ago.
    fn half(target: EndpointId, timeout: u32, idle: u64) -> Connection {
        Connection {
            target,
            generation: 1,
            timeout,
            last_seen: NOW - idle * SECOND,
            ..Connection::default()
        }
    }

    fn decide(half: &Connection, other: Option<&Connection>) -> Option<Expiry> {
        // Endpoint 9 has gone and come back as another one; 10 was never there.
        expiry(half, other, NOW, |id| match id {
            9 => Some(2),
            10 => None,
            _ => Some(1),
        })
    }

    #[test]
    fn a_connection_expires_when_both_directions_are_idle() {
        // (what, timeout and idle seconds of one direction, of the other, forgotten)
        let cases = [
            ("new TCP, just sent", (20, 0), Some((20, 0)), false),
            ("new TCP, at its timeout", (20, 20), Some((20, 20)), false),
            ("new TCP, unanswered", (20, 21), Some((20, 21)), true),
            (
                "established, quiet for an hour",
                (8_000, 3_600),
                Some((8_000, 3_600)),
                false,
            ),
            (
                "established, only sending",
                (8_000, 9_000),
                Some((8_000, 1)),
                false,
            ),
            (
                "established, only receiving",
                (8_000, 1),
                Some((8_000, 9_000)),
                false,
            ),
            (
                "established, forgotten by both",
                (8_000, 8_001),
                Some((8_000, 8_002)),
                true,
            ),
            ("finished by both", (30, 31), Some((30, 31)), true),
            (
                "finished, last ACK on its way",
                (30, 31),
                Some((30, 29)),
                false,
            ),
            (
                "reset, seen by one direction",
                (10, 11),
                Some((8_000, 11)),
                false,
            ),
            (
                "reset, then data again",
                (8_000, 2),
                Some((8_000, 11)),
                false,
            ),
            ("UDP without a reply", (30, 31), Some((30, 31)), true),
            ("UDP with replies", (120, 100), Some((120, 121)), false),
            ("ping", (10, 11), Some((10, 11)), true),
            ("half lost, idle", (20, 21), None, true),
            ("half lost, in use", (20, 19), None, false),
            ("from the future", (20, 0), Some((20, 21)), false),
        ];

        for (what, (timeout, idle), other, forgotten) in cases {
            let one = half(1, timeout, idle);
            let other = other.map(|(timeout, idle)| half(2, timeout, idle));

            let expected = forgotten.then_some(Expiry::Idle);
            assert_eq!(decide(&one, other.as_ref()), expected, "{what}");
        }
    }

    #[test]
    fn a_connection_in_use_expires_when_either_endpoint_is_gone() {
        let (here, gone, unknown) = (half(1, 8_000, 0), half(9, 8_000, 0), half(10, 8_000, 0));

        assert_eq!(decide(&here, Some(&here)), None);
        for orphan in [gone, unknown] {
            assert_eq!(decide(&orphan, Some(&here)), Some(Expiry::Orphaned));
            assert_eq!(decide(&here, Some(&orphan)), Some(Expiry::Orphaned));
            assert_eq!(decide(&orphan, None), Some(Expiry::Orphaned));
        }
    }

    #[test]
    fn time_that_has_not_come_is_not_idle() {
        let ahead = Connection {
            last_seen: NOW + SECOND,
            ..half(1, 10, 0)
        };

        assert_eq!(decide(&ahead, None), None);
    }
}
