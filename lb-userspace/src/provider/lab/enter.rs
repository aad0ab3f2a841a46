//! Running a command in a lab's container.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::netns::Namespace;

use super::{Lab, LabError};

/// What a container's resolver reads, as in Docker's user-defined networks.
const RESOLV_CONF: &str = "nameserver 127.0.0.11\noptions ndots:0\n";

impl Lab {
    /// Runs `command` in `container`, with this process's input and output, and waits for its end.
    pub fn exec(&self, container: &str, command: &[String]) -> Result<ExitStatus, LabError> {
        let record = self.record()?.ok_or(LabError::NotUp)?;
        if record.container(container).is_none() {
            let names: Vec<_> = record.containers.iter().map(|c| c.name.as_str()).collect();
            return Err(LabError::NoContainer {
                name: container.to_string(),
                known: names.join(", "),
            });
        }
        let mut command = self.command(command);
        let attempted = || format!("run {:?} in container {container}", command.get_program());
        let attempted = attempted();
        let namespace = Namespace::open(&self.netns_path(container))?;
        self.inside(&namespace, || command.spawn())
            .and_then(|mut child| child.wait())
            .map_err(LabError::io(|| attempted))
    }

    /// A command in which the word `veer` at the beginning means this very program.
    pub(super) fn command(&self, words: &[String]) -> Command {
        let (first, rest) = words
            .split_first()
            .map_or(("", words), |(first, rest)| (first.as_str(), rest));
        let mut command = match first {
            "veer" => Command::new(&self.program),
            other => Command::new(other),
        };
        command.args(rest);
        command
    }

    /// What `f` returns on a thread that sees the container's network, and its resolver's address in
    /// `/etc/resolv.conf`. Processes started by `f` see the same.
    pub(super) fn inside<T: Send>(
        &self,
        namespace: &Namespace,
        f: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        namespace.run(|| {
            self.unshare_mounts()?;
            f()
        })?
    }

    fn unshare_mounts(&self) -> io::Result<()> {
        let no_text: Option<&str> = None;
        let is_slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(no_text, "/", no_text, is_slave, no_text)?;
        // A copy of these mounts would keep every container's namespace as long as this one runs.
        umount2(&self.netns_folder(), MntFlags::MNT_DETACH)?;
        let resolv_conf = self.folder.join("resolv.conf");
        mount(
            Some(&resolv_conf),
            Path::new("/etc/resolv.conf"),
            no_text,
            MsFlags::MS_BIND,
            no_text,
        )
        .map_err(|errno| {
            let what = "bind a container's resolv.conf over /etc/resolv.conf";
            io::Error::new(io::Error::from(errno).kind(), format!("{what}: {errno}"))
        })
    }

    pub(super) fn write_resolv_conf(&self) -> Result<(), LabError> {
        let path = self.folder.join("resolv.conf");
        fs::write(&path, RESOLV_CONF).map_err(LabError::io(|| format!("write {}", path.display())))
    }
}
