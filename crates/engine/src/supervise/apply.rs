//! Changes of a running container's networks and ports, made by its supervisor.
//!
//! The status on disk is the only list of what there is: it is read at the beginning of a change, and written before a
//! thing is made and after it is gone.

use super::control::{Connect, Live, Shape};
use crate::record::{Dirs, Status};
use crate::{Engine, network};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use tare_model::{Context, Error, Kind, Result};
use tare_network::{Endpoint, EndpointKind, Host, PortMapping, PortWish, reserve_ports};

/// What one change has at hand.
struct Scene {
    dirs: Dirs,
    status: Status,
    host: Host,
    /// The container's.
    netns: OwnedFd,
}

impl Engine {
    /// Does without the supervisor what it would do if it could be asked.
    pub(crate) fn disconnect_from_here(&self, id: &str, network: &str, then: &Shape) -> Result<()> {
        Live::new(self, id, Vec::new()).disconnect(network, then)
    }
}

impl Live<'_> {
    fn scene(&self) -> Result<Scene> {
        let dirs = self.engine.dirs(&self.id);
        let status = dirs.status()?.ok_or_else(|| {
            Error::new(Kind::Corrupt, "change", "container").because("the list of what it has in the kernel is missing")
        })?;
        let path = format!("/proc/{}/ns/net", status.pid);
        // The supervisor is its parent: the number is its own until it is reaped.
        let netns = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::io("open", path, e).with_kind(Kind::State))?;
        Ok(Scene { dirs, status, host: Host::open()?, netns })
    }

    /// Whether there is something in the host's firewall for this container.
    pub(super) fn has_rules(&self) -> bool {
        self.engine.dirs(&self.id).status().ok().flatten().is_some_and(|status| !status.bridges.is_empty())
    }

    /// Makes anew what others have deleted. What cannot be now is tried at the next deletion, and by `network reload`.
    pub(super) fn restore(&self) {
        let _ = self.engine.restore_networks(&self.id);
    }

    pub(super) fn connect(&mut self, wanted: &Connect) -> Result<()> {
        let mut scene = self.scene()?;
        let mut plan = wanted.plan.clone();
        if scene.status.endpoints.iter().any(|e| e.network == plan.network) {
            return Err(Error::new(Kind::AlreadyExists, "connect to network", &wanted.network)
                .because("it is connected already"));
        }
        let before = Shape::of(&scene.status);
        // Keeps away who would remove the bridge.
        let _wanted = self.engine.want_network(&plan.network)?;
        if let Some(bridge) = &wanted.bridge {
            scene.host.ensure_bridge(bridge)?;
        }
        self.engine.lend(&self.id, &mut plan)?;
        scene.status.bridges.extend(wanted.bridge.clone());
        if let Some(naming) = &mut scene.status.naming {
            naming.networks.retain(|n| n.id != wanted.named.id);
            naming.networks.push(wanted.named.clone());
        }
        scene.status.endpoints.push(Endpoint { gateways: Vec::new(), ports: Vec::new(), ..plan.endpoint() });
        scene.write()?;
        self.engine.fault("connect-intent")?;
        match scene.host.connect(&plan, scene.netns.as_fd()) {
            Ok(endpoint) => {
                scene.status.endpoints.pop();
                scene.status.endpoints.push(Endpoint { gateways: Vec::new(), ports: Vec::new(), ..endpoint });
            }
            Err(e) => {
                let _ = self.engine.take_device_back(&self.id, plan.lent.as_ref(), scene.netns.as_fd());
                let _ = scene.forget_endpoint(&plan.network);
                return Err(e);
            }
        }
        if plan.lent.is_some() {
            self.namespace = Some(scene.netns.try_clone().during("duplicate", "network namespace")?);
        }
        // Known only now: the number that a lent device has inside, whatever it is called later.
        let known = scene.write().and_then(|()| self.engine.fault("connected"));
        let rest = known.and_then(|()| scene.take_shape(&wanted.then)).and_then(|()| {
            let endpoint = scene.status.endpoints.last().ok_or_else(|| Error::new(Kind::NotFound, "connect", ""))?;
            self.engine.enter_name(endpoint, &self.id, &wanted.name, &wanted.aliases)?;
            scene.write()
        });
        if let Err(e) = rest {
            let _ = self.engine.strike_name(&plan.network, &self.id);
            let _ = scene.remove(&plan.network, &before);
            let _ = self.engine.take_device_back(&self.id, plan.lent.as_ref(), scene.netns.as_fd());
            return Err(e);
        }
        Ok(())
    }

    pub(super) fn disconnect(&mut self, id: &str, then: &Shape) -> Result<()> {
        let mut scene = self.scene()?;
        self.engine.fault("disconnect")?;
        // Nobody is to be led to an address that is about to go.
        self.engine.strike_name(id, &self.id)?;
        let lent = scene.status.endpoints.iter().find(|e| e.network == id).and_then(|e| e.lent.clone());
        scene.remove(id, then)?;
        self.engine.take_device_back(&self.id, lent.as_ref(), scene.netns.as_fd())
    }

    pub(super) fn publish(&mut self, wanted: &[PortWish]) -> Result<Vec<PortMapping>> {
        let taken = reserve_ports(wanted)?;
        let mut scene = self.scene()?;
        let carrier = scene.carrier().ok_or_else(|| {
            Error::new(Kind::State, "publish port", taken.ports.first().map(ToString::to_string).unwrap_or_default())
                .because("the container is in no network through which it could be reached from outside")
                .hint("connect it to a network with a bridge that is not internal: tare network connect NETWORK CONTAINER")
        })?;
        scene.status.ports.extend(network::port_views(&taken.ports));
        scene.status.endpoints[carrier].ports.extend(&taken.ports);
        scene.write()?;
        self.engine.fault("publish-intent")?;
        let endpoint = scene.status.endpoints[carrier].clone();
        if let Err(e) = scene.host.publish(&endpoint, &taken.ports) {
            let _ = scene.host.unpublish(&endpoint, &taken.ports);
            scene.forget(&taken.ports);
            let _ = scene.write();
            return Err(e);
        }
        self.ports.extend(taken.sockets.into_iter().map(|socket| (socket.port, socket.fd)));
        Ok(taken.ports)
    }

    /// Connections that are established go on: only their first packet was looked up.
    pub(super) fn withdraw(&mut self, ports: &[PortMapping]) -> Result<Vec<PortMapping>> {
        let mut scene = self.scene()?;
        let there = scene.status.ports.iter().map(network::port_mapping);
        let gone: Vec<_> = there.filter(|p| ports.contains(p)).collect();
        for endpoint in &scene.status.endpoints {
            let of_it: Vec<_> = endpoint.ports.iter().copied().filter(|p| gone.contains(p)).collect();
            scene.host.unpublish(endpoint, &of_it)?;
        }
        self.engine.fault("withdrawn")?;
        scene.forget(&gone);
        scene.write()?;
        // Last: what nobody leads to us any more may be another's.
        self.ports.retain(|(port, _)| !gone.contains(port));
        Ok(gone)
    }
}

impl Scene {
    fn write(&self) -> Result<()> {
        self.dirs.write_status(&self.status)
    }

    /// Where published ports lead: where they do already, or else the first network that is reached from outside.
    fn carrier(&self) -> Option<usize> {
        let open = |e: &Endpoint| {
            let EndpointKind::Bridge { bridge, .. } = &e.kind else { return false };
            self.status.bridges.iter().any(|b| b.bridge == *bridge && !b.policy.internal)
        };
        let endpoints = &self.status.endpoints;
        endpoints.iter().position(|e| !e.ports.is_empty()).or_else(|| endpoints.iter().position(open))
    }

    /// Takes a network's device away, and gives the others the shape that they then have.
    fn remove(&mut self, id: &str, then: &Shape) -> Result<()> {
        let Some(endpoint) = self.status.endpoints.iter().find(|e| e.network == id) else { return Ok(()) };
        self.host.disconnect(endpoint, Some(self.netns.as_fd()))?;
        self.forget_endpoint(id)?;
        let shaped = self.take_shape(then);
        self.write().and(shaped)
    }

    fn forget_endpoint(&mut self, network: &str) -> Result<()> {
        let Some(i) = self.status.endpoints.iter().position(|e| e.network == network) else { return Ok(()) };
        let endpoint = self.status.endpoints.remove(i);
        if let EndpointKind::Bridge { bridge, .. } = &endpoint.kind {
            self.status.bridges.retain(|b| b.bridge != *bridge);
        }
        self.write()
    }

    fn forget(&mut self, ports: &[PortMapping]) {
        self.status.ports.retain(|p| !ports.contains(&network::port_mapping(p)));
        self.status.endpoints.iter_mut().for_each(|e| e.ports.retain(|p| !ports.contains(p)));
    }

    /// Moves default routes and published ports to where they belong now. The status follows, and is not yet written.
    fn take_shape(&mut self, then: &Shape) -> Result<()> {
        for six in [false, true] {
            let of_family = |(_, gateway): &&(String, std::net::IpAddr)| gateway.is_ipv6() == six;
            let now = Shape::of(&self.status).routes.iter().find(of_family).cloned();
            let next = then.routes.iter().find(of_family).cloned();
            // The kernel may be without IPv6, or the container.
            let has = |e: &Endpoint| e.addresses.iter().any(|a| a.address().is_ipv6() == six);
            let place = |network: &str| self.status.endpoints.iter().position(|e| e.network == network && has(e));
            let target = next.as_ref().and_then(|(network, _)| place(network));
            if now == next && target.is_some() {
                continue;
            }
            match (target, &next) {
                (Some(i), Some((_, gateway))) => {
                    self.host.lead_out(self.netns.as_fd(), &self.status.endpoints[i], *gateway)?;
                }
                _ if now.is_some() => self.host.lead_nowhere(self.netns.as_fd(), six)?,
                _ => {}
            }
            for endpoint in &mut self.status.endpoints {
                endpoint.gateways.retain(|g| g.is_ipv6() != six);
            }
            if let (Some(i), Some((_, gateway))) = (target, next) {
                self.status.endpoints[i].gateways.push(gateway);
            }
        }
        self.carry_ports(then.carrier.as_deref())
    }

    fn carry_ports(&mut self, carrier: Option<&str>) -> Result<()> {
        let all: Vec<_> = self.status.ports.iter().map(network::port_mapping).collect();
        for i in 0..self.status.endpoints.len() {
            let endpoint = &mut self.status.endpoints[i];
            let wanted = if Some(endpoint.network.as_str()) == carrier { all.clone() } else { Vec::new() };
            let (old, new) = (endpoint.clone(), wanted);
            let gone: Vec<_> = old.ports.iter().copied().filter(|p| !new.contains(p)).collect();
            let more: Vec<_> = new.iter().copied().filter(|p| !old.ports.contains(p)).collect();
            endpoint.ports = new;
            self.host.unpublish(&old, &gone)?;
            if !more.is_empty() {
                self.host.publish(&old, &more)?;
            }
        }
        Ok(())
    }
}

impl Shape {
    /// What a container has now.
    fn of(status: &Status) -> Shape {
        let routes = status.endpoints.iter().flat_map(|e| e.gateways.iter().map(|g| (e.network.clone(), *g)));
        let carrier = status.endpoints.iter().find(|e| !e.ports.is_empty());
        Shape { routes: routes.collect(), carrier: carrier.map(|e| e.network.clone()) }
    }
}
