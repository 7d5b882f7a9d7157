//! Datagrams from this host to a published port on `::1`, carried to the container and back.
//!
//! Each client gets a socket of its own towards the container, so that answers find their way back to it; one that says
//! nothing and hears nothing for a while is forgotten, as connection tracking does.

use crate::slots::Slots;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, recvfrom, send, sendto, socket_with,
};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// What an event is about: the upper 8 bits of its number. The rest is a key.
pub(crate) const KIND: u32 = 56;
pub(crate) const DATAGRAMS: u64 = 3;
const FLOW: u64 = 4;

/// As long as netfilter remembers a UDP client that was answered (nf_conntrack_udp_timeout_stream).
const IDLE: Duration = Duration::from_secs(120);
/// How often idle ones are looked for.
const SWEEP: Duration = Duration::from_secs(30);
/// Clients at a time; one more takes the place of the one that was silent for longest.
const MOST_FLOWS: usize = 512;
/// Datagrams taken one after another before anything else is looked at.
const MOST_AT_ONCE: usize = 64;
/// The largest datagram.
const LARGEST: usize = u16::MAX as usize;

/// Ports and their clients.
#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    ports: Slots<Port>,
    flows: Slots<Flow>,
    by_client: HashMap<(u64, SocketAddr), u64>,
    sweep_at: Option<Instant>,
    /// Room for one datagram. Pages of it that none has reached cost nothing.
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Port {
    socket: OwnedFd,
    targets: Vec<SocketAddr>,
    /// The number of the target that is taken.
    first: usize,
}

/// One client.
#[derive(Debug)]
struct Flow {
    port: u64,
    client: SocketAddr,
    /// Connected to the container.
    socket: OwnedFd,
    /// The number of the address that it is connected to.
    target: usize,
    used_at: Instant,
}

impl Datagrams {
    pub(crate) fn add(
        &mut self,
        queue: &OwnedFd,
        socket: OwnedFd,
        targets: Vec<SocketAddr>,
    ) -> rustix::io::Result<u64> {
        ioctl_fionbio(&socket, true)?;
        let key = self.ports.insert(Port { socket, targets, first: 0 });
        let Some(port) = self.ports.get(key) else { return Ok(key) };
        let added = epoll::add(queue, &port.socket, EventData::new_u64(DATAGRAMS << KIND | key), EventFlags::IN);
        if added.is_err() {
            self.ports.remove(key);
        }
        added.map(|()| key)
    }

    pub(crate) fn remove(&mut self, queue: &OwnedFd, key: u64) {
        if let Some(port) = self.ports.remove(key) {
            // Told explicitly: the queue goes on looking as long as anybody has the socket.
            let _ = epoll::delete(queue, &port.socket);
        }
        let of_port: Vec<u64> = self.flows.iter().filter(|(_, f)| f.port == key).map(|(key, _)| key).collect();
        of_port.into_iter().for_each(|flow| self.forget(flow));
    }

    pub(crate) fn retarget(&mut self, key: u64, targets: Vec<SocketAddr>) {
        if let Some(port) = self.ports.get_mut(key) {
            (port.targets, port.first) = (targets, 0);
        }
    }

    fn forget(&mut self, key: u64) {
        if let Some(flow) = self.flows.remove(key) {
            self.by_client.remove(&(flow.port, flow.client));
        }
    }

    /// Takes what clients have sent to a port.
    pub(crate) fn take_from_clients(&mut self, queue: &OwnedFd, key: u64, now: Instant) {
        for _ in 0..MOST_AT_ONCE {
            let Some(port) = self.ports.get(key) else { return };
            self.buffer.clear();
            self.buffer.reserve_exact(LARGEST);
            let room = rustix::buffer::spare_capacity(&mut self.buffer);
            let from = match recvfrom(&port.socket, room, RecvFlags::empty()) {
                Ok((_, _, from)) => from.and_then(|a| SocketAddr::try_from(a).ok()),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return,
                // What a client's ICMP message says of an answer that we sent: the next one may be there.
                Err(_) => continue,
            };
            // From ::1 means to ::1: nothing else leads there, and the kernel drops it from outside. The rest is the
            // rules' to carry, and reaches this socket only where they do not want it.
            let local = IpAddr::V6(Ipv6Addr::LOCALHOST);
            if let Some(client) = from.filter(|c| c.ip() == local) {
                self.carry(queue, key, client, now);
            }
        }
    }

    /// Sends the datagram in the buffer to the container.
    fn carry(&mut self, queue: &OwnedFd, port: u64, client: SocketAddr, now: Instant) {
        // Twice: the first may be told that the one before it was refused, and is not sent then.
        for _ in 0..2 {
            let Some(key) = self.flow(queue, port, client, now) else { return };
            let Some(flow) = self.flows.get(key) else { return };
            match send(&flow.socket, &self.buffer, SendFlags::empty()) {
                Err(Errno::CONNREFUSED) => self.refused(key),
                // Lost, as datagrams may be.
                _ => return,
            }
        }
    }

    /// The client's flow, begun if need be.
    fn flow(&mut self, queue: &OwnedFd, port: u64, client: SocketAddr, now: Instant) -> Option<u64> {
        if let Some(key) = self.by_client.get(&(port, client)) {
            self.flows.get_mut(*key)?.used_at = now;
            return Some(*key);
        }
        if self.flows.len() >= MOST_FLOWS {
            let silent = self.flows.iter().min_by_key(|(_, f)| f.used_at).map(|(key, _)| key)?;
            self.forget(silent);
        }
        let (target, socket) = self.ports.get(port)?.connect()?;
        let key = self.flows.insert(Flow { port, client, socket, target, used_at: now });
        let data = EventData::new_u64(FLOW << KIND | key);
        if epoll::add(queue, &self.flows.get(key)?.socket, data, EventFlags::IN).is_err() {
            self.flows.remove(key);
            return None;
        }
        self.by_client.insert((port, client), key);
        self.sweep_at.get_or_insert(now + SWEEP);
        Some(key)
    }

    /// Nobody listens at the container's address that this client was sent to: from now on the next one is taken.
    fn refused(&mut self, key: u64) {
        if let Some(flow) = self.flows.get(key)
            && let Some(port) = self.ports.get_mut(flow.port)
            && !port.targets.is_empty()
        {
            port.first = (flow.target + 1) % port.targets.len();
        }
        self.forget(key);
    }

    /// Takes what the container has sent to a client.
    pub(crate) fn take_from_container(&mut self, key: u64, now: Instant) {
        for _ in 0..MOST_AT_ONCE {
            let Some(flow) = self.flows.get_mut(key) else { return };
            self.buffer.clear();
            self.buffer.reserve_exact(LARGEST);
            let room = rustix::buffer::spare_capacity(&mut self.buffer);
            match recv(&flow.socket, room, RecvFlags::empty()) {
                Ok(_) => {
                    flow.used_at = now;
                    let client = flow.client;
                    if let Some(port) = self.ports.get(flow.port) {
                        let _ = sendto(&port.socket, &self.buffer, SendFlags::empty(), &client);
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::CONNREFUSED) => return self.refused(key),
                Err(_) => return,
            }
        }
    }

    /// When idle clients are to be looked for.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// Forgets clients that have been silent for long enough.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.sweep_at.is_none_or(|at| at > now) {
            return;
        }
        let idle: Vec<u64> = self.flows.iter().filter(|(_, f)| f.used_at + IDLE <= now).map(|(key, _)| key).collect();
        idle.into_iter().for_each(|key| self.forget(key));
        if self.flows.len() == 0 {
            // What a burst needed is not kept.
            self.by_client = HashMap::new();
            self.buffer = Vec::new();
        }
        self.sweep_at = (self.flows.len() > 0).then_some(now + SWEEP);
    }

    #[cfg(test)]
    pub(crate) fn flows(&self) -> usize {
        assert_eq!(self.flows.len(), self.by_client.len());
        self.flows.len()
    }
}

impl Port {
    /// A socket connected to the target that is taken, or the next one that there is a way to.
    fn connect(&self) -> Option<(usize, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        (0..self.targets.len()).find_map(|n| {
            let at = (self.first + n) % self.targets.len();
            let target = self.targets.get(at)?;
            let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = socket_with(family, SocketType::DGRAM, flags, None).ok()?;
            connect(&socket, target).ok().map(|()| (at, socket))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn silent_clients_are_forgotten_and_only_they() {
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let (port, container) = (UdpSocket::bind("[::1]:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let address = port.local_addr().unwrap();
        let mut datagrams = Datagrams::default();
        let key = datagrams.add(&queue, port.into(), vec![container.local_addr().unwrap()]).unwrap();
        assert_eq!(datagrams.deadline(), None);
        let clients: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("[::1]:0").unwrap()).collect();
        let begun = Instant::now();
        for client in &clients {
            client.send_to(b"x", address).unwrap();
        }
        datagrams.take_from_clients(&queue, key, begun);
        assert_eq!((datagrams.flows(), datagrams.deadline()), (3, Some(begun + SWEEP)));
        clients[0].send_to(b"x", address).unwrap();
        datagrams.take_from_clients(&queue, key, begun + IDLE / 2);
        datagrams.expire(begun + IDLE);
        assert_eq!(datagrams.flows(), 1);
        datagrams.expire(begun + IDLE * 2);
        assert_eq!((datagrams.flows(), datagrams.deadline()), (0, None));
        for _ in 0..MOST_FLOWS + 9 {
            UdpSocket::bind("[::1]:0").unwrap().send_to(b"x", address).unwrap();
            datagrams.take_from_clients(&queue, key, begun);
        }
        assert_eq!(datagrams.flows(), MOST_FLOWS);
        datagrams.remove(&queue, key);
        assert_eq!(datagrams.flows(), 0);
    }
}
