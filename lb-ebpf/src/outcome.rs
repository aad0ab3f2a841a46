//! What happens to a packet, and why, in one machine word.

use lb_common::Reason;

use crate::tables::Work;

/// What the hook does with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Leave it to whatever comes next: other programs, then the bridge.
    Pass,
    /// Drop it.
    Drop,
    /// Hand it to the peer of this host-side veth.
    Deliver { ifindex: u32 },
    /// It leaves by this interface; the frame has been told how.
    Leave { ifindex: u32 },
}

/// A [`Verdict`] and its [`Reason`], packed: a BPF function returns one 64-bit register.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
#[must_use]
pub struct Outcome(u64);

impl Outcome {
    const PASS: u64 = 0;
    const DROP: u64 = 1;
    const DELIVER: u64 = 2;
    const LEAVE: u64 = 3;

    /// Nothing yet: an ICMP error that goes on in the other family.
    pub const OTHER_FAMILY: Self = Self(4);

    const fn pack(verdict: u64, reason: Reason, ifindex: u32) -> Self {
        Self(verdict | (reason as u64) << 8 | (ifindex as u64) << 32)
    }

    /// The packet leaves the fast path for `reason`, which says whether it is dropped or passed on.
    #[inline(always)]
    pub const fn left(reason: Reason) -> Self {
        Self::pack(
            if reason.is_drop() {
                Self::DROP
            } else {
                Self::PASS
            },
            reason,
            0,
        )
    }

    /// The packet goes to the peer of the host-side veth `ifindex`.
    #[inline(always)]
    pub const fn deliver(ifindex: u32, reason: Reason) -> Self {
        Self::pack(Self::DELIVER, reason, ifindex)
    }

    /// The packet leaves by the interface `ifindex`.
    #[inline(always)]
    pub const fn leave(ifindex: u32, reason: Reason) -> Self {
        Self::pack(Self::LEAVE, reason, ifindex)
    }

    /// The same, of which the verifier knows nothing any more ([`Work::blur`]): what is done with it is
    /// followed once, and no branch of it is taken for dead.
    #[inline(always)]
    pub fn blurred(self, work: &mut Work) -> Self {
        Self(work.blur(self.0))
    }

    /// What to do.
    #[inline(always)]
    pub const fn verdict(self) -> Verdict {
        match self.0 & 0xff {
            Self::DELIVER => Verdict::Deliver {
                ifindex: (self.0 >> 32) as u32,
            },
            Self::LEAVE => Verdict::Leave {
                ifindex: (self.0 >> 32) as u32,
            },
            Self::DROP => Verdict::Drop,
            _ => Verdict::Pass,
        }
    }

    #[inline(always)]
    const fn reason_index(self) -> u32 {
        (self.0 >> 8) as u32 & 0xff
    }

    /// Why.
    #[inline(always)]
    pub fn reason(self) -> Reason {
        Reason::from_index(self.reason_index())
    }
}

impl core::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} ({:?})", self.verdict(), self.reason())
    }
}

impl From<Result<Self, Reason>> for Outcome {
    #[inline(always)]
    fn from(result: Result<Self, Reason>) -> Self {
        match result {
            Ok(outcome) => outcome,
            Err(reason) => Self::left(reason),
        }
    }
}
