//! Any bytes as a DNS message.

#![cfg_attr(feature = "libfuzzer", no_main)]

#[cfg(feature = "libfuzzer")]
libfuzzer_sys::fuzz_target!(|data: &[u8]| veer_fuzz::query(data));

/// Replays the files that are named.
#[cfg(not(feature = "libfuzzer"))]
fn main() -> std::io::Result<()> {
    veer_fuzz::replay(veer_fuzz::query)
}
