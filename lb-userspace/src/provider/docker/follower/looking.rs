//! Looking into namespaces, and finding those of who is being started.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Follower, Stage};
use crate::provider::docker::engine::Engine;
use crate::provider::docker::inside::Sandbox;
use crate::provider::docker::look::{Errand, Extent, Glimpse, Seen};

/// How soon a namespace is looked into again when it was not as it should be, at first and at most.
/// News of interfaces come sooner; this is for when they say too little.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// One visit of namespaces at a time.
#[derive(Debug, Default)]
pub(super) struct Looking {
    under_way: bool,
    again: Option<Extent>,
    delay: Duration,
}

/// One glimpse at a time.
#[derive(Debug, Default)]
pub(super) struct Glimpsing {
    under_way: bool,
    again: bool,
}

impl Follower {
    /// Looks into namespaces, unless a visit is under way: then afterwards.
    pub(in super::super) fn look(&mut self, extent: Extent) {
        if self.looking.under_way {
            self.looking.again = self.looking.again.max(Some(extent));
            return;
        }
        self.look_at = None;
        let errand = Errand::new(&self.view, extent);
        if errand.is_empty() && self.stage != Stage::Looking {
            return;
        }
        self.looking.under_way = true;
        for container in errand.visited() {
            self.view.visiting(container);
        }
        let host = Arc::clone(&self.host);
        self.tasks.spawn(async move {
            let seen = tokio::task::spawn_blocking(move || errand.run(&host)).await;
            Answer::Looked(seen.unwrap_or_else(|error| Err(io::Error::other(error))))
        });
    }

    /// Finds the namespaces of those who are being started, unless that is under way: then again. A
    /// visit waits for whoever changes interfaces on this machine, a container's first instruction does
    /// not.
    pub(super) fn glimpse(&mut self) {
        if self.glimpsing.under_way {
            self.glimpsing.again = true;
            return;
        }
        let Some(glimpse) = Glimpse::new(&self.view) else {
            return;
        };
        self.glimpsing.under_way = true;
        let host = Arc::clone(&self.host);
        self.tasks.spawn(async move {
            let found = tokio::task::spawn_blocking(move || glimpse.take(&host)).await;
            Answer::Glimpsed(found.unwrap_or_else(|error| Err(io::Error::other(error))))
        });
    }

    pub(super) fn glimpsed(&mut self, sandboxes: Vec<Sandbox>) {
        self.glimpsing.under_way = false;
        if self.view.glimpsed(sandboxes) {
            (self.changed, self.early) = (true, true);
        }
        if std::mem::take(&mut self.glimpsing.again) {
            self.glimpse();
        }
    }

    pub(super) fn looked(&mut self, engine: &Engine, seen: Seen) {
        seen.tell(&mut self.view);
        self.looking.under_way = false;
        self.changed = true;
        if self.stage == Stage::Looking && self.looking.again != Some(Extent::All) {
            self.stage = Stage::Done;
            self.complete = true;
            self.publisher.following(&engine.detail);
        }
        // Before the next visit, so that a busy host does not keep an observation back.
        self.publish();
        if let Some(extent) = self.looking.again.take() {
            return self.look(extent);
        }
        if Errand::new(&self.view, Extent::Incomplete).is_empty() {
            self.looking.delay = Duration::ZERO;
        } else {
            let (first, longest) = LOOK_AGAIN;
            self.looking.delay = (self.looking.delay * 2).clamp(first, longest);
            self.look_at = Some(Instant::now() + self.looking.delay);
        }
    }

    /// Whether the visit under way is about to bring what an observation would lack.
    pub(super) fn is_about_to_see(&self) -> bool {
        self.looking.under_way && self.view.lacks_interfaces()
    }
}
