//! Many namespaces, one after the other and several at the same time.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{io, thread};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{fstat, stat};

use super::{Namespace, describe};

/// Namespaces that are entered at the same time.
pub const AT_ONCE: usize = 8;

thread_local! {
    /// The namespace that this thread comes back to; set while it does nothing but visit others.
    static HOME: Cell<Option<OwnedFd>> = const { Cell::new(None) };
}

/// What `f` returns for each item, in the items' order, from threads that end with the call. Several
/// items are done at the same time, and [`Namespace::run`] inside `f` needs no other thread.
pub fn for_each<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    for_each_with(items, || (), |(), item| f(item))
}

/// The same with what each of the threads makes once for all its items.
pub fn for_each_with<T: Sync, S, R: Send>(
    items: &[T],
    prepare: impl Fn() -> S + Sync,
    f: impl Fn(&mut S, &T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(items.len()) {
            scope.spawn(|| {
                // Without it every visit has its own thread, which only takes longer.
                HOME.set(Namespace::current().ok().map(|home| home.file));
                let mut state = prepare();
                while let Some((index, item)) = take(items, &next) {
                    let result = f(&mut state, item);
                    let mut done = done.lock().unwrap_or_else(|poison| poison.into_inner());
                    done.push((index, result));
                }
            });
        }
    });
    let mut done = done
        .into_inner()
        .unwrap_or_else(|poison| poison.into_inner());
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn take<'a, T>(items: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, items.get(index)?))
}

/// A visit that is over when this goes: the thread is at home again.
pub(super) struct Visit(Option<OwnedFd>);

impl Visit {
    /// Brings the calling thread into `namespace`, if it is one of [`for_each`] and at home.
    pub(super) fn begin(namespace: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let Some(home) = HOME.take() else {
            return Ok(None);
        };
        // Made first: also what fails leaves the thread ready for the next visit.
        let visit = Self(Some(home));
        enter(namespace)?;
        Ok(Some(visit))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // A thread that does not come back makes no further visit by itself.
        HOME.set(self.0.take().filter(|home| enter(home.as_fd()).is_ok()));
    }
}

/// Brings the calling thread into `namespace`.
pub(super) fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    match setns(namespace, CloneFlags::CLONE_NEWNET) {
        // Where the thread is already nobody needs a capability to go.
        Err(Errno::EPERM) if is_here(namespace) => Ok(()),
        result => {
            result.map_err(|errno| describe(errno.into(), || "enter a network namespace".into()))
        }
    }
}

/// Whether the calling thread is in `namespace`.
fn is_here(namespace: BorrowedFd<'_>) -> bool {
    let here = stat("/proc/thread-self/ns/net");
    let both = here.and_then(|here| Ok((here, fstat(namespace)?)));
    both.is_ok_and(|(here, there)| (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_their_items() {
        let items: Vec<u32> = (0..1_000).collect();

        let doubled = for_each(&items, |item| item * 2);

        assert!(doubled.into_iter().eq(items.iter().map(|item| item * 2)));
    }

    #[test]
    fn each_thread_prepares_once() {
        let prepared = AtomicUsize::new(0);
        let prepare = || prepared.fetch_add(1, Ordering::Relaxed);

        let seen = for_each_with(&[(); 100], prepare, |thread, ()| *thread);

        let threads = prepared.into_inner();
        assert!((1..=AT_ONCE).contains(&threads), "{threads}");
        assert!(seen.iter().all(|thread| *thread < threads));
    }

    #[test]
    fn one_that_waits_does_not_hold_up_the_others() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let receiver = Mutex::new(receiver);

        // The first item waits for the last one.
        let results = for_each(&[0, 1, 2], |item| match item {
            0 => receiver
                .lock()
                .unwrap()
                .recv_timeout(std::time::Duration::from_secs(10))
                .is_ok(),
            2 => sender.send(()).is_ok(),
            _ => true,
        });

        assert_eq!(results, [true; 3]);
    }
}
