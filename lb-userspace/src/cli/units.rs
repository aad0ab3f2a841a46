//! Durations, sizes and shares as people read them.

/// Seconds as the two largest units, such as `2h 5m`.
pub(super) fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m {rest}s"),
        (0, ..) => format!("{hours}h {minutes}m"),
        (..) => format!("{days}d {hours}h"),
    }
}

/// Microseconds in the unit that leaves the fewest digits, such as `1.25 ms`.
pub(super) fn latency(microseconds: u64) -> String {
    match microseconds {
        0..1_000 => format!("{microseconds} µs"),
        1_000..1_000_000 => format!("{:.2} ms", microseconds as f64 / 1_000.0),
        _ => format!("{:.2} s", microseconds as f64 / 1_000_000.0),
    }
}

/// Bytes in binary units, such as `1.5 MiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1_024.0 {
            break;
        }
        value /= 1_024.0;
        unit = next;
    }
    if unit == "B" {
        return format!("{count} B");
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_shows_its_two_largest_units() {
        assert_eq!(duration(5), "5s");
        assert_eq!(duration(65), "1m 5s");
        assert_eq!(duration(7_500), "2h 5m");
        assert_eq!(duration(90_000), "1d 1h");
    }

    #[test]
    fn a_latency_and_a_size_choose_their_unit() {
        assert_eq!(latency(999), "999 µs");
        assert_eq!(latency(1_250), "1.25 ms");
        assert_eq!(latency(2_500_000), "2.50 s");
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_536 * 1_024), "1.5 MiB");
    }
}
