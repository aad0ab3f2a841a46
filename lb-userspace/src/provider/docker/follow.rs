//! Following one Engine without end: its events, the kernel's news of interfaces, and a clock.
//!
//! # Why
//! No source is trusted alone. The Engine's events may be lost, so they only say where to look, and
//! everything is compared once a minute; that an interface is gone the kernel says first. What has
//! to be fast is read without the Engine's lock on the container, which is held from before the
//! `connect` event until the process runs: names and aliases were read when the container was
//! created, addresses are read from the network, namespace and veth pair from the kernel.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::Options;
use super::engine::{Engine, EngineError};
use super::follower::{Follower, Lost};
use super::look::Extent;
use super::news::News;
use crate::netns::{LinkChange, LinkWatch, Namespace, watch_links};
use crate::provider::Publisher;

/// How soon a lost Engine is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Follows the Engine, and when it is lost, tries again without end.
pub(super) async fn follow(options: Options, publisher: Publisher) {
    let (host, mut watch) = kernel(&publisher).await;
    let mut follower = Follower::new(Arc::clone(&host), publisher);
    let mut delay = RETRY.0;
    loop {
        let Err(lost) = session(&options, &host, &mut follower, &mut watch).await;
        if follower.is_settled() {
            delay = RETRY.0;
        }
        warn!(error = %lost, "the Engine is not followed");
        follower.lost(&lost.to_string());
        wait(delay, &mut follower, &mut watch).await;
        delay = (delay * 2).min(RETRY.1);
    }
}

/// The host's namespace and its news. The kernel refuses them only while it lacks memory or files.
async fn kernel(publisher: &Publisher) -> (Arc<Namespace>, LinkWatch) {
    loop {
        let both = Namespace::current().and_then(|host| Ok((Arc::new(host), watch_links()?)));
        match both {
            Ok(both) => return both,
            Err(error) => publisher.failing(&error.to_string()),
        }
        tokio::time::sleep(RETRY.1).await;
    }
}

/// Follows the Engine until it is lost.
async fn session(
    options: &Options,
    host: &Arc<Namespace>,
    follower: &mut Follower,
    watch: &mut LinkWatch,
) -> Result<std::convert::Infallible, Lost> {
    let engine = Engine::connect(&options.socket).await?;
    info!(engine = engine.detail, "the Engine is followed");
    read_interfaces(host, follower).await?;
    let since = follower.last_event.map(|at| at + Duration::from_nanos(1));
    let mut events = engine.events(since.unwrap_or_else(SystemTime::now));
    follower.compare(&engine);
    let mut resync_at = Instant::now() + options.resync;
    loop {
        tokio::select! {
            event = events.next() => {
                let event = event.unwrap_or_else(|| Err(EngineError::EventsLost {
                    reason: "it ended them".to_string(),
                }))?;
                if let Some(news) = News::from_event(&event) {
                    follower.news(&engine, &news);
                }
            }
            Some(answer) = follower.tasks.join_next() => {
                follower.answered(&engine, answer?)?;
            }
            change = watch.next() => {
                link(&engine, host, follower, change?).await?;
            }
            () = sleep_until(resync_at) => {
                resync_at += options.resync;
                if follower.is_settled() {
                    follower.compare(&engine);
                }
            }
            () = at(follower.look_at) => follower.look(Extent::Incomplete),
            () = at(follower.stray_at) => follower.ask_for_strays(&engine),
            () = at(follower.ask_doubted_at) => follower.ask_doubted(&engine),
        }
        while let Some(answer) = follower.tasks.try_join_next() {
            follower.answered(&engine, answer?)?;
        }
        follower.publish();
    }
}

async fn link(
    engine: &Engine,
    host: &Arc<Namespace>,
    follower: &mut Follower,
    change: LinkChange,
) -> io::Result<()> {
    match follower.link(change) {
        Some(subjects) => subjects
            .into_iter()
            .for_each(|subject| follower.read(engine, subject)),
        None => {
            read_interfaces(host, follower).await?;
            follower.look(Extent::All);
            follower.compare(engine);
        }
    }
    Ok(())
}

async fn read_interfaces(host: &Arc<Namespace>, follower: &mut Follower) -> io::Result<()> {
    let host = Arc::clone(host);
    let interfaces = tokio::task::spawn_blocking(move || host.interfaces());
    follower.interfaces(interfaces.await.map_err(io::Error::other)??);
    Ok(())
}

/// Waits, and meanwhile takes note of interfaces that go: containers die without an Engine too.
async fn wait(delay: Duration, follower: &mut Follower, watch: &mut LinkWatch) {
    let until = Instant::now() + delay;
    loop {
        tokio::select! {
            () = sleep_until(until) => return,
            change = watch.next() => match change {
                // What is to be read again for it is, with everything else, once the Engine is back.
                Ok(change) => drop(follower.link(change)),
                Err(error) => {
                    warn!(%error, "news of interfaces are lost");
                    return sleep_until(until).await;
                }
            }
        }
        follower.publish();
    }
}

/// Ends at `instant`; never, where there is none.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
