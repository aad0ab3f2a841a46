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
use super::kernel::Kernel;
use super::outcome::{Message, Outcome};
use super::qemu::{self, Boot, Channels, Machine};
use super::report::Report;
use super::stream::Stream;
use super::tools::Tools;

/// From the start of QEMU to the start of the command; a loaded host takes ten times the usual.
const BOOT_DEADLINE: Duration = Duration::from_secs(180);

/// From the command's end to the end of its output, which its background processes may hold open.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);

/// For the guest to say what it waits for.
const EXPLAIN_DEADLINE: Duration = Duration::from_secs(3);

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
    /// What the guest reads at boot; gone as soon as it has.
    job: Option<Job>,
    events: Receiver<Event>,
    /// Our end of the control channel, to write to.
    orders: UnixStream,
    started: Instant,
    booted: Option<Duration>,
    exited: Option<u8>,
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
        job: Job,
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
        let (console, _) = channel(Channel::Console)?;
        let (stdout, _) = channel(Channel::Stdout)?;
        let (stderr, _) = channel(Channel::Stderr)?;
        let (control, orders) = channel(Channel::Control)?;
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
            stdout: Stream::new(job.end_mark()),
            stderr: Stream::new(job.end_mark()),
            job: Some(job),
            events,
            orders,
            started: Instant::now(),
            booted: None,
            exited: None,
            console: Vec::new(),
            control: Vec::new(),
            show_console: false,
        })
    }

    /// Whether the console goes to stderr as it comes.
    pub(super) fn show_console(&mut self, show: bool) {
        self.show_console = show;
    }

    /// Passes the command's output on until the command ends, at most `timeout` after its start.
    pub(super) fn wait(mut self, timeout: Duration) -> Result<Report> {
        let mut deadline = self.started + BOOT_DEADLINE;
        let outcome = loop {
            if let Some(status) = self.finished() {
                break Outcome::Exited(status);
            }
            match self.next_event(deadline) {
                Ok(event) => {
                    for message in self.take(event)? {
                        deadline = Instant::now() + self.note(message, timeout);
                    }
                }
                Err(cut) => break self.cut_off(cut)?,
            }
        };
        io::stdout().write_all(&self.stdout.rest())?;
        io::stderr().write_all(&self.stderr.rest())?;
        Ok(Report {
            outcome,
            booted: self.booted,
            total: self.started.elapsed(),
            console: String::from_utf8_lossy(&self.console).into_owned(),
        })
    }

    /// The command's exit status, once it ended and all its output came.
    fn finished(&self) -> Option<u8> {
        self.exited
            .filter(|_| self.stdout.has_ended() && self.stderr.has_ended())
    }

    fn next_event(&self, deadline: Instant) -> Result<Event, RecvTimeoutError> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.events.recv_timeout(left)
    }

    /// Remembers what the guest said; gives how long the next message may take.
    fn note(&mut self, message: Message, timeout: Duration) -> Duration {
        match message {
            Message::Booted => {
                self.booted = Some(self.started.elapsed());
                self.job = None;
                timeout
            }
            Message::Exited(status) => {
                self.exited = Some(status);
                DRAIN_DEADLINE
            }
        }
    }

    /// How the run ended when no event came.
    fn cut_off(&mut self, cut: RecvTimeoutError) -> Result<Outcome> {
        if let Some(status) = self.exited {
            return Ok(Outcome::Exited(status));
        }
        match cut {
            RecvTimeoutError::Disconnected => Ok(Outcome::Crashed),
            RecvTimeoutError::Timeout => {
                self.ask_what_it_waits_for()?;
                Ok(Outcome::TimedOut)
            }
        }
    }

    /// Lets the guest print its processes, and where blocked ones wait, on its console.
    fn ask_what_it_waits_for(&mut self) -> Result<()> {
        // A guest that is stuck before it listens, or ended just now, cannot answer.
        if self.booted.is_none() || self.orders.write_all(b"explain\n").is_err() {
            return Ok(());
        }
        let deadline = Instant::now() + EXPLAIN_DEADLINE;
        while let Ok(event) = self.next_event(deadline) {
            self.take(event)?;
        }
        Ok(())
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

/// QEMU's end of a new channel, inheritable, and ours, whose bytes become events.
///
/// QEMU's closes on our side when it is dropped, which must not be before QEMU has it.
fn open_channel(channel: Channel, events: Sender<Event>) -> Result<(UnixStream, UnixStream)> {
    let (ours, theirs) = UnixStream::pair().context("open a channel to QEMU")?;
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).context("hand a channel to QEMU")?;
    let mut reader = ours.try_clone().context("open a channel to QEMU")?;
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = reader.read(&mut buffer) {
            if events.send((channel, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    Ok((theirs, ours))
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
}
