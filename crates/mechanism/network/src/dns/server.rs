//! The server of one container: answers what its networks know, passes the rest on. Never waits.

use super::answer::{self, Zone};
use super::forward::{Attempt, Client, Forward, Outcome};
use super::inside::Listener;
use super::message::{Query, Reject, code_of};
use super::names::{NamesFile, WatchedNames};
use super::stream::{IDLE, Stream};
use super::upstream::{Distrust, Upstreams};
use crate::slots::Slots;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recvfrom, sendto};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tare_model::{Error, Result};

/// Questions that wait for other servers at a time; more are answered with a failure at once.
const MOST_FORWARDS: usize = 128;
/// Connections at a time; one more takes the place of the one that was idle for longest.
const MOST_STREAMS: usize = 64;
/// Datagrams taken one after another before anything else is looked at.
const MOST_AT_ONCE: usize = 64;
/// No descriptor, no memory: so long until the next look.
const PAUSE: Duration = Duration::from_millis(100);
/// The largest message.
const LARGEST: usize = u16::MAX as usize;

/// What an event is about: the upper 8 bits of its number. The rest is a key.
const KIND: u32 = 56;
const UDP: u64 = 0;
const TCP: u64 = 1;
const STREAM: u64 = 2;
const ATTEMPT: u64 = 3;

/// One of the container's networks.
#[derive(Debug, Clone)]
pub struct ServedNetwork {
    /// The name by which users know it.
    pub name: String,
    /// Who is on it.
    pub names: NamesFile,
}

#[derive(Debug)]
struct Network {
    name: String,
    names: WatchedNames,
}

/// Serves a container's questions. Its descriptor is readable when there is something to do ([`Server::work`]), and
/// [`Server::deadline`] tells when there is, even if it does not become readable.
#[derive(Debug)]
pub struct Server {
    epoll: OwnedFd,
    listener: Listener,
    networks: Vec<Network>,
    upstreams: Upstreams,
    distrust: Distrust,
    forwards: Slots<Forward>,
    attempts: Slots<Attempt>,
    streams: Slots<Stream>,
    /// Where the next list of addresses begins.
    turn: usize,
    /// Connections with questions that were read, but not looked at.
    again: Vec<u64>,
    /// Connections are not accepted until then.
    paused_until: Option<Instant>,
    /// Room for one message. Pages of it that no message has reached cost nothing.
    buffer: Vec<u8>,
}

impl Server {
    /// Begins to serve.
    ///
    /// # Errors
    /// If the kernel gives no event queue.
    pub fn new(listener: Listener, networks: Vec<ServedNetwork>, upstreams: Upstreams) -> Result<Server> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|e| Error::io("create", "event queue", e))?;
        for (socket, kind) in [(&listener.udp, UDP), (&listener.tcp, TCP)] {
            epoll::add(&epoll, socket, EventData::new_u64(kind << KIND), EventFlags::IN)
                .map_err(|e| Error::io("watch", "DNS socket", e))?;
        }
        let mut turn = [0; 4];
        // Among many containers that ask once, each shall get another address first. Any number will do.
        let _ = rustix::rand::getrandom(&mut turn, rustix::rand::GetRandomFlags::empty());
        let mut server = Server {
            epoll,
            listener,
            networks: Vec::new(),
            upstreams,
            distrust: Distrust::default(),
            forwards: Slots::default(),
            attempts: Slots::default(),
            streams: Slots::default(),
            turn: u32::from_ne_bytes(turn) as usize,
            again: Vec::new(),
            paused_until: None,
            buffer: Vec::new(),
        };
        server.set_networks(networks);
        Ok(server)
    }

    /// Replaces the networks whose names are known, in the order in which they are looked through.
    pub fn set_networks(&mut self, networks: Vec<ServedNetwork>) {
        let watch = |n: ServedNetwork| Network { name: n.name, names: WatchedNames::new(n.names.path()) };
        self.networks = networks.into_iter().map(watch).collect();
    }

    /// Replaces those who are asked what the networks do not know; questions under way go on as they are.
    pub fn set_upstreams(&mut self, upstreams: Upstreams) {
        self.upstreams = upstreams;
    }

    /// When [`Server::work`] must be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        if !self.again.is_empty() {
            return Some(Instant::now());
        }
        let forwards = self.forwards.iter().map(|(_, f)| f.due());
        let streams = self.streams.iter().map(|(_, s)| s.used_at + IDLE);
        forwards.chain(streams).chain(self.paused_until).min()
    }

    /// Does what there is to do.
    pub fn work(&mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(32);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let room = rustix::buffer::spare_capacity(&mut events);
        if epoll::wait(&self.epoll, room, Some(&at_once)).is_err() {
            return;
        }
        let now = Instant::now();
        for event in events {
            let flags = event.flags;
            let key = event.data.u64() & !(0xff << KIND);
            match event.data.u64() >> KIND {
                UDP => self.take_datagrams(now),
                TCP => self.accept(now),
                STREAM if flags.intersects(EventFlags::HUP | EventFlags::ERR) => self.close(key),
                STREAM => self.serve(key, now),
                _ => self.hear(key, now),
            }
        }
        for key in std::mem::take(&mut self.again) {
            self.serve(key, now);
        }
        self.keep_time(now);
    }

    fn take_datagrams(&mut self, now: Instant) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.reserve_exact(LARGEST);
        for _ in 0..MOST_AT_ONCE {
            buffer.clear();
            let room = rustix::buffer::spare_capacity(&mut buffer);
            match recvfrom(&self.listener.udp, room, RecvFlags::empty()) {
                Ok((_, _, from)) => {
                    if let Some(from) = from.and_then(|a| SocketAddr::try_from(a).ok()) {
                        self.asked(Client::Datagram(from), &buffer, now);
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        self.buffer = buffer;
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..MOST_AT_ONCE {
            match accept_with(&self.listener.tcp, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => {
                    if self.streams.len() >= MOST_STREAMS {
                        let idle = self.streams.iter().min_by_key(|(_, s)| (s.waiting > 0, s.used_at));
                        if let Some(key) = idle.map(|(key, _)| key) {
                            self.close(key);
                        }
                    }
                    let key = self.streams.insert(Stream::new(socket, now));
                    if let Some(stream) = self.streams.get(key) {
                        let data = EventData::new_u64(STREAM << KIND | key);
                        if epoll::add(&self.epoll, &stream.socket, data, stream.interest).is_err() {
                            self.streams.remove(key);
                            continue;
                        }
                    }
                    // A client sends its question with the third packet of the handshake, or right behind it.
                    self.serve(key, now);
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    // Not to spin is all that can be done.
                    let _ = epoll::delete(&self.epoll, &self.listener.tcp);
                    self.paused_until = Some(now + PAUSE);
                    return;
                }
            }
        }
    }

    /// Answers what a connection has asked.
    fn serve(&mut self, key: u64, now: Instant) {
        let mut more = MOST_AT_ONCE;
        while let Some(question) = self.streams.get_mut(key).filter(|_| more > 0).and_then(Stream::next) {
            more -= 1;
            if let Some(stream) = self.streams.get_mut(key) {
                stream.used_at = now;
            }
            self.asked(Client::Stream(key), &question, now);
        }
        self.settle(key);
    }

    /// Sends what a connection takes, and waits for what it then wants; closes it when that is nothing.
    fn settle(&mut self, key: u64) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.flush();
        if stream.is_done() {
            self.close(key);
            return;
        }
        if stream.has_question() {
            self.again.push(key);
        }
        let wants = stream.wants();
        if wants != stream.interest {
            stream.interest = wants;
            let _ = epoll::modify(&self.epoll, &stream.socket, EventData::new_u64(STREAM << KIND | key), wants);
        }
    }

    /// Questions of a connection that is closed are not waited for.
    fn close(&mut self, key: u64) {
        self.streams.remove(key);
        let left: Vec<u64> =
            self.forwards.iter().filter(|(_, f)| f.client == Client::Stream(key)).map(|(key, _)| key).collect();
        for forward in left {
            self.end(forward);
        }
    }

    /// Answers one message, or passes it on.
    fn asked(&mut self, client: Client, message: &[u8], now: Instant) {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(Reject::Silent) => return,
            Err(Reject::Reply(reply)) => return self.tell(client, &reply),
        };
        let limit = match client {
            Client::Datagram(_) => query.limit(),
            Client::Stream(_) => LARGEST,
        };
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn;
        let zones: Vec<Zone<'_>> =
            self.networks.iter_mut().map(|n| Zone { network: &n.name, names: n.names.current() }).collect();
        match answer::answer(&query, &zones, turn, limit) {
            Some(reply) => self.tell(client, &reply),
            None if !self.upstreams.ask() => self.tell(client, &answer::no_such_name(&query)),
            None => self.pass_on(client, &query, now),
        }
    }

    fn tell(&mut self, client: Client, reply: &[u8]) {
        match client {
            // A client that is gone, or takes no more, asks again if it wants to know.
            Client::Datagram(to) => drop(sendto(&self.listener.udp, reply, SendFlags::empty(), &to)),
            Client::Stream(key) => {
                if let Some(stream) = self.streams.get_mut(key) {
                    stream.answer(reply);
                }
            }
        }
    }

    fn pass_on(&mut self, client: Client, query: &Query<'_>, now: Instant) {
        if self.forwards.iter().any(|(_, f)| f.is(client, query.bytes)) {
            return;
        }
        let servers = self.distrust.order(self.upstreams.servers(), now);
        if servers.is_empty() || self.forwards.len() >= MOST_FORWARDS {
            return self.tell(client, &answer::failed(query));
        }
        let key = self.forwards.insert(Forward::new(client, query.bytes, &servers, now));
        if let Client::Stream(stream) = client
            && let Some(stream) = self.streams.get_mut(stream)
        {
            stream.waiting += 1;
        }
        self.ask_next(key, now);
    }

    /// Asks the next server that can be asked. When none is left and nobody is asked any more, says so to the client.
    fn ask_next(&mut self, key: u64, now: Instant) {
        loop {
            let Some(forward) = self.forwards.get_mut(key) else { return };
            let Some(server) = forward.next_server(now) else { break };
            let asked = match self.upstreams.netns() {
                Some(netns) => tare_kernel::netlink::in_network_namespace(netns.as_fd(), || forward.ask(key, server))
                    .and_then(|result| result),
                None => forward.ask(key, server),
            };
            let Ok(attempt) = asked else { continue };
            let flags = if attempt.sends() { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            let number = self.attempts.insert(attempt);
            let data = EventData::new_u64(ATTEMPT << KIND | number);
            let added = self.attempts.get(number).map(|a| epoll::add(&self.epoll, &a.socket, data, flags));
            if added.is_some_and(|r| r.is_ok()) {
                forward.attempts.push(number);
                return;
            }
            self.attempts.remove(number);
        }
        if self.forwards.get(key).is_some_and(|f| f.attempts.is_empty()) {
            self.give_up(key);
        }
    }

    /// Something has come from a server, or will not.
    fn hear(&mut self, number: u64, now: Instant) {
        let Some(attempt) = self.attempts.get_mut(number) else { return };
        let sent_all = !attempt.sends();
        self.buffer.reserve_exact(LARGEST.saturating_sub(self.buffer.len()));
        let outcome = attempt.go_on(&mut self.buffer);
        if !sent_all && !attempt.sends() {
            let data = EventData::new_u64(ATTEMPT << KIND | number);
            let _ = epoll::modify(&self.epoll, &attempt.socket, data, EventFlags::IN);
        }
        let (key, id, server, datagram) = (attempt.forward, attempt.id, attempt.server, attempt.is_datagram());
        let Some(forward) = self.forwards.get_mut(key) else { return };
        let fitting = |a: &[u8]| forward.query().is_some_and(|q| q.is_answered_by(id, a));
        match outcome {
            Outcome::Waits => return,
            // Forged, or late: the true one may still come.
            Outcome::Answer(answer) if datagram && !fitting(&answer) => return,
            Outcome::Answer(answer) if fitting(&answer) => {
                self.distrust.has_answered(server);
                // It cannot (2), does not know how (4), does not want to (5): another one may.
                if !matches!(code_of(&answer), 2 | 4 | 5) {
                    let (client, answer) = (forward.client, forward.answer(answer));
                    self.tell(client, &answer);
                    return self.end(key);
                }
                forward.refused(answer);
            }
            Outcome::Answer(_) | Outcome::Failed => self.distrust.has_failed(server, now),
        }
        forward.leave_out(number, server);
        self.attempts.remove(number);
        self.ask_next(key, now);
    }

    fn give_up(&mut self, key: u64) {
        let Some(forward) = self.forwards.get(key) else { return };
        let (client, word) = (forward.client, forward.last_word());
        if let Some(word) = word {
            self.tell(client, &word);
        }
        self.end(key);
    }

    /// Forgets a question that was passed on; its client has been told, or is gone.
    fn end(&mut self, key: u64) {
        let Some(forward) = self.forwards.remove(key) else { return };
        for attempt in forward.attempts {
            self.attempts.remove(attempt);
        }
        if let Client::Stream(key) = forward.client
            && let Some(stream) = self.streams.get_mut(key)
        {
            stream.waiting = stream.waiting.saturating_sub(1);
            self.settle(key);
        }
    }

    /// What is due: the next server, the last word, the end of idle connections.
    fn keep_time(&mut self, now: Instant) {
        let due: Vec<u64> = self.forwards.iter().filter(|(_, f)| f.due() <= now).map(|(key, _)| key).collect();
        for key in due {
            let Some(forward) = self.forwards.get(key) else { continue };
            if forward.ends_at <= now {
                self.give_up(key);
                continue;
            }
            let silent = forward.attempts.last().and_then(|a| self.attempts.get(*a)).map(|a| a.server);
            if let Some(server) = silent {
                self.distrust.has_failed(server, now);
            }
            self.ask_next(key, now);
        }
        let idle = |s: &Stream| s.used_at + IDLE <= now;
        let idle: Vec<u64> = self.streams.iter().filter(|(_, s)| idle(s)).map(|(key, _)| key).collect();
        for key in idle {
            self.close(key);
        }
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
            let data = EventData::new_u64(TCP << KIND);
            if epoll::add(&self.epoll, &self.listener.tcp, data, EventFlags::IN).is_err() {
                self.paused_until = Some(now + PAUSE);
            }
        }
    }

    /// How many questions wait for other servers, and how many connections there are.
    #[cfg(test)]
    pub(super) fn load(&self) -> (usize, usize) {
        assert!(self.attempts.len() >= self.forwards.len());
        (self.forwards.len(), self.streams.len())
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
