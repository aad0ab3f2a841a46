//! Membership from a Docker Engine.
//!
//! `engine` asks and listens, `facts` and `news` translate what it says, `inside` reads the kernel's
//! side of it, `view` holds everything that is known, `observe` makes an observation of that, and
//! `follow` joins them.

mod causes;
mod engine;
mod facts;
mod follow;
mod follower;
mod inside;
mod look;
mod news;
mod observe;
mod options;
mod phase;
mod ports;
mod reads;
mod signal;
mod view;

use std::path::PathBuf;
use std::time::Duration;

use super::{Feed, feed};

/// Which Engine is followed, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Engine's API socket.
    pub socket: PathBuf,
    /// How often everything is compared with what is known, in case news were lost.
    pub resync: Duration,
}

impl Default for Options {
    /// The socket of a plain installation, and a minute.
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/var/run/docker.sock"),
            resync: Duration::from_secs(60),
        }
    }
}

/// Follows an Engine without end. Served are the containers whose interfaces lead to the network
/// namespace of the calling thread, which must be within a tokio runtime.
pub fn start(options: Options) -> Feed {
    let (publisher, feed) = feed();
    tokio::spawn(follow::follow(options, publisher));
    feed
}

#[cfg(test)]
mod tests;
