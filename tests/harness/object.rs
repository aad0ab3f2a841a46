//! The kernel programs as they were built.

/// The BPF object that the daemon embeds.
pub fn bytes() -> &'static [u8] {
    lb_userspace::datapath::OBJECT
}
