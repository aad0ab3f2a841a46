//! One virtual machine, from its start to the command's exit status.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::initramfs;
use super::job::Job;
use super::kernel::{Kernel, KernelId};
use super::outcome::{Message, Outcome, faults};
use super::qemu::{self, Boot, Channels, Machine};
use super::stream::Stream;
use super::tools::Tools;
use crate::process;

/// From the start of QEMU to the start of the command; a loaded host takes ten times the usual.
const BOOT_DEADLINE: Duration = Duration::from_secs(180);

/// From the command's end to the end of its output, which its background processes may hold open.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);

/// So much of the console's end is shown when something went wrong, in bytes.
const CONSOLE_TAIL: usize = 6000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Console,
    Stdout,
    Stderr,
    Control,
}

/// Bytes from the guest; none when it closed the channel, which it does only by ending.
type Event = (Channel, Vec<u8>);

/// A running virtual machine; ends when dropped.
#[derive(Debug)]
pub(super) struct Guest {
    process: Child,
    events: Receiver<Event>,
    started: Instant,
    console: Vec<u8>,
    control: Vec<u8>,
    stdout: Stream,
    stderr: Stream,
    show_console: bool,
}

impl Guest {
    pub(super) fn boot(
        kernel: &Kernel,
        tools: &Tools,
        machine: &Machine,
        job: &Job,
    ) -> Result<Self> {
        let initramfs = job.path().join("initramfs");
        fs::write(&initramfs, initramfs::build(kernel, &tools.busybox)?)
            .with_context(|| format!("write {}", initramfs.display()))?;
        let boot = Boot {
            image: &kernel.image(),
            initramfs: &initramfs,
            job: job.path(),
        };
        let (sender, events) = mpsc::channel();
        let channel = |channel| open_channel(channel, sender.clone());
        // QEMU's ends: closed on our side as soon as QEMU has them.
        let [console, stdout, stderr, control] = [
            channel(Channel::Console)?,
            channel(Channel::Stdout)?,
            channel(Channel::Stderr)?,
            channel(Channel::Control)?,
        ];
        let channels = Channels {
            console: console.as_raw_fd(),
            stdout: stdout.as_raw_fd(),
            stderr: stderr.as_raw_fd(),
            control: control.as_raw_fd(),
        };
        // setpriv: QEMU must not outlive us, however we end.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&tools.qemu.program.path)
            .args(qemu::arguments(&tools.qemu, machine, &boot, channels))
            .envs(tools.qemu.program.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("start setpriv (of package util-linux) with QEMU")?;
        Ok(Self {
            process,
            events,
            started: Instant::now(),
            console: Vec::new(),
            control: Vec::new(),
            stdout: Stream::new(job.end_mark()),
            stderr: Stream::new(job.end_mark()),
            show_console: false,
        })
    }

    /// Whether the console goes to stderr as it comes.
    pub(super) fn show_console(&mut self, show: bool) {
        self.show_console = show;
    }

    /// Passes the command's output on until the command ends, at most `timeout` after its start.
    pub(super) fn wait(mut self, timeout: Duration) -> Result<Report> {
        let mut booted = None;
        let mut exited = None;
        let mut deadline = self.started + BOOT_DEADLINE;
        let outcome = loop {
            if let Some(status) =
                exited.filter(|_| self.stdout.has_ended() && self.stderr.has_ended())
            {
                break Outcome::Exited(status);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => {
                    for message in self.take(event)? {
                        deadline = match message {
                            Message::Booted => {
                                booted = Some(self.started.elapsed());
                                Instant::now() + timeout
                            }
                            Message::Exited(status) => {
                                exited = Some(status);
                                Instant::now() + DRAIN_DEADLINE
                            }
                        };
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    break exited.map_or(Outcome::TimedOut, Outcome::Exited);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    break exited.map_or(Outcome::Crashed, Outcome::Exited);
                }
            }
        };
        io::stdout().write_all(&self.stdout.rest())?;
        io::stderr().write_all(&self.stderr.rest())?;
        let console = String::from_utf8_lossy(&self.console).into_owned();
        Ok(Report {
            outcome,
            booted,
            total: self.started.elapsed(),
            console,
        })
    }

    /// Handles one event; gives what the guest has to say.
    fn take(&mut self, (channel, bytes): Event) -> Result<Vec<Message>> {
        match channel {
            Channel::Console => {
                if self.show_console {
                    io::stderr()
                        .write_all(&bytes)
                        .context("pass on the console")?;
                }
                self.console.extend(bytes);
            }
            Channel::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout
                    .write_all(&self.stdout.feed(&bytes))
                    .context("pass on stdout")?;
                stdout.flush().context("pass on stdout")?;
            }
            Channel::Stderr => {
                io::stderr()
                    .write_all(&self.stderr.feed(&bytes))
                    .context("pass on stderr")?;
            }
            Channel::Control => {
                self.control.extend(bytes);
                return Ok(messages(&mut self.control));
            }
        }
        Ok(Vec::new())
    }
}

/// The messages of the whole lines that came; a line's first part stays until the rest comes.
fn messages(control: &mut Vec<u8>) -> Vec<Message> {
    let end = control
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |last| last + 1);
    let lines: Vec<u8> = control.drain(..end).collect();
    String::from_utf8_lossy(&lines)
        .lines()
        .filter_map(Message::parse)
        .collect()
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Fails only when it has ended already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// QEMU's end of a new channel, inheritable; what comes from ours becomes events.
fn open_channel(channel: Channel, events: Sender<Event>) -> Result<UnixStream> {
    let (mut ours, theirs) = UnixStream::pair().context("open a channel to QEMU")?;
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).context("hand a channel to QEMU")?;
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = ours.read(&mut buffer) {
            if events.send((channel, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    Ok(theirs)
}

/// What is known about a run that is over.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) outcome: Outcome,
    /// From start to command; `None` when it did not come to that.
    booted: Option<Duration>,
    total: Duration,
    console: String,
}

impl Report {
    /// Says on stderr how the run went, with the end of the console if it did not go well.
    pub(super) fn explain(&self, kernel: KernelId) {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let story = match (self.outcome, self.booted) {
            (Outcome::Exited(status), Some(booted)) => {
                let ran = self.total.saturating_sub(booted);
                format!(
                    "booted in {}, ran {}, exit status {status}",
                    seconds(booted),
                    seconds(ran)
                )
            }
            (Outcome::TimedOut, Some(booted)) => {
                format!(
                    "the command did not end in {}",
                    seconds(self.total.saturating_sub(booted))
                )
            }
            (_, Some(_)) => format!(
                "the machine ended while the command ran, after {}",
                seconds(self.total)
            ),
            (_, None) => format!("the command was not started in {}", seconds(self.total)),
        };
        process::say(&format!("kernel {kernel}: {story}"));
        let ended_by_itself = matches!(self.outcome, Outcome::Exited(_));
        if !ended_by_itself {
            eprintln!(
                "vm: kernel {kernel}: end of its console:\n{}",
                tail(&self.console)
            );
        } else {
            for fault in faults(&self.console) {
                process::say(&format!("kernel {kernel}: {fault}"));
            }
        }
    }
}

fn tail(console: &str) -> &str {
    let start = console.len().saturating_sub(CONSOLE_TAIL);
    let start = (start..console.len()).find(|&index| console.is_char_boundary(index));
    console[start.unwrap_or(0)..].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_lines_however_they_come() {
        let mut control = b"booted\nexited 4".to_vec();

        assert_eq!(messages(&mut control), [Message::Booted]);
        assert!(messages(&mut control).is_empty());
        control.extend(b"2\n");
        assert_eq!(messages(&mut control), [Message::Exited(42)]);
    }

    #[test]
    fn the_consoles_tail_starts_at_a_whole_character() {
        let console = "é".repeat(CONSOLE_TAIL);

        assert_eq!(tail(&console), "é".repeat(CONSOLE_TAIL / 2));
        assert_eq!(tail("x\n"), "x");
    }
}
