//! QEMU: which one, and its command line.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::Path;

use super::program::Program;

/// Before 8.1, translated code of several processors at once could go wrong: guests died of
/// `Oops: int3` while the kernel patched its own code.
const FIRST_SAFE: Version = Version(8, 1);

/// Major and minor version of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32);

impl Version {
    /// From what `--version` prints.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text
            .split_once("version ")?
            .1
            .split(|c: char| !c.is_ascii_digit());
        Some(Self(
            numbers.next()?.parse().ok()?,
            numbers.next()?.parse().ok()?,
        ))
    }

    /// Whether each guest processor can have a thread of its own.
    pub(super) fn is_thread_safe(self) -> bool {
        self >= FIRST_SAFE
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Qemu {
    pub(super) program: Program,
    pub(super) version: Version,
}

/// What the user chose about the virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// As QEMU spells it: `1G`.
    pub(super) memory: String,
    pub(super) cpus: u8,
    /// One instruction takes 2^n nanoseconds of guest time.
    pub(super) icount: Option<u8>,
}

/// What the guest boots from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boot<'a> {
    pub(super) image: &'a Path,
    pub(super) initramfs: &'a Path,
    /// The folder that the guest finds its orders in.
    pub(super) job: &'a Path,
}

/// Descriptors that QEMU inherits, one per channel to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Channels {
    pub(super) console: RawFd,
    pub(super) stdout: RawFd,
    pub(super) stderr: RawFd,
    pub(super) control: RawFd,
}

/// QEMU's arguments for one run.
pub(super) fn arguments(
    qemu: &Qemu,
    machine: &Machine,
    boot: &Boot<'_>,
    channels: Channels,
) -> Vec<OsString> {
    let mut arguments =
        words("-nodefaults -no-user-config -display none -no-reboot -machine q35 -rtc base=utc");
    // Firmware of an unpacked package is not where QEMU looks by itself.
    for folder in ["usr/share/qemu", "usr/share/seabios"] {
        arguments.extend(["-L".into(), qemu.program.file(folder).into_os_string()]);
    }
    let thread = if qemu.version.is_thread_safe() && machine.icount.is_none() {
        "multi"
    } else {
        "single"
    };
    arguments.extend(words(&format!("-accel tcg,thread={thread}")));
    // With these flags the kernel copies by `rep movsb`, which is emulated byte by byte.
    arguments.extend(words("-cpu max,erms=off,fsrm=off"));
    arguments.extend(words(&format!(
        "-smp {} -m {}",
        machine.cpus, machine.memory
    )));
    if let Some(shift) = machine.icount {
        arguments.extend(words(&format!("-icount shift={shift},sleep=off")));
    }
    arguments.extend(["-kernel".into(), boot.image.into()]);
    arguments.extend(["-initrd".into(), boot.initramfs.into()]);
    arguments.extend(["-append".into(), kernel_parameters(boot.job).into()]);
    arguments.extend(words(
        "-fsdev local,id=host,path=/,security_model=none,multidevs=remap,readonly=on \
         -device virtio-9p-pci,fsdev=host,mount_tag=host",
    ));
    arguments.extend(channel_arguments(channels));
    arguments
}

fn channel_arguments(channels: Channels) -> Vec<OsString> {
    let mut arguments = words(&format!(
        "-chardev socket,id=console,fd={} -serial chardev:console",
        channels.console
    ));
    arguments.extend(words("-device virtio-serial-pci,id=ports,max_ports=4"));
    let ports = [
        ("stdout", channels.stdout),
        ("stderr", channels.stderr),
        ("control", channels.control),
    ];
    for (number, (name, fd)) in (1..).zip(ports) {
        arguments.extend(words(&format!(
            "-chardev socket,id={name},fd={fd} \
             -device virtserialport,bus=ports.0,nr={number},chardev={name}"
        )));
    }
    arguments
}

/// The kernel's command line. A fault reboots at once, which ends QEMU (`-no-reboot`); the rest
/// saves time under emulation: no watchdogs, no self-tests, no calibration, no waiting for RCU.
fn kernel_parameters(job: &Path) -> String {
    format!(
        "console=ttyS0 loglevel=5 panic=-1 oops=panic net.ifnames=0 nowatchdog no_timer_check \
         tsc=reliable cryptomgr.notests random.trust_cpu=on rcupdate.rcu_expedited=1 veer.job={}",
        job.display()
    )
}

fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        memory: String::new(),
        cpus: 2,
        icount: None,
    };

    fn line(version: Version, machine: &Machine) -> String {
        let program = Program::of_host("/usr/bin/qemu-system-x86_64");
        let boot = Boot {
            image: Path::new("/c/image"),
            initramfs: Path::new("/t/initramfs"),
            job: Path::new("/t"),
        };
        let channels = Channels {
            console: 5,
            stdout: 6,
            stderr: 7,
            control: 8,
        };
        let arguments = arguments(&Qemu { program, version }, machine, &boot, channels);
        arguments
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_version_is_read_from_what_distributions_print() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c)";

        assert_eq!(Version::parse(debian), Some(Version(7, 2)));
        assert_eq!(
            Version::parse("QEMU emulator version 10.0.2"),
            Some(Version(10, 0))
        );
        assert_eq!(Version::parse("qemu"), None);
    }

    #[test]
    fn an_old_qemu_gets_one_thread_and_a_new_one_several() {
        assert!(line(Version(7, 2), &MACHINE).contains("-accel tcg,thread=single"));
        assert!(line(Version(8, 1), &MACHINE).contains("-accel tcg,thread=multi"));
        assert!(line(Version(10, 0), &MACHINE).contains("-accel tcg,thread=multi"));
    }

    #[test]
    fn counted_time_runs_on_one_thread() {
        let line = line(
            Version(10, 0),
            &Machine {
                icount: Some(0),
                ..MACHINE
            },
        );

        assert!(line.contains("thread=single"));
        assert!(line.contains("-icount shift=0,sleep=off"));
    }

    #[test]
    fn memory_and_processors_are_the_users_choice() {
        let line = line(
            Version(10, 0),
            &Machine {
                memory: "512M".into(),
                cpus: 3,
                icount: None,
            },
        );

        assert!(line.contains("-smp 3 -m 512M"));
    }

    #[test]
    fn the_hosts_files_cannot_be_written() {
        assert!(
            line(Version(10, 0), &MACHINE)
                .contains("path=/,security_model=none,multidevs=remap,readonly=on")
        );
    }

    #[test]
    fn each_channel_has_the_port_that_the_guest_expects() {
        let line = line(Version(10, 0), &MACHINE);

        assert!(line.contains("socket,id=stdout,fd=6 -device virtserialport,bus=ports.0,nr=1,"));
        assert!(line.contains("socket,id=stderr,fd=7 -device virtserialport,bus=ports.0,nr=2,"));
        assert!(line.contains("socket,id=control,fd=8 -device virtserialport,bus=ports.0,nr=3,"));
        assert!(line.contains("socket,id=console,fd=5 -serial chardev:console"));
    }

    #[test]
    fn a_panic_ends_the_machine_and_the_job_is_a_parameter() {
        let line = line(Version(10, 0), &MACHINE);

        assert!(line.contains("-no-reboot") && line.contains("panic=-1 oops=panic"));
        assert!(line.contains("veer.job=/t -fsdev"));
    }
}
