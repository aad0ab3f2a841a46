//! The names that the kernel answers.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use lb_common::dns::{AnswerKey, Counts, NamedAnswer, View};

use super::error::DatapathError;
use super::expedite::{ShortLink, expedited};
use super::filters::{Filter, HOOKED};
use super::maps::{Maps, PerCpu, Table};
use super::programs::DNS_LO;
use super::{Datapath, Hook, LOOPBACK, bpf, clock};
use crate::dns::Kernel;
use crate::model::Netns;
use crate::netns::Namespace;

/// The maps of `dns_lo`.
#[derive(Debug)]
pub struct Names {
    sockets: Table<i32, u64>,
    views: Table<u64, View>,
    answers: Table<AnswerKey, NamedAnswer>,
    counts: PerCpu<Counts>,
}

/// `dns_lo` on one namespace's loopback interface, until this goes. It keeps no namespace alive.
#[derive(Debug)]
pub struct Loopback {
    _held: Held,
}

/// What keeps it there.
#[derive(Debug)]
enum Held {
    Link { _link: ShortLink },
    Filter { _filter: Filter },
}

impl Datapath {
    /// The maps of `dns_lo`.
    pub fn names(&self) -> Result<Names, DatapathError> {
        Names::new(&self.maps)
    }

    /// Lets the kernel answer inside `netns`, by what the maps say of it.
    pub fn answer_inside(&self, netns: &Netns) -> io::Result<Loopback> {
        if self.hook == Hook::Clsact {
            let _filter = self.filters.attach(netns, &self.pins)?;
            return Ok(Loopback {
                _held: Held::Filter { _filter },
            });
        }
        let program = self.programs.get(DNS_LO);
        let program = program.map_err(io::Error::other)?;
        let namespace = Namespace::of(netns)?;
        let attach = || expedited(|| bpf::attach_tcx(program, LOOPBACK, HOOKED.side));
        let _link = namespace.run(attach)??.into();
        Ok(Loopback {
            _held: Held::Link { _link },
        })
    }
}

impl Names {
    fn new(maps: &Maps) -> Result<Self, DatapathError> {
        Ok(Self {
            sockets: maps.dns_sockets.try_clone()?,
            views: maps.dns_views.try_clone()?,
            answers: maps.dns_answers.try_clone()?,
            counts: maps.dns_counts.try_clone()?,
        })
    }
}

impl Kernel for Names {
    fn claim(&self, socket: BorrowedFd<'_>, cookie: u64) -> io::Result<()> {
        let claimed = self.sockets.put(&socket.as_raw_fd(), &cookie);
        claimed.map_err(io::Error::other)
    }

    fn put_view(&self, cookie: u64, view: &View) -> io::Result<()> {
        self.views.put(&cookie, view).map_err(io::Error::other)
    }

    fn remove_view(&self, cookie: u64) -> io::Result<()> {
        self.views
            .remove(&cookie)
            .map(drop)
            .map_err(io::Error::other)
    }

    fn answer(&self, key: &AnswerKey) -> io::Result<Option<NamedAnswer>> {
        self.answers.get(key).map_err(io::Error::other)
    }

    fn put_answer(&self, key: &AnswerKey, answer: &NamedAnswer) -> io::Result<()> {
        self.answers.put(key, answer).map_err(io::Error::other)
    }

    fn remove_answer(&self, key: &AnswerKey) -> io::Result<()> {
        self.answers.remove(key).map(drop).map_err(io::Error::other)
    }

    fn clear(&self) -> io::Result<()> {
        let cleared = self.views.clear().and_then(|()| self.answers.clear());
        cleared.map_err(io::Error::other)
    }

    fn counts(&self, table: u32) -> io::Result<Counts> {
        let all = self.counts.get(table).map_err(io::Error::other)?;
        Ok(all.into_iter().fold(Counts::default(), |sum, one| Counts {
            answered: sum.answered + one.answered,
            empty: sum.empty + one.empty,
            absent: sum.absent + one.absent,
        }))
    }

    fn now(&self) -> io::Result<u64> {
        clock::now()
    }
}
