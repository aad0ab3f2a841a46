//! Looking into many namespaces at once.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use super::inside::{Inside, Sandbox, glimpse, search};
use super::phase::Phase;
use super::view::View;
use crate::model::ContainerId;
use crate::netns::{Links, Namespace, for_each_with};

/// What is to be looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Errand {
    /// Containers whose namespace is known.
    visits: Vec<(ContainerId, PathBuf)>,
    search: Option<Search>,
}

/// Where the namespaces are whose containers are not known yet.
#[derive(Debug, PartialEq, Eq)]
struct Search {
    folder: Option<PathBuf>,
    known: BTreeSet<PathBuf>,
}

/// Where containers that are being started may be, to be known before the look has its turn.
#[derive(Debug)]
pub(super) struct Glimpse(Search);

impl Glimpse {
    /// `None` if nobody's namespace is unknown.
    pub(super) fn new(view: &View) -> Option<Self> {
        Errand::new(view, Extent::Incomplete).search.map(Self)
    }

    /// Takes it, from the host's namespace. Blocks for some 0.1 ms a namespace.
    pub(super) fn take(self, host: &Namespace) -> io::Result<Vec<Sandbox>> {
        let Self(wanted) = self;
        glimpse(&mut host.links()?, wanted.folder.as_deref(), &wanted.known)
    }
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    visits: Vec<(ContainerId, Result<Inside, String>)>,
    found: Vec<Inside>,
}

/// Which containers are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Extent {
    /// Those that lack an interface.
    #[default]
    Incomplete,
    All,
}

impl Errand {
    pub(super) fn new(view: &View, extent: Extent) -> Self {
        let mut errand = Self::default();
        let mut missing = false;
        for (id, known) in view.attached() {
            if extent == Extent::Incomplete && !view.is_incomplete(id, known) {
                continue;
            }
            let found = known.inside.as_ref().map(|inside| &inside.netns.path);
            // What the last inspection said is about the run before this one.
            let told = known
                .facts
                .as_ref()
                .and_then(|facts| facts.sandbox.as_ref());
            match found.or(told.filter(|_| known.phase != Phase::Starting)) {
                Some(path) => errand.visits.push((id.clone(), path.clone())),
                None => missing = true,
            }
        }
        if missing {
            errand.search = Some(Search {
                folder: view.sandbox_folder(),
                known: view.sandboxes(),
            });
        }
        errand
    }

    /// The containers whose namespaces are visited.
    pub(super) fn visited(&self) -> impl Iterator<Item = &ContainerId> {
        self.visits.iter().map(|(id, _)| id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.visits.is_empty() && self.search.is_none()
    }

    /// Looks, from the host's namespace. Blocks for some 0.2 ms a namespace.
    pub(super) fn run(self, host: &Namespace) -> io::Result<Seen> {
        let found = match &self.search {
            Some(wanted) => search(&mut host.links()?, wanted.folder.as_deref(), &wanted.known)?,
            None => Vec::new(),
        };
        let look = |links: &mut io::Result<Links>, (id, path): &(ContainerId, PathBuf)| {
            let links = links.as_mut();
            let links = links.map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
            let seen = Inside::look(links, path).map_err(|error| error.to_string());
            Ok((id.clone(), seen))
        };
        let visits = for_each_with(&self.visits, || host.links(), look);
        Ok(Seen {
            visits: visits.into_iter().collect::<io::Result<_>>()?,
            found,
        })
    }
}

impl Seen {
    /// Takes in everything that was seen.
    pub(super) fn tell(self, view: &mut View) {
        for (id, seen) in self.visits {
            view.looked(&id, seen);
        }
        for inside in self.found {
            view.claim(inside);
        }
    }
}
