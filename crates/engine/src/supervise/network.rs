//! What a supervisor does on its container's networks: answers names, and carries what reaches published ports on `::1`.
//!
//! Everything waits behind one descriptor, so that the supervisor's loop knows of one thing only:
//!
//! ```text
//! poll ─► queue ─┬─► names: sockets in the container's namespace, questions under way
//!                └─► relay: published ports on ::1, connections, clients of datagrams
//! ```
//!
//! What there is to serve follows the status on disk: it is read at the beginning and after each change.

use crate::Engine;
use crate::record::{Naming, Status};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;
use tare_model::{Error, Result};
use tare_network::dns::{Listener, ServedNetwork, Server, Upstreams};
use tare_network::{PortMapping, Relay, Relayed, Transport};

const NAMES: u64 = 0;
const RELAY: u64 = 1;

/// The network side of a running container that has to be served.
#[derive(Debug, Default)]
pub(super) struct NetworkSide {
    /// Made with the first thing that waits behind it.
    queue: Option<OwnedFd>,
    names: Option<Server>,
    relay: Option<Relay>,
    /// Published ports that are carried.
    carried: Vec<(PortMapping, Relayed)>,
}

impl NetworkSide {
    /// Begins to answer names on what the launcher has made in the container's namespace.
    pub(super) fn answer_names(&mut self, listener: Listener) -> Result<()> {
        let server = Server::new(listener, Vec::new(), Upstreams::None)?;
        self.wait_for(server.as_fd(), NAMES)?;
        self.names = Some(server);
        Ok(())
    }

    /// The end of all but the answering of names.
    pub(super) fn into_names(self) -> Option<Server> {
        self.names
    }

    /// Serves what the status says from now on. `ports`: the published ones with the sockets that reserve them.
    pub(super) fn follow(&mut self, engine: &Engine, status: &Status, ports: &[(PortMapping, OwnedFd)]) -> Result<()> {
        if let (Some(server), Some(naming)) = (&mut self.names, &status.naming) {
            server.set_networks(served(engine, status, naming));
            server.set_upstreams(upstreams(status, naming)?);
        }
        self.carry(status, ports)
    }

    fn carry(&mut self, status: &Status, ports: &[(PortMapping, OwnedFd)]) -> Result<()> {
        let relay = &mut self.relay;
        self.carried.retain(|(port, relayed)| {
            let stays = ports.iter().any(|(p, _)| p == port);
            if let (false, Some(relay)) = (stays, relay.as_mut()) {
                relay.remove(*relayed);
            }
            stays
        });
        for (port, socket) in ports.iter().filter(|(_, socket)| is_to_be_carried(socket)) {
            let targets = targets(status, port);
            if let (Some((_, relayed)), Some(relay)) =
                (self.carried.iter().find(|(p, _)| p == port), self.relay.as_mut())
            {
                relay.retarget(*relayed, targets);
                continue;
            }
            if self.relay.is_none() {
                let relay = Relay::new()?;
                self.wait_for(relay.as_fd(), RELAY)?;
                self.relay = Some(relay);
            }
            let Some(relay) = &mut self.relay else { continue };
            let socket = socket.try_clone().map_err(|e| Error::io("duplicate", port, e))?;
            let relayed = match port.transport {
                Transport::Tcp => relay.add_stream(socket, targets)?,
                Transport::Udp => relay.add_datagram(socket, targets)?,
                Transport::Sctp => continue,
            };
            self.carried.push((*port, relayed));
        }
        Ok(())
    }

    fn wait_for(&mut self, fd: BorrowedFd<'_>, what: u64) -> Result<()> {
        let fail = |e| Error::io("create", "event queue", e);
        if self.queue.is_none() {
            self.queue = Some(epoll::create(CreateFlags::CLOEXEC).map_err(fail)?);
        }
        let Some(queue) = &self.queue else { return Ok(()) };
        epoll::add(queue, fd, EventData::new_u64(what), EventFlags::IN).map_err(fail)
    }

    /// Readable when there is something to do; `None` while nothing is served.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.queue.as_ref().map(AsFd::as_fd)
    }

    /// When there is something to do even if the descriptor does not become readable.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let names = self.names.as_ref().and_then(Server::deadline);
        names.into_iter().chain(self.relay.as_ref().and_then(Relay::deadline)).min()
    }

    /// Does what there is to do.
    pub(super) fn work(&mut self) {
        let Some(queue) = &self.queue else { return };
        let mut ready: Vec<Event> = Vec::with_capacity(4);
        let at_once = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = epoll::wait(queue, rustix::buffer::spare_capacity(&mut ready), Some(&at_once));
        // Who has more to do at once says *now*, which is later than any moment taken before asking.
        let due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= Instant::now());
        let is_ready = |what| ready.iter().any(|e| e.data.u64() == what);
        if let Some(server) = self.names.as_mut().filter(|s| is_ready(NAMES) || due(s.deadline())) {
            server.work();
        }
        if let Some(relay) = self.relay.as_mut().filter(|r| is_ready(RELAY) || due(r.deadline())) {
            relay.work();
        }
    }
}

/// The networks that the container is on and whose names are answered.
fn served(engine: &Engine, status: &Status, naming: &Naming) -> Vec<ServedNetwork> {
    let networks = status.endpoints.iter().filter_map(|e| naming.networks.iter().find(|n| n.id == e.network));
    let answered = networks.filter(|n| n.names);
    answered.map(|n| ServedNetwork { name: n.name.clone(), names: engine.names_file(&n.id) }).collect()
}

/// Who is asked for other names: those given for the container; else the host's servers, unless all its networks are
/// internal.
fn upstreams(status: &Status, naming: &Naming) -> Result<Upstreams> {
    if !naming.servers.is_empty() {
        let path = format!("/proc/{}/ns/net", status.pid);
        // The supervisor is its parent: the number is its own until it is reaped.
        let netns = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::io("open", path, e))?;
        return Ok(Upstreams::given(&naming.servers, netns));
    }
    let leads_out = |id: &str| naming.networks.iter().any(|n| n.id == id && !n.internal);
    let out = status.endpoints.iter().any(|e| leads_out(&e.network));
    Ok(if out { Upstreams::host() } else { Upstreams::None })
}

/// Where a published port leads: the addresses of the container in the network that carries its ports, IPv4 first,
/// since a program that listens on one family only mostly does on that one.
fn targets(status: &Status, port: &PortMapping) -> Vec<SocketAddr> {
    let carrier = status.endpoints.iter().find(|e| e.ports.contains(port));
    let addresses = carrier.into_iter().flat_map(|e| &e.addresses).map(|net| net.address());
    let mut targets: Vec<_> = addresses.map(|ip| SocketAddr::new(ip, port.container_port)).collect();
    targets.sort_by_key(SocketAddr::is_ipv6);
    targets
}

/// Whether a socket that reserves a port gets what is for `::1`: one of IPv6, on that address or on all, that takes
/// connections or datagrams.
fn is_to_be_carried(socket: &OwnedFd) -> bool {
    use rustix::net::{SocketType, getsockname, sockopt};
    let local = getsockname(socket).ok().and_then(|a| SocketAddr::try_from(a).ok()).map(|a| a.ip());
    let here = [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    local.is_some_and(|ip| here.contains(&ip))
        && match sockopt::socket_type(socket) {
            Ok(SocketType::STREAM) => sockopt::socket_acceptconn(socket) == Ok(true),
            Ok(kind) => kind == SocketType::DGRAM,
            Err(_) => false,
        }
}
