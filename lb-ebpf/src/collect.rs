//! Forgetting a Connection on userspace's behalf.
//!
//! Userspace reads entries, and what it read may be stale when it deletes. So it sends the timestamps
//! that it saw through BPF_PROG_TEST_RUN, and the kernel deletes both halves only if they still hold.

use bytemuck::{Pod, Zeroable};
use lb_common::FlowKey;

use crate::frame::Frame;
use crate::tables::{Store, Tables, Work};
use crate::track;

/// What the `collect` program reads from the start of its input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct CollectRequest {
    pub flow: FlowKey,
    /// `last_seen` of the entry under `flow`.
    pub last_seen: u64,
    /// `last_seen` of the other half, 0 if there was none.
    pub other_last_seen: u64,
    /// A set of the constants below.
    pub flags: u64,
}

impl CollectRequest {
    /// The entry is in `half_open`, not in `connections`.
    pub const HALF_OPEN: u64 = 1;
    /// Delete whatever the timestamps: the Connection's target is gone.
    pub const UNCONDITIONAL: u64 = 2;
    /// What `collect` returns when it deleted.
    pub const DELETED: u32 = 1;
    /// What `collect` returns when it did not.
    pub const KEPT: u32 = 0;
}

const _: () = assert!(size_of::<CollectRequest>() == 64);

/// Deletes both halves of the Connection that the request names, if nothing has passed since.
#[inline(always)]
pub fn collect(frame: &impl Frame, tables: &impl Tables, work: &mut Work) -> u32 {
    let Some(request) = frame.load::<CollectRequest>(0) else {
        return CollectRequest::KEPT;
    };
    let is_half_open = request.flags & CollectRequest::HALF_OPEN != 0;
    let store = if is_half_open {
        Store::HalfOpen
    } else {
        Store::Connections
    };
    work.packet.flow = request.flow;
    if !tables.find(store, &work.packet.flow, &mut work.this) {
        return CollectRequest::KEPT;
    }
    work.reverse = work.this.other_half(&work.packet.flow);
    let has_other = tables.find(store, &work.reverse, &mut work.other);
    let other_last_seen = if has_other { work.other.last_seen } else { 0 };
    let is_unchanged =
        work.this.last_seen == request.last_seen && other_last_seen == request.other_last_seen;
    if !is_unchanged && request.flags & CollectRequest::UNCONDITIONAL == 0 {
        return CollectRequest::KEPT;
    }
    let Work {
        packet,
        this,
        event,
        ..
    } = &mut *work;
    track::close(tables, &packet.flow, this, event, frame.now());
    CollectRequest::DELETED
}
