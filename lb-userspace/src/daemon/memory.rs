//! What a burst of work took and no longer needs.

/// Gives free memory back to the kernel. Takes a millisecond or two, so it comes after what was much
/// work, and not in it.
///
/// # Why
/// glibc keeps what was freed below the last piece that is in use. A start loads programs of several
/// megabytes and describes every container anew a few times, and twice what is needed stays for good.
#[cfg(target_env = "gnu")]
pub(super) fn give_back() {
    // SAFETY: any thread may ask for it at any time; it touches no memory that is in use.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators give back by themselves.
#[cfg(not(target_env = "gnu"))]
pub(super) fn give_back() {}
