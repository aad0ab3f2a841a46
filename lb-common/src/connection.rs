//! The value of the `connections` and `half_open` maps.

use bytemuck::{Pod, Zeroable};

use crate::{Addr, EndpointId, FlowKey, Port, Zone, map_types};

/// Where packets of one direction of a Connection go, and as what.
///
/// Two entries make a Connection, one for each direction. Each is enough by itself to rewrite and
/// deliver a packet; the Endpoint's line in `endpoints` says whether it still is the one meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Connection {
    /// Source address that the packet leaves with.
    pub source: Addr,
    /// Destination address that the packet leaves with.
    pub destination: Addr,
    /// Source port that the packet leaves with; for an ICMP echo request its identifier.
    pub source_port: Port,
    /// Destination port that the packet leaves with; for an ICMP echo reply its identifier.
    pub destination_port: Port,
    /// Endpoint that the packet is delivered to; 0: the outside, where the host's routes lead.
    pub target: EndpointId,
    /// The target's generation when this entry was written. Another one: the target is gone.
    pub generation: u32,
    /// The Backend of this Connection, the same in both entries; 0: a host outside.
    pub backend: EndpointId,
    /// Number of the Frontend ([`crate::Frontend::id`]), the same in both entries; 0: none, a container
    /// talks to the outside or is talked to at its own address.
    pub frontend: u32,
    /// Seconds without a packet in either direction after which the Connection is forgotten.
    pub timeout: u32,
    /// When the last packet of this direction passed, in nanoseconds since boot
    /// (`CLOCK_MONOTONIC`), not newer than one second.
    pub last_seen: u64,
    /// When the Connection began, in nanoseconds since boot.
    pub created: u64,
    /// The Endpoint that opened the Connection, the same in both entries; 0: a host outside. Another
    /// one under the same address is another client.
    pub client: EndpointId,
    /// A set of [`ConnectionFlags`].
    pub flags: u16,
    /// Zone of the other entry's key: where the packets of the other direction come in.
    pub other_zone: Zone,
}

/// Bits of [`Connection::flags`].
#[derive(Debug)]
pub struct ConnectionFlags;

impl ConnectionFlags {
    /// This entry is for packets of the client; without it, for those of the Backend.
    pub const FORWARD: u16 = 1;
    /// The Backend has answered.
    pub const REPLIED: u16 = 1 << 1;
    /// The client has sent a FIN.
    pub const FIN_CLIENT: u16 = 1 << 2;
    /// The Backend has sent a FIN.
    pub const FIN_BACKEND: u16 = 1 << 3;
    /// Either side has sent a RST.
    pub const RESET: u16 = 1 << 4;
    /// Client and Backend are the same Endpoint.
    pub const HAIRPIN: u16 = 1 << 5;
    /// The Connection is in `connections`, no longer in `half_open`.
    pub const ESTABLISHED: u16 = 1 << 6;
    /// Client and Backend are of different families: one of them sees an address of the host's.
    pub const OTHER_FAMILY: u16 = 1 << 7;
    /// The client is a process of the host: nothing is forwarded between the two.
    pub const OF_HOST: u16 = 1 << 8;

    /// Both FINs: nothing more is expected.
    pub const FINISHED: u16 = Self::FIN_CLIENT | Self::FIN_BACKEND;
}

impl Connection {
    /// `last_seen` is written at most once in this many nanoseconds.
    const GRAIN: u64 = 1_000_000_000;

    /// Whether `flag` (one or several bits) is wholly set.
    #[inline(always)]
    pub const fn has(&self, flag: u16) -> bool {
        self.flags & flag == flag
    }

    /// Whether the next SYN on this tuple begins a new Connection: both sides are done, or one reset.
    #[inline(always)]
    pub const fn is_over(&self) -> bool {
        self.has(ConnectionFlags::FINISHED) || self.has(ConnectionFlags::RESET)
    }

    /// Whether nothing has passed in this direction for the timeout. `now` in nanoseconds since boot.
    #[inline(always)]
    pub const fn is_idle(&self, now: u64) -> bool {
        now.saturating_sub(self.last_seen) > self.timeout as u64 * 1_000_000_000
    }

    /// Whether that a packet passes is to be noted. `now` in nanoseconds since boot.
    #[inline(always)]
    pub const fn is_due(&self, now: u64) -> bool {
        now.saturating_sub(self.last_seen) > Self::GRAIN
    }

    /// Notes that a packet passes; whether that is a change. Once a second is enough, and what has been idle
    /// too long stays so. `now` in nanoseconds since boot.
    #[inline(always)]
    pub const fn pass(&mut self, now: u64) -> bool {
        let is_due = self.is_due(now) && !self.is_idle(now);
        if is_due {
            self.last_seen = now;
        }
        is_due
    }

    /// The key of the other direction, given the key of this one.
    #[inline(always)]
    pub const fn other_half(&self, key: &FlowKey) -> FlowKey {
        FlowKey {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            zone: self.other_zone,
            protocol: key.protocol,
            _pad: 0,
        }
    }
}

map_types!(Connection: 80);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn seen_at(last_seen: u64) -> Connection {
        Connection {
            last_seen,
            timeout: 30,
            ..Connection::default()
        }
    }

    #[test]
    fn a_packet_is_noted_when_the_last_one_is_more_than_a_second_ago() {
        let mut entry = seen_at(SECOND);

        assert!(!entry.pass(2 * SECOND));
        assert_eq!(entry.last_seen, SECOND);
        assert!(entry.pass(2 * SECOND + 1));
        assert_eq!(entry.last_seen, 2 * SECOND + 1);
    }

    #[test]
    fn a_packet_does_not_revive_what_is_forgotten() {
        let mut entry = seen_at(SECOND);

        assert!(!entry.pass(31 * SECOND + 1));
        assert!(entry.is_idle(31 * SECOND + 1));
    }
}
