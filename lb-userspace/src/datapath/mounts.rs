//! What is mounted where, and the two file systems that the datapath needs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use tracing::info;

use super::error::DatapathError;

/// One line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// Which part of the file system is mounted: `/` is all of it.
    root: String,
    point: PathBuf,
    /// Kind of file system, such as `cgroup2`.
    kind: String,
}

fn parse(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    // Optional fields, as many as there are, end with a lone dash.
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    Some(Mount {
        root: unescaped(fields.next()?),
        point: PathBuf::from(unescaped(fields.next()?)),
        kind: after.split(' ').next()?.to_owned(),
    })
}

/// Blanks, tabs, line ends and backslashes are written as a backslash and three octal digits.
fn unescaped(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after.get(..3).and_then(|c| u8::from_str_radix(c, 8).ok());
        text.push(code.map_or('\\', char::from));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    text.push_str(rest);
    text
}

/// Where all of a cgroup2 hierarchy is mounted, the shortest path if there are several.
fn cgroup2_root(mounts: &[Mount]) -> Option<&Path> {
    mounts
        .iter()
        .filter(|mount| mount.kind == "cgroup2" && mount.root == "/")
        .map(|mount| mount.point.as_path())
        .min_by_key(|point| point.as_os_str().len())
}

/// The mount point of the cgroup2 hierarchy: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` where
/// version 1 is in use besides. `None` if it is not mounted.
pub(super) fn cgroup2() -> io::Result<Option<PathBuf>> {
    let mounts = parse(&fs::read_to_string("/proc/thread-self/mountinfo")?);
    Ok(cgroup2_root(&mounts).map(Path::to_owned))
}

/// The root of the cgroup2 hierarchy where it is mounted nowhere: mounts it at `path` for as long as it takes
/// to open it. The kernel has the hierarchy, with all processes in it, whether anybody mounts it or not.
pub(super) fn open_cgroup2(path: &Path) -> io::Result<File> {
    let failed = |error: io::Error| {
        let text = format!("mount the cgroup2 tree, which is nowhere mounted: {error}");
        io::Error::new(error.kind(), text)
    };
    fs::create_dir_all(path).map_err(failed)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mounted = mount(Some("cgroup2"), path, Some("cgroup2"), flags, None::<&str>);
    let opened = mounted.map_err(io::Error::from).and_then(|()| {
        let folder = File::open(path);
        umount2(path, MntFlags::MNT_DETACH)?;
        folder
    });
    fs::remove_dir(path).map_err(failed)?;
    opened.map_err(failed)
}

/// Whether the kernel has the cgroup2 hierarchy.
pub(super) fn knows_cgroup2() -> io::Result<bool> {
    let known = fs::read_to_string("/proc/filesystems")?;
    Ok(known.lines().any(|line| line.ends_with("\tcgroup2")))
}

/// Whether this process sees only a part of the cgroup2 hierarchy as its root.
pub(super) fn is_in_cgroup_namespace() -> io::Result<bool> {
    // The first namespace has a fixed inode (PROC_CGROUP_INIT_INO).
    let namespace = fs::read_link("/proc/self/ns/cgroup")?;
    Ok(namespace != Path::new("cgroup:[4026531835]"))
}

/// Whether a BPF file system is mounted at `path`.
pub(super) fn is_bpffs(path: &Path) -> io::Result<bool> {
    Ok(statfs(path)?.filesystem_type() == BPF_FS_MAGIC)
}

/// Sees to it that there is a BPF file system at `path`: mounts one if there is none, and says so.
pub(super) fn require_bpffs(path: &Path) -> Result<(), DatapathError> {
    mount_bpffs(path).map_err(|source| DatapathError::NoBpffs {
        path: path.to_owned(),
        source,
    })
}

fn mount_bpffs(path: &Path) -> io::Result<()> {
    if is_bpffs(path)? {
        return Ok(());
    }
    // A second mount on top would hide the pins in the first one: one at a time, and look again.
    let folder = Flock::lock(File::open(path)?, FlockArg::LockExclusive);
    let _folder = folder.map_err(|(_, errno)| io::Error::from(errno))?;
    if is_bpffs(path)? {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), path, Some("bpf"), flags, Some("mode=700"))?;
    info!(path = %path.display(), "mounted the BPF file system, which was missing");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
        24 1 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
        30 24 0:26 / /sys/fs/cgroup rw shared:9 master:2 - tmpfs tmpfs rw\n\
        31 30 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate\n\
        32 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        damaged\n";

    #[test]
    fn the_cgroup2_root_is_found_beside_version_1() {
        let mounts = parse(HYBRID);

        assert_eq!(mounts.len(), 4);
        assert_eq!(
            cgroup2_root(&mounts),
            Some(Path::new("/sys/fs/cgroup/unified"))
        );
    }

    #[test]
    fn a_mount_of_a_part_is_not_the_root() {
        let part = "40 30 0:27 /system.slice /run/part rw - cgroup2 cgroup2 rw\n";
        let whole = "41 30 0:27 / /a/much/longer/path/to/it rw - cgroup2 cgroup2 rw\n";

        assert_eq!(cgroup2_root(&parse(part)), None);
        let both = parse(&format!("{part}{whole}"));
        assert_eq!(
            cgroup2_root(&both),
            Some(Path::new("/a/much/longer/path/to/it"))
        );
    }

    #[test]
    fn a_blank_in_a_mount_point_is_read() {
        let mounts = parse("36 35 0:31 / /mnt/a\\040b\\134c rw - bpf bpf rw\n");

        assert_eq!(mounts[0].point, Path::new("/mnt/a b\\c"));
    }
}
