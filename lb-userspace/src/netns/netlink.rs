//! A blocking rtnetlink socket.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Longest datagram that the kernel builds for a dump when the reader gives it this much room.
const BUFFER: usize = 64 * 1024;

/// How often a dump is begun again because the tables changed under it.
const ATTEMPTS: usize = 10;

/// A socket for requests to the namespace it was opened in, wherever it is used.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// A socket of the calling thread's namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// What `f` gives while the kernel heeds all of a dump's request.
    pub(super) fn strictly<T>(
        &mut self,
        f: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        self.socket.set_netlink_get_strict_chk(true)?;
        let result = f(self);
        self.socket.set_netlink_get_strict_chk(false)?;
        result
    }

    /// Sends a request that changes something, and waits for the kernel's word on it.
    pub(super) fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(message, flags | NLM_F_ACK)?;
        loop {
            for answer in self.receive()? {
                if let NetlinkPayload::Error(status) = answer.payload {
                    return status.code.map_or(Ok(()), |_| Err(status.to_io()));
                }
            }
        }
    }

    /// The one answer to a request that asks for one thing.
    pub(super) fn ask(&mut self, message: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        self.send(message, 0)?;
        loop {
            for answer in self.receive()? {
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => return Ok(message),
                    NetlinkPayload::Error(status) => return Err(status.to_io()),
                    _ => {}
                }
            }
        }
    }

    /// Everything that a dump request gives, as far as `keep` wants it. The messages themselves take a
    /// hundred times the room of what is kept of them.
    pub(super) fn dump<T>(
        &mut self,
        request: &RouteNetlinkMessage,
        keep: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..ATTEMPTS {
            if let Some(found) = self.dump_once(request.clone(), &keep)? {
                return Ok(found);
            }
        }
        Err(io::Error::other(
            "read the kernel's tables: they change faster than they can be read",
        ))
    }

    /// `None` when the tables changed in the middle.
    fn dump_once<T>(
        &mut self,
        request: RouteNetlinkMessage,
        keep: &impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Option<Vec<T>>> {
        self.send(request, NLM_F_DUMP)?;
        let mut found = Vec::new();
        let mut whole = true;
        loop {
            for answer in self.receive()? {
                whole &= answer.header.flags & NLM_F_DUMP_INTR == 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => found.extend(keep(message)),
                    NetlinkPayload::Done(_) => return Ok(whole.then_some(found)),
                    NetlinkPayload::Error(status) => return Err(status.to_io()),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// The messages of one datagram that answer the last request.
    fn receive(&mut self) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
        self.buffer.clear();
        self.socket.recv(&mut self.buffer, 0)?;
        let mut messages = parse(&self.buffer)?;
        messages.retain(|message| message.header.sequence_number == self.sequence);
        Ok(messages)
    }
}

impl AsRawFd for Netlink {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The messages of one datagram.
pub(super) fn parse(datagram: &[u8]) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
    let mut messages = Vec::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let length = (message.header.length as usize).next_multiple_of(4);
        rest = rest.get(length.max(4)..).unwrap_or(&[]);
        messages.push(message);
    }
    Ok(messages)
}
