//! Inside containers' namespaces: routes to VIPs, and DNS sockets.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::visits::Visit;
use crate::model::Netns;
use crate::netns::Namespace;

/// Namespaces that are entered at the same time.
const AT_ONCE: usize = 8;

/// Adds and removes the routes of one visit.
pub(super) fn route(visit: &Visit) -> io::Result<()> {
    if visit.add.is_empty() && visit.remove.is_empty() {
        return Ok(());
    }
    let namespace = open(&visit.netns)?;
    for route in &visit.add {
        namespace.add_route(route.container_ifindex, route.to)?;
    }
    for route in &visit.remove {
        match namespace.remove_route(route.container_ifindex, route.to) {
            // It went with its interface.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}

/// The namespace that `netns` names, if its path has not come to mean another one.
fn open(netns: &Netns) -> io::Result<Namespace> {
    let namespace = Namespace::open(&netns.path)?;
    if namespace.cookie()? != netns.cookie {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{} means another namespace now", netns.path.display()),
        ));
    }
    Ok(namespace)
}

/// What `f` returns for each item, in the items' order. Several items are done at the same time.
pub(super) fn for_each<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if items.len() <= 1 {
        return items.iter().map(f).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(items.len()) {
            scope.spawn(|| {
                while let Some((index, item)) = take(items, &next) {
                    let result = f(item);
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
