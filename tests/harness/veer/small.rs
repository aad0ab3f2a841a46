//! What a test's datapath is made with.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lb_common::{Addr, Settings, Timeouts};
use lb_userspace::config::Maps;

pub(super) const VIPS_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
pub(super) const VIPS_V6: Ipv6Addr = Ipv6Addr::new(0xfd76, 0x6565, 0x7200, 0, 0, 0, 0, 0);

/// Small maps: every test has its own.
pub(super) fn sizes() -> Maps {
    Maps {
        connections: 4_096,
        half_open: 4_096,
        affinity: 256,
        fragments: 1_024,
        veths: 64,
        endpoints: 64,
        frontends: 64,
        slots: 1_024,
        resolvers: 64,
        dns_answers: 1_024,
        events: 1 << 16,
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        vips_v4: VIPS_V4.into(),
        vips_v4_mask: Addr::mask(96 + 15),
        vips_v6: VIPS_V6.into(),
        vips_v6_mask: Addr::mask(48),
        timeouts: Timeouts::default(),
        refusals: 1_000,
        events: 100,
        ..Settings::default()
    }
}

pub(super) fn slice_v4(slice: u32) -> IpNet {
    let base = Ipv4Addr::from(u32::from(VIPS_V4) + slice * 1_024);
    Ipv4Net::new_assert(base, 22).into()
}

pub(super) fn slice_v6(slice: u32) -> IpNet {
    let mut segments = VIPS_V6.segments();
    segments[3] = slice as u16;
    Ipv6Net::new_assert(segments.into(), 64).into()
}
