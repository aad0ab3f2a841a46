//! Forgetting Connections, a slice at a time.
//!
//! # Why
//! Going through a full table at once would hold a CPU for long. And what is decided here may have
//! changed by the time it is carried out, so userspace never deletes: it asks a kernel program, which
//! deletes both halves only if both are still as they were seen.

use std::os::fd::BorrowedFd;

use lb_common::{Connection, FlowKey};
use lb_ebpf::CollectRequest;

use super::bpf::{self, Cursor};
use super::clock;
use super::error::DatapathError;
use super::expiry::{Expiry, expiry};
use super::maps::{Maps, Table};
use super::programs::COLLECT;

/// What one slice has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Entries looked at; two make a Connection.
    pub examined: usize,
    /// Connections forgotten because nothing passed any more.
    pub idle: usize,
    /// Connections forgotten because an Endpoint is gone.
    pub orphaned: usize,
    /// Connections that were used while it was decided, and stay.
    pub revived: usize,
    /// Whether the slice came to the end of both tables; the next one begins again.
    pub finished: bool,
}

/// How far the collection has come, between slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Connections(Cursor),
    HalfOpen(Cursor),
}

impl Default for Place {
    fn default() -> Self {
        Self::Connections(Cursor::default())
    }
}

/// Looks at about `budget` entries from `place` on, which goes on by as many.
pub(super) fn collect(
    maps: &Maps,
    program: BorrowedFd<'_>,
    place: &mut Place,
    budget: usize,
) -> Result<Collected, DatapathError> {
    let now = clock::now().map_err(|source| DatapathError::Program {
        attempt: "read the clock for",
        program: COLLECT,
        source,
    })?;
    let mut slice = Slice {
        maps,
        program,
        now,
        collected: Collected::default(),
    };
    while slice.collected.examined < budget && !slice.collected.finished {
        let left = budget - slice.collected.examined;
        *place = slice.go_on(*place, left)?;
    }
    Ok(slice.collected)
}

struct Slice<'a> {
    maps: &'a Maps,
    program: BorrowedFd<'a>,
    /// Nanoseconds since boot.
    now: u64,
    collected: Collected,
}

impl Slice<'_> {
    /// Looks at about `budget` entries of one table, and gives the place to go on from.
    fn go_on(&mut self, place: Place, budget: usize) -> Result<Place, DatapathError> {
        let next = match place {
            Place::Connections(from) => {
                let next = self.examine(&self.maps.connections, 0, from, budget)?;
                next.map_or(Place::HalfOpen(Cursor::default()), Place::Connections)
            }
            Place::HalfOpen(from) => {
                let next = self.examine(
                    &self.maps.half_open,
                    CollectRequest::HALF_OPEN,
                    from,
                    budget,
                )?;
                self.collected.finished = next.is_none();
                next.map_or(Place::default(), Place::HalfOpen)
            }
        };
        Ok(next)
    }

    fn examine(
        &mut self,
        table: &Table<FlowKey, Connection>,
        flags: u64,
        from: Cursor,
        budget: usize,
    ) -> Result<Option<Cursor>, DatapathError> {
        let mut entries = Vec::new();
        let next = table.slice(from, budget, &mut entries)?;
        self.collected.examined += entries.len();
        for (key, half) in entries {
            if self.decide(&half, None).is_some() {
                self.forget(table, flags, &key, &half)?;
            }
        }
        Ok(next)
    }

    fn decide(&self, half: &Connection, other: Option<&Connection>) -> Option<Expiry> {
        let generation = |id| self.maps.endpoints.get(id).map(|e| e.generation);
        expiry(half, other, self.now, generation)
    }

    fn forget(
        &mut self,
        table: &Table<FlowKey, Connection>,
        flags: u64,
        key: &FlowKey,
        half: &Connection,
    ) -> Result<(), DatapathError> {
        let other = table.get(&half.other_half(key))?;
        let Some(expiry) = self.decide(half, other.as_ref()) else {
            return Ok(());
        };
        let flags = match expiry {
            Expiry::Idle => flags,
            Expiry::Orphaned => flags | CollectRequest::UNCONDITIONAL,
        };
        let request = CollectRequest {
            flow: *key,
            last_seen: half.last_seen,
            other_last_seen: other.map_or(0, |other| other.last_seen),
            flags,
        };
        if self.delete(&request)? {
            match expiry {
                Expiry::Idle => self.collected.idle += 1,
                Expiry::Orphaned => self.collected.orphaned += 1,
            }
        } else if table.get(key)?.is_some() {
            // Otherwise it went with its other half, which came before.
            self.collected.revived += 1;
        }
        Ok(())
    }

    fn delete(&self, request: &CollectRequest) -> Result<bool, DatapathError> {
        let returned = bpf::test_run(self.program, bytemuck::bytes_of(request));
        let returned = returned.map_err(|source| DatapathError::Program {
            attempt: "run",
            program: COLLECT,
            source,
        })?;
        Ok(returned == CollectRequest::DELETED)
    }
}
