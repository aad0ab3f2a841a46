//! Why a packet left the fast path, or what was done for it. Each Reason has one counter.

/// Declares the Reasons once: variant, name in tables and metrics, and what it means.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $drop:literal;)+) => {
        /// Why a packet left the fast path: the index of its counter in the `reasons` map.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every Reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The Reason with this number; unknown numbers are [`Reason::Malformed`].
            ///
            /// A chain of comparisons with constants, so that the kernel needs no table for it.
            #[inline(always)]
            pub const fn from_index(index: u32) -> Self {
                $(if index == Self::$variant as u32 { return Self::$variant; })+
                Self::Malformed
            }

            /// The name in tables and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it means, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+).trim_ascii(),)+ }
            }

            /// Whether the packet was dropped (otherwise it was passed on or answered).
            pub const fn is_drop(self) -> bool {
                match self { $(Self::$variant => $drop,)+ }
            }
        }
    };
}

reasons! {
    /// Delivered to a Backend.
    Forwarded = "forwarded", false;
    /// A reply delivered to its client.
    Replied = "replied", false;
    /// Neither to a Frontend nor a reply: left to the bridge.
    Direct = "direct", false;
    /// Neither IPv4, IPv6 nor ARP: left to the bridge.
    NotIp = "not-ip", false;
    /// From an interface that is not programmed: left to the bridge.
    UnknownVeth = "unknown-veth", false;
    /// An ARP request for a VIP, answered.
    ArpAnswered = "arp-answered", false;
    /// A neighbour solicitation for a VIP, answered.
    NeighbourAnswered = "neighbour-answered", false;
    /// An ICMP error that belongs to a Connection, translated.
    IcmpErrorTranslated = "icmp-error-translated", false;
    /// Refused with a TCP reset.
    ResetSent = "reset-sent", true;
    /// Refused with an ICMP error.
    UnreachableSent = "unreachable-sent", true;
    /// Headers are cut short or contradict themselves.
    Malformed = "malformed", true;
    /// The source MAC address is not the container's.
    SpoofedMac = "spoofed-mac", true;
    /// The source IP address is not the container's.
    SpoofedAddress = "spoofed-address", true;
    /// An ARP or neighbour discovery message speaks for another host.
    SpoofedNeighbour = "spoofed-neighbour", true;
    /// A later fragment whose first one was not seen.
    FragmentUnknown = "fragment-unknown", true;
    /// To an address of the VIP range that no Group has.
    NoFrontend = "no-frontend", true;
    /// The Group has no Member that can take it.
    NoBackend = "no-backend", true;
    /// A TCP segment that belongs to no Connection and opens none.
    NoConnection = "no-connection", true;
    /// The Connection's Backend is gone.
    BackendGone = "backend-gone", true;
    /// The Connection's client is gone.
    ClientGone = "client-gone", true;
    /// A protocol that is not balanced (only TCP, UDP and ICMP echo are).
    UnsupportedProtocol = "unsupported-protocol", true;
    /// An ICMP error to a VIP that belongs to no Connection.
    IcmpErrorUnknown = "icmp-error-unknown", true;
    /// No room for another Connection.
    TableFull = "table-full", true;
    /// Every source port towards the chosen Backend is taken.
    PortsExhausted = "ports-exhausted", true;
    /// Not answered, because enough was.
    RateLimited = "rate-limited", true;
    /// The kernel refused to rewrite the packet.
    RewriteFailed = "rewrite-failed", true;
    /// To or from the host itself: left to its stack.
    Host = "host", false;
    /// Sent to the outside for a container.
    Outbound = "outbound", false;
    /// Routed into a Network that allows it.
    Routed = "routed", false;
    /// The Frontend does not serve this client.
    SourceDenied = "source-denied", true;
    /// The Network's containers do not reach each other.
    IccDisabled = "icc-disabled", true;
    /// To a container of another Network.
    Isolated = "isolated", true;
    /// Out of an internal Network.
    InternalNetwork = "internal-network", true;
    /// To or from a loopback address, on another interface.
    LoopbackOutside = "loopback-outside", true;
    /// From outside to a container's own address.
    DirectRouting = "direct-routing", true;
    /// Beyond the host, from or to a container or an interface that is not programmed yet.
    NotProgrammed = "not-programmed", true;
    /// About to leave the host with a container's address as its source.
    NotMasqueraded = "not-masqueraded", true;
    /// The interface that leads there has no address to masquerade with.
    NoSourceAddress = "no-source-address", true;
    /// The host has no route there.
    NoRoute = "no-route", true;
    /// Larger than the way out takes: the sender is told what does.
    TooBigSent = "too-big-sent", true;
    /// Its time to live ended here: the sender is told.
    HopsExceeded = "hops-exceeded", true;
    /// An event that found no room in the ring buffer.
    EventLost = "event-lost", false;
}

impl Reason {
    /// How many there are.
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// Whether the packet was none of veer's business, and opened nothing.
    pub const fn is_untouched(self) -> bool {
        matches!(
            self,
            Self::Direct | Self::NotIp | Self::UnknownVeth | Self::Host
        )
    }

    /// The Reason with this number, if there is one.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_its_own_index_and_says_something() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(!reason.name().is_empty() && reason.meaning().ends_with('.'));
        }
    }
}
