//! What happens to single flows and single DNS queries, as it happens.

use std::io;
use std::marker::PhantomData;

use aya::maps::{Map, MapData, RingBuf};
use bytemuck::Pod;
use tokio::io::unix::AsyncFd;

use super::bpf;
use super::error::DatapathError;
use super::spec::Spec;

/// What the programs tell, each once: two streams of one instance share it.
pub struct EventStream<T> {
    ring: AsyncFd<RingBuf<MapData>>,
    types: PhantomData<fn() -> T>,
}

impl<T: Pod> EventStream<T> {
    /// Must be called within a tokio runtime.
    pub(super) fn new(map: &bpf::Map, spec: &Spec) -> Result<Self, DatapathError> {
        let open = || -> io::Result<Self> {
            let data = MapData::from_fd(map.try_clone()?.into()).map_err(io::Error::other)?;
            let map = Map::from_map_data(data).map_err(io::Error::other)?;
            let ring = RingBuf::try_from(map).map_err(io::Error::other)?;
            Ok(Self {
                ring: bpf::watch(ring)?,
                types: PhantomData,
            })
        };
        open().map_err(|source| DatapathError::Map {
            attempt: "listen to",
            map: spec.name,
            source,
        })
    }

    /// The next event, as soon as there is one. May be dropped at any time without losing one.
    pub async fn next(&mut self) -> io::Result<T> {
        loop {
            let mut ready = self.ring.readable_mut().await?;
            if let Some(item) = ready.get_inner_mut().next() {
                // A record of another size would be of a newer layout, which has other maps.
                if let Ok(event) = bytemuck::try_pod_read_unaligned(&item) {
                    return Ok(event);
                }
                continue;
            }
            ready.clear_ready();
        }
    }
}

impl<T> std::fmt::Debug for EventStream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}
