//! Docker's NAT rules inside containers' namespaces, taken away and put back.
//!
//! Docker leads 127.0.0.11:53 to its own resolver by two chains in the NAT table of every container's
//! namespace, or by a table of nftables of its own. A single such rule has the kernel track each of
//! the container's packets. Where veer's programs lead the queries, nobody needs them.
//!
//! What is taken away is written down first, one file for each namespace, so that it comes back also
//! after a crash. Rules of others in the same table stay as they are.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use lb_common::{Port, Resolver};
use serde::{Deserialize, Serialize};

use super::tables::{self, Tool};
use crate::model::Netns;
use crate::netns::Namespace;

/// What was taken out of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub netns: Netns,
    tool: Tool,
    /// As the tool reads them.
    rules: String,
    /// Where Docker's resolver listens on 127.0.0.11.
    udp: u16,
    tcp: u16,
}

/// The files of one instance.
#[derive(Clone, Debug)]
pub struct Nat {
    folder: PathBuf,
}

impl Taken {
    /// `resolver`, and Docker's as the one to ask when veer is not there.
    pub fn beside(&self, resolver: Resolver) -> Resolver {
        Resolver {
            docker_udp: Port::new(self.udp),
            docker_tcp: Port::new(self.tcp),
            ..resolver
        }
    }
}

impl Nat {
    /// Those that are written down in `folder`, which need not be there.
    pub fn open(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Everything that is taken away now. What cannot be read is as nothing.
    pub fn all(&self) -> io::Result<Vec<Taken>> {
        let files = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            files => files?,
        };
        let mut all = Vec::new();
        for file in files {
            let text = fs::read(file?.path())?;
            all.extend(serde_json::from_slice::<Taken>(&text));
        }
        Ok(all)
    }

    /// Docker's rules inside `netns`; `None` if there are none (yet).
    pub fn find(&self, netns: &Netns) -> io::Result<Option<Taken>> {
        let found = Namespace::of(netns)?.run(tables::find)??;
        Ok(found.and_then(|(tool, rules)| {
            Some(Taken {
                netns: netns.clone(),
                tool,
                udp: tables::port(&rules, "udp")?,
                tcp: tables::port(&rules, "tcp")?,
                rules,
            })
        }))
    }

    /// Takes them away.
    pub fn take(&self, found: &Taken) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let file = self.file(found.netns.cookie);
        let new = file.with_extension("new");
        fs::write(&new, serde_json::to_vec(found)?)?;
        fs::rename(new, file)?;
        Namespace::of(&found.netns)?.run(|| found.tool.remove(&found.rules))?
    }

    /// Puts back what was taken out of the namespace, unless Docker has done so meanwhile or the
    /// namespace is gone. Whether it was put back.
    pub fn put_back(&self, taken: &Taken) -> io::Result<bool> {
        let restored = match Namespace::of(&taken.netns) {
            Ok(namespace) => namespace.run(|| taken.restore())??,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        fs::remove_file(self.file(taken.netns.cookie))?;
        Ok(restored)
    }

    /// Puts back everything. Goes on after an error, and tells the first one. Returns how many there were.
    pub fn put_all_back(&self) -> io::Result<usize> {
        let mut restored = 0;
        let mut result = Ok(());
        for taken in self.all()? {
            match self.put_back(&taken) {
                Ok(was_there) => restored += usize::from(was_there),
                Err(error) => result = result.and(Err(error)),
            }
        }
        result.map(|()| restored)
    }

    fn file(&self, cookie: u64) -> PathBuf {
        self.folder.join(format!("{cookie}.json"))
    }
}

impl Taken {
    /// Must be called inside.
    fn restore(&self) -> io::Result<bool> {
        let is_there = tables::find()?.is_some();
        if !is_there {
            self.tool.restore(&self.rules)?;
        }
        Ok(!is_there)
    }
}

#[cfg(test)]
mod tests;
