//! Any words as names of containers and Networks.

#![cfg_attr(feature = "libfuzzer", no_main)]

#[cfg(feature = "libfuzzer")]
libfuzzer_sys::fuzz_target!(|data: &[u8]| veer_fuzz::records(data));

/// Replays the files that are named.
#[cfg(not(feature = "libfuzzer"))]
fn main() -> std::io::Result<()> {
    veer_fuzz::replay(veer_fuzz::records)
}
