//! Connections from this host to a published port on `::1`, carried to the container by its supervisor.
//!
//! IPv6 has no counterpart of `route_localnet`: a packet to `::1` can never leave the loopback device, whatever it is
//! translated to. So what reaches a published port there is accepted here, and bytes are moved from socket to socket
//! inside the kernel, through a pipe (splice(2)). Nothing else takes this way: other addresses are translated by rules.
//!
//! ```text
//! client on ::1 ─► accepted socket ═ pipe ═► connected socket ─► container
//!              ◄─                 ◄═ pipe ═                   ◄─
//! ```
//!
//! A side that ends its output ends that of the other, once all before it is delivered; the other direction goes on. A
//! side that takes nothing is sent nothing: what waits for it fills one pipe, then the kernel's buffers, then the sender
//! is held back. A pipe is held only while bytes are in it, so an idle connection costs two descriptors.
//!
//! Datagrams are carried by the same [`Relay`], see [`crate::datagrams`].

use crate::datagrams::{DATAGRAMS, Datagrams, KIND};
use crate::slots::Slots;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, accept_with, connect, getsockname, shutdown, socket_with, sockopt,
};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use tare_model::{Error, Result};

/// What one pipe holds. More per turn costs nothing; unprivileged users may have so much.
const PIPE: usize = 256 * 1024;
/// Pipes kept for the next bytes.
const SPARE_PIPES: usize = 4;
/// Bytes moved for one connection before the others have their turn.
const TURN: usize = 4 * PIPE;
/// Connections accepted one after another before anything else is looked at.
const MOST_AT_ONCE: usize = 64;
/// No descriptor, no memory: so long until the next look.
const PAUSE: Duration = Duration::from_millis(100);

// Beside those of `datagrams`.
const LISTENER: u64 = 0;
const CLIENT: u64 = 1;
const SERVER: u64 = 2;

/// Carries connections and datagrams from `::1` to containers. Its descriptor is readable when there is something to do
/// ([`Relay::work`]); [`Relay::deadline`] tells when there is, even if it does not become readable.
#[derive(Debug)]
pub struct Relay {
    epoll: OwnedFd,
    listeners: Slots<Listener>,
    pairs: Slots<Pair>,
    datagrams: Datagrams,
    pipes: Vec<Pipe>,
    /// Connections that had their turn and have more to move.
    again: Vec<u64>,
    /// Listeners that are not looked at until then.
    paused: Vec<(u64, Instant)>,
}

/// A published port of a [`Relay`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Relayed(Which, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Which {
    Stream,
    Datagram,
}

#[derive(Debug)]
struct Listener {
    socket: OwnedFd,
    targets: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Pipe {
    from: OwnedFd,
    into: OwnedFd,
}

/// A client and its connection to the container.
#[derive(Debug)]
struct Pair {
    listener: u64,
    client: OwnedFd,
    server: OwnedFd,
    /// The target that is being connected to; `None` once it is.
    connecting: Option<usize>,
    up: Flow,
    down: Flow,
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// Held while there are bytes in it.
    pipe: Option<Pipe>,
    held: usize,
    /// The source has no more.
    ended: bool,
    /// The sink was told so.
    closed: bool,
}

impl Relay {
    /// Carries nothing yet.
    ///
    /// # Errors
    /// If the kernel gives no event queue.
    pub fn new() -> Result<Relay> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|e| Error::io("create", "event queue", e))?;
        Ok(Relay {
            epoll,
            listeners: Slots::default(),
            pairs: Slots::default(),
            datagrams: Datagrams::default(),
            pipes: Vec::new(),
            again: Vec::new(),
            paused: Vec::new(),
        })
    }

    /// Carries connections that `listener`, a listening TCP socket of IPv6, gets on `::1`; others that it gets are closed.
    ///
    /// Each goes to the first of `targets` that accepts it. The caller may keep descriptors of the same socket.
    ///
    /// # Errors
    /// If the socket cannot be watched.
    pub fn add_stream(&mut self, listener: OwnedFd, targets: Vec<SocketAddr>) -> Result<Relayed> {
        let key = self.listeners.insert(Listener { socket: listener, targets });
        let listening = self.listen(key);
        if listening.is_err() {
            self.listeners.remove(key);
        }
        listening.map(|()| Relayed(Which::Stream, key)).map_err(|e| Error::io("watch", "published port", e))
    }

    /// Carries datagrams that `socket`, a UDP socket of IPv6, gets from `::1`; others that it gets are dropped.
    ///
    /// They go to the first of `targets`, to the next one when the container says that nobody listens there.
    ///
    /// # Errors
    /// If the socket cannot be watched.
    pub fn add_datagram(&mut self, socket: OwnedFd, targets: Vec<SocketAddr>) -> Result<Relayed> {
        let key =
            self.datagrams.add(&self.epoll, socket, targets).map_err(|e| Error::io("watch", "published port", e))?;
        Ok(Relayed(Which::Datagram, key))
    }

    /// Takes no more connections and datagrams for this port. Connections that are open go on.
    pub fn remove(&mut self, port: Relayed) {
        match port {
            Relayed(Which::Stream, key) => {
                self.unlisten(key);
                self.paused.retain(|(paused, _)| *paused != key);
                self.listeners.remove(key);
            }
            Relayed(Which::Datagram, key) => self.datagrams.remove(&self.epoll, key),
        }
    }

    /// New connections, and clients not heard before, go to these from now on.
    pub fn retarget(&mut self, port: Relayed, targets: Vec<SocketAddr>) {
        match port {
            Relayed(Which::Stream, key) => {
                if let Some(listener) = self.listeners.get_mut(key) {
                    listener.targets = targets;
                }
            }
            Relayed(Which::Datagram, key) => self.datagrams.retarget(key, targets),
        }
    }

    /// When [`Relay::work`] must be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        if !self.again.is_empty() {
            return Some(Instant::now());
        }
        let paused = self.paused.iter().map(|(_, until)| *until);
        paused.chain(self.datagrams.deadline()).min()
    }

    /// Does what there is to do.
    pub fn work(&mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(64);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        if epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&at_once)).is_err() {
            return;
        }
        let now = Instant::now();
        let mut busy = std::mem::take(&mut self.again);
        for event in events {
            let (number, flags) = (event.data.u64(), event.flags);
            let key = number & !(0xff << KIND);
            match number >> KIND {
                LISTENER => self.accept(key, now),
                SERVER if self.pairs.get(key).is_some_and(|p| p.connecting.is_some()) => {
                    if flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
                        self.connected(key);
                        busy.push(key);
                    }
                }
                CLIENT | SERVER => busy.push(key),
                DATAGRAMS => self.datagrams.take_from_clients(&self.epoll, key, now),
                _ => self.datagrams.take_from_container(key, now),
            }
        }
        busy.sort_unstable();
        busy.dedup();
        busy.into_iter().for_each(|key| self.carry(key));
        self.datagrams.expire(now);
        let due: Vec<u64> = self.paused.iter().filter(|(_, until)| *until <= now).map(|(key, _)| *key).collect();
        self.paused.retain(|(_, until)| *until > now);
        for key in due {
            if self.listen(key).is_err() {
                self.paused.push((key, now + PAUSE));
            }
        }
    }

    fn listen(&self, key: u64) -> rustix::io::Result<()> {
        let Some(listener) = self.listeners.get(key) else { return Ok(()) };
        ioctl_fionbio(&listener.socket, true)?;
        epoll::add(&self.epoll, &listener.socket, EventData::new_u64(LISTENER << KIND | key), EventFlags::IN)
    }

    /// Told explicitly: the queue goes on looking as long as anybody has the socket.
    fn unlisten(&self, key: u64) {
        if let Some(listener) = self.listeners.get(key) {
            let _ = epoll::delete(&self.epoll, &listener.socket);
        }
    }

    /// Connections must not take the descriptors that everything else of this process needs: one has up to six.
    fn is_full(&self) -> bool {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        self.pairs.len() as u64 >= limit / 8
    }

    fn accept(&mut self, key: u64, now: Instant) {
        for _ in 0..MOST_AT_ONCE {
            let Some(listener) = self.listeners.get(key) else { return };
            match accept_with(&listener.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(client) => {
                    let local = getsockname(&client).ok().and_then(|a| SocketAddr::try_from(a).ok());
                    if local.is_some_and(|a| a.ip() == IpAddr::V6(Ipv6Addr::LOCALHOST)) && !self.is_full() {
                        self.open(key, client);
                    } else {
                        refuse(&client);
                    }
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    // Not to spin is all that can be done.
                    self.unlisten(key);
                    self.paused.push((key, now + PAUSE));
                    return;
                }
            }
        }
    }

    /// Begins to connect an accepted client to the container.
    fn open(&mut self, listener: u64, client: OwnedFd) {
        let targets = self.listeners.get(listener).map(|l| l.targets.clone()).unwrap_or_default();
        let Some((at, server)) = connect_from(&targets, 0) else { return refuse(&client) };
        let _ = sockopt::set_tcp_nodelay(&client, true);
        let pair = Pair { listener, client, server, connecting: Some(at), up: Flow::default(), down: Flow::default() };
        let key = self.pairs.insert(pair);
        if self.watch(key, CLIENT).and_then(|()| self.watch(key, SERVER)).is_err() {
            self.reset(key);
        }
    }

    /// Edges, not levels: both directions are carried until neither goes on, so nothing is ever waited for by name.
    fn watch(&self, key: u64, kind: u64) -> rustix::io::Result<()> {
        let Some(pair) = self.pairs.get(key) else { return Ok(()) };
        let socket = if kind == CLIENT { &pair.client } else { &pair.server };
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, socket, EventData::new_u64(kind << KIND | key), flags)
    }

    /// The container has accepted, or not: then its next address is tried.
    fn connected(&mut self, key: u64) {
        let Some(pair) = self.pairs.get_mut(key) else { return };
        let Some(at) = pair.connecting else { return };
        if sockopt::socket_error(&pair.server) == Ok(Ok(())) {
            pair.connecting = None;
            return;
        }
        let targets = self.listeners.get(pair.listener).map(|l| l.targets.as_slice()).unwrap_or_default();
        let Some((at, server)) = connect_from(targets, at + 1) else { return self.reset(key) };
        // Closes the one that was refused, which takes it out of the queue.
        (pair.server, pair.connecting) = (server, Some(at));
        if self.watch(key, SERVER).is_err() {
            self.reset(key);
        }
    }

    /// Moves what can be moved in both directions.
    fn carry(&mut self, key: u64) {
        let Some(pair) = self.pairs.get_mut(key).filter(|p| p.connecting.is_none()) else { return };
        let up = pair.up.carry(&pair.client, &pair.server, &mut self.pipes);
        let down = pair.down.carry(&pair.server, &pair.client, &mut self.pipes);
        match (up, down) {
            (Ok(_), Ok(_)) if pair.up.closed && pair.down.closed => drop(self.pairs.remove(key)),
            (Ok(more_up), Ok(more_down)) => {
                if more_up || more_down {
                    self.again.push(key);
                }
            }
            _ => self.reset(key),
        }
    }

    /// Both sides learn that the other is gone without having ended.
    fn reset(&mut self, key: u64) {
        if let Some(pair) = self.pairs.remove(key) {
            refuse(&pair.client);
            refuse(&pair.server);
        }
    }

    /// Connections that are open, clients of datagrams, and pipes: held in connections, and kept.
    #[cfg(test)]
    pub(crate) fn load(&self) -> (usize, usize, usize) {
        let held = |f: &Flow| usize::from(f.pipe.is_some());
        let pipes: usize = self.pairs.iter().map(|(_, p)| held(&p.up) + held(&p.down)).sum();
        (self.pairs.len(), self.datagrams.flows(), pipes + self.pipes.len())
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Flow {
    /// Moves bytes until the source has none, the sink takes none, or the turn is over; true for the last.
    fn carry(&mut self, source: &OwnedFd, sink: &OwnedFd, pipes: &mut Vec<Pipe>) -> Result<bool, Errno> {
        let mut moved = 0;
        while !self.closed {
            if self.held == 0 && !self.ended {
                let pipe = match self.pipe.take().or_else(|| pipes.pop()) {
                    Some(pipe) => pipe,
                    None => Pipe::new()?,
                };
                let got = splice(source, None, &pipe.into, None, PIPE, SpliceFlags::MOVE | SpliceFlags::NONBLOCK);
                self.pipe = Some(pipe);
                match got {
                    Ok(0) => self.ended = true,
                    Ok(n) => self.held = n,
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(e),
                }
            }
            if let (Some(pipe), true) = (&self.pipe, self.held > 0) {
                let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                match splice(&pipe.from, None, sink, None, self.held, flags) {
                    // The pipe is never empty here; not to loop if the kernel thinks otherwise.
                    Ok(0) => return Err(Errno::PIPE),
                    Ok(n) => {
                        self.held -= n.min(self.held);
                        moved += n;
                    }
                    Err(Errno::AGAIN) => return Ok(false),
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(e),
                }
            }
            if self.ended && self.held == 0 {
                self.closed = true;
                // The other end may be gone altogether: then its direction says so.
                let _ = shutdown(sink, Shutdown::Write);
            }
            if moved >= TURN {
                return Ok(true);
            }
        }
        if let Some(pipe) = self.pipe.take().filter(|_| self.held == 0 && pipes.len() < SPARE_PIPES) {
            pipes.push(pipe);
        }
        Ok(false)
    }
}

impl Pipe {
    fn new() -> Result<Pipe, Errno> {
        let (from, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A small one works, too.
        let _ = fcntl_setpipe_size(&into, PIPE);
        Ok(Pipe { from, into })
    }
}

/// A connection, under way or there, to the first of `targets` from number `at` on that can be tried.
fn connect_from(targets: &[SocketAddr], at: usize) -> Option<(usize, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    targets.iter().enumerate().skip(at).find_map(|(at, target)| {
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, flags, None).ok()?;
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        match connect(&socket, target) {
            Ok(()) | Err(Errno::INPROGRESS) => Some((at, socket)),
            Err(_) => None,
        }
    })
}

/// The peer is told *reset*, not *end*, when the socket is closed.
fn refuse(socket: &OwnedFd) {
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
