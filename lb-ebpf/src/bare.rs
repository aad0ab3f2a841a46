//! Packets of interfaces without Ethernet: WireGuard, tun and the like. They are read as if the header
//! were there, and get one when they go to a container.

use bytemuck::Pod;
use lb_common::Reason;

use crate::frame::{Checksum, Frame};
use crate::headers::ETHERNET;
use crate::way::{Route, Way};

/// A frame that begins with its network header, for reading alone: offsets are those that the packet
/// has behind an Ethernet header.
pub struct Bare<'f, F>(pub &'f F);

impl<F: Frame> Frame for Bare<'_, F> {
    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.0.ifindex()
    }

    #[inline(always)]
    fn came_from(&self) -> u32 {
        self.0.came_from()
    }

    #[inline(always)]
    fn protocol(&self) -> u16 {
        self.0.protocol()
    }

    #[inline(always)]
    fn ethertype(&self) -> Option<u16> {
        Some(self.0.protocol())
    }

    #[inline(always)]
    fn segment_size(&self) -> u32 {
        self.0.segment_size()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        self.0.now()
    }

    #[inline(always)]
    fn tick(&self) -> u64 {
        self.0.tick()
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        self.0.len() + ETHERNET
    }

    #[inline(always)]
    fn load<T: Pod>(&self, offset: u32) -> Option<T> {
        self.0.load(offset.checked_sub(ETHERNET)?)
    }

    fn route(&self, _: &mut Way) -> Route {
        Route::None
    }

    fn send_out(&mut self, _: &Way, _: Route) -> Result<(), Reason> {
        Err(Reason::RewriteFailed)
    }

    fn send_back(&mut self) {}

    fn store<T: Pod>(&mut self, _: u32, _: &T) -> Result<(), Reason> {
        Err(Reason::RewriteFailed)
    }

    fn store_summed<T: Pod>(&mut self, _: u32, _: &T) -> Result<(), Reason> {
        Err(Reason::RewriteFailed)
    }

    fn widen(&mut self, _: i32) -> Result<(), Reason> {
        Err(Reason::RewriteFailed)
    }

    fn patch_l4(&mut self, _: u32, _: u32, _: Checksum, _: bool) -> Result<(), Reason> {
        Err(Reason::RewriteFailed)
    }

    fn exchange_header(&mut self, _: bool) -> Result<(), Reason> {
        Err(Reason::RewriteFailed)
    }

    fn dress(&mut self, _: u16) -> Result<(), Reason> {
        Err(Reason::RewriteFailed)
    }

    fn resize(&mut self, _: u32) -> Result<(), Reason> {
        Err(Reason::RewriteFailed)
    }

    fn address_to_host(&mut self) -> Result<(), Reason> {
        Err(Reason::RewriteFailed)
    }
}
