//! What a station leaves to its interface: checksums, and cutting streams into segments.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use crate::station::Station;

/// `ethtool -K … tx` (linux/ethtool.h).
const ETHTOOL_STXCSUM: u32 = 0x17;
/// `ethtool -K … tso`.
const ETHTOOL_STSO: u32 = 0x1f;

/// What an interface does for its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    pub checksums: bool,
    pub segmentation: bool,
}

impl Offload {
    /// Every combination. The kernel may leave out segmentation where there are no checksums.
    pub const ALL: [Self; 4] = [
        Self::new(true, true),
        Self::new(true, false),
        Self::new(false, true),
        Self::new(false, false),
    ];

    const fn new(checksums: bool, segmentation: bool) -> Self {
        Self {
            checksums,
            segmentation,
        }
    }
}

#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

impl Station {
    /// Sets what `eth0` does for its sender.
    pub fn set_offload(&self, offload: Offload) {
        self.ethtool(ETHTOOL_STXCSUM, offload.checksums).unwrap();
        self.ethtool(ETHTOOL_STSO, offload.segmentation).unwrap();
    }

    fn ethtool(&self, command: u32, on: bool) -> io::Result<()> {
        let socket = self.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        let mut value = Value {
            command,
            data: u32::from(on),
        };
        let mut name = [0; libc::IFNAMSIZ];
        for (to, from) in name.iter_mut().zip(b"eth0") {
            *to = *from as libc::c_char;
        }
        let mut request = libc::ifreq {
            ifr_name: name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_data: (&raw mut value).cast(),
            },
        };
        // SAFETY: the request is an `ifreq` whose data points at a live `ethtool_value`, which is
        // what both commands read.
        let result =
            unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}
