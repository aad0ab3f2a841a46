//! The daemon's place in the queue for processors.
//!
//! # Why
//! A change is some milliseconds of work, in short pieces on several threads. On a host whose containers
//! take all processors each piece would wait for its turn among them, and the change for the sum of that.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{getpriority_process, setpriority_process};

/// Nice value of the daemon: some ten times the share of a process with the usual one.
pub const DAEMON: i32 = -10;
/// Nice value that a process has if nobody says otherwise.
pub const USUAL: i32 = 0;

/// Whether [`raise`] has changed anything.
static IS_RAISED: AtomicBool = AtomicBool::new(false);

/// Puts the calling thread, and the threads and processes that it starts from now on, before others.
/// Where somebody has chosen a nice value for this process (`nice`, `Nice=` of systemd), that stays.
///
/// # Errors
/// `EACCES` or `EPERM` without `CAP_SYS_NICE`; then everything is as it was.
pub fn raise() -> io::Result<()> {
    if getpriority_process(None)? == USUAL {
        setpriority_process(None, DAEMON)?;
        IS_RAISED.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Whether [`raise`] has put anything before others.
pub fn is_raised() -> bool {
    IS_RAISED.load(Ordering::Relaxed)
}

/// Undoes [`raise`] for the calling thread, and for what it starts: for programs that are not the daemon's.
///
/// # Errors
/// None that the kernel's documentation knows of: everybody may give way.
pub fn give_way() -> io::Result<()> {
    if is_raised() {
        setpriority_process(None, USUAL)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_is_raised_can_give_way_and_who_was_nice_stays_so() {
        let nice = || getpriority_process(None).unwrap();

        let usual = thread::spawn(move || {
            setpriority_process(None, USUAL).unwrap();
            raise().unwrap();
            let raised = nice();
            give_way().unwrap();
            (raised, nice())
        });
        let chosen = thread::spawn(move || {
            setpriority_process(None, 7).unwrap();
            raise().unwrap();
            nice()
        });

        assert_eq!(usual.join().unwrap(), (DAEMON, USUAL));
        assert_eq!(chosen.join().unwrap(), 7);
    }
}
