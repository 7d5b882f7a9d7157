//! Waiting for what the kernel finishes on its own after it has answered: no longer than that, and not by the clock.

use crate::address::Route;
use crate::channel::Channel;
use crate::device::{Device, Link};
use rustix::io::Errno;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};
use tare_model::Result;

const LIMIT: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_micros(100);

/// What must be so before a first packet gets through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settled<'a> {
    /// Devices whose carrier is our own doing: they will be operational.
    pub(crate) devices: &'a [u32],
    /// Devices whose carrier depends on a cable: waited for only where it is there.
    pub(crate) wired: &'a [u32],
    /// Addresses that are being added to a device.
    pub(crate) addresses: &'a [Ipv6Addr],
}

impl Channel {
    /// Returns once packets that are sent through `devices` are not dropped any more, and what is sent to `addresses` is
    /// delivered.
    ///
    /// A queue becomes active with the carrier, in a worker of the kernel's some 100 µs later; a first packet lost there
    /// would cost its sender a second. The question itself makes the kernel do it since 6.8; before, ask until it is
    /// done. An IPv6 address, too, is put to use by a worker: until then an answer to its first packet, which finds the
    /// neighbour, is not delivered. Does not fail when it never is so: someone may have set a device down.
    pub(crate) fn settle(&mut self, wanted: Settled<'_>) -> Result<()> {
        let end = Instant::now() + LIMIT;
        while !self.is_settled(wanted)? && Instant::now() < end {
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn is_settled(&mut self, wanted: Settled<'_>) -> Result<bool> {
        let mut batch = self.batch();
        for index in wanted.devices.iter().chain(wanted.wired) {
            batch.get_link(Device::Index(*index), &[Errno::NODEV]);
        }
        let devices = batch.pending.len();
        wanted.addresses.iter().for_each(|address| batch.ask_route(IpAddr::V6(*address)));
        if batch.pending.is_empty() {
            return Ok(true);
        }
        let answers = self.transact(&batch)?;
        let works = |link: Link| link.operational || wanted.wired.contains(&link.index) && !link.carrier;
        // To an address that is being added, the route of its network leads: with none at all it was taken away again.
        let gone = answers.fine_failures.iter().filter(|i| **i >= devices).count();
        let local = answers.messages().filter_map(|m| Route::parse(&m)).filter(|route| route.local).count();
        Ok(answers.messages().filter_map(|m| Link::parse(&m)).all(works) && local + gone == wanted.addresses.len())
    }
}
