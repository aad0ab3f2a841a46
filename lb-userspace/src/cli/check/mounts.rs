//! What is mounted where.

/// One mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: String,
    /// Kind of file system, such as `bpf`.
    pub(super) kind: String,
}

/// Reads `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
pub(super) fn parse(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    // Optional fields end with a lone dash.
    let (before, after) = line.split_once(" - ")?;
    Some(Mount {
        point: before.split(' ').nth(4)?.to_owned(),
        kind: after.split(' ').next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_do_not_matter() {
        let text = "36 35 0:31 / /sys/fs/bpf rw,nosuid shared:12 master:1 - bpf bpf rw,mode=700\n\
                    37 35 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                    damaged\n";

        let mounts = parse(text);

        let kinds: Vec<_> = mounts
            .iter()
            .map(|m| (m.point.as_str(), m.kind.as_str()))
            .collect();
        assert_eq!(
            kinds,
            [("/sys/fs/bpf", "bpf"), ("/sys/fs/cgroup", "cgroup2")]
        );
    }
}
