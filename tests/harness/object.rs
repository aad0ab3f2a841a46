//! The kernel programs as they were built.

use aya::EbpfLoader;

/// A loader that makes the large maps small: every test that loads the programs has its own.
pub fn loader() -> EbpfLoader<'static> {
    let mut loader = EbpfLoader::new();
    for name in [
        "CONNECTIONS",
        "HALF_OPEN",
        "SLOTS",
        "FRONTENDS",
        "ENDPOINTS",
    ] {
        loader.map_max_entries(name, 1_024);
    }
    loader
}

/// The BPF object that the daemon embeds.
pub fn bytes() -> &'static [u8] {
    lb_userspace::datapath::OBJECT
}
