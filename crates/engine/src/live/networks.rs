//! `network connect` and `network disconnect`, for containers that run and for those that do not.

use super::target::Target;
use crate::Engine;
use crate::network;
use crate::record::{Lease, NamedNetwork};
use crate::request::Attachment;
use crate::supervise::control::{Connect, Request, Shape};
use tare_model::network::{Driver, Network, Subnet};
use tare_model::{Error, Kind, Result};
use tare_network::EndpointPlan;

const CONNECT: &str = "connect to network";
const DISCONNECT: &str = "disconnect from network";

/// What may be done to a container whose supervisor does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Nothing.
    No,
    /// Everything that the supervisor would do, but for what it alone holds.
    Yes,
}

impl Engine {
    /// Connects a container to one more network: at once if it runs, and at its next starts. Durable.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::AlreadyExists` if it is connected; `Kind::Invalid` for a container without a network stack
    /// of its own, or an address that the network does not have; `Kind::InUse` for one that is taken; what the kernel
    /// refuses. Nothing is changed then.
    pub fn network_connect(&self, network: &str, container: &str, wanted: &Attachment) -> Result<()> {
        let network = self.network_named(network)?;
        let mut target = self.target(container, CONNECT)?;
        target.require_own_stack(CONNECT)?;
        if target.record.leases.iter().any(|l| l.network == network.id) {
            return Err(Error::new(Kind::AlreadyExists, CONNECT, &network.name)
                .because(format!("container {} is connected to it already", target.record.name())));
        }
        let wanted = Attachment { network: network.name.clone(), ..wanted.clone() };
        target.change.half_done();
        let lease = match self.join(&target.record, &network, &wanted) {
            Err(e) => {
                target.change.whole();
                return Err(e);
            }
            Ok(lease) => lease,
        };
        // One for each lease, in the same order.
        target.record.request.attachments.resize(target.record.leases.len(), Attachment::default());
        target.record.request.attachments.push(wanted.clone());
        target.record.leases.push(lease.clone());
        let live = self.fault("leased").and_then(|()| self.connect_live(&target, &network, &wanted, &lease));
        if let Err(e) = live {
            return Err(self.give_up(target, &network.id, e));
        }
        self.fault("connected-live")?;
        target.write_record()?;
        target.change.whole();
        Ok(())
    }

    fn connect_live(&self, target: &Target, network: &Network, wanted: &Attachment, lease: &Lease) -> Result<()> {
        let Some(status) = &target.status else { return Ok(()) };
        let record = &target.record;
        let taken: Vec<&str> = status.endpoints.iter().map(|e| e.interface.as_str()).collect();
        let plan = self.plan_endpoint(record, network, wanted, lease, &taken)?;
        let bridge = (network.driver == Driver::Bridge).then(|| self.bridge_plan(network)).transpose()?;
        let then = self.shape_of(target)?;
        let (name, aliases) = (record.name().to_owned(), wanted.aliases.clone());
        let named = NamedNetwork::of(network);
        let connect = Connect { network: network.name.clone(), named, plan, bridge, name, aliases, then };
        self.ask(&record.id, &Request::Connect(Box::new(connect))).map(drop)
    }

    /// Gives the lease back, unless its device may still come to be.
    fn give_up(&self, mut target: Target, network: &str, e: Error) -> Error {
        // Why it failed is what is to be told.
        if e.kind() != Kind::Unavailable && self.store.leave_network(&target.record.id, network).is_ok() {
            target.change.whole();
        }
        e
    }

    /// Disconnects a container from a network: at once if it runs, and for its next starts. Established connections through
    /// it end. Durable.
    ///
    /// # Errors
    /// `Kind::NotFound` if there is no such container or network, or it is not connected; `Kind::Unavailable` if its
    /// supervisor does not answer and `force` does not say that it may go without.
    pub fn network_disconnect(&self, network: &str, container: &str, force: Force) -> Result<()> {
        let network = self.network_named(network)?;
        let mut target = self.target(container, DISCONNECT)?;
        let place = target.record.leases.iter().position(|l| l.network == network.id).ok_or_else(|| {
            Error::new(Kind::NotFound, DISCONNECT, &network.name)
                .because(format!("container {} is not connected to it", target.record.name()))
        })?;
        target.change.half_done();
        self.leave(&mut target, place, force)?;
        target.change.whole();
        drop(target);
        // With its last container, what a network has in the kernel goes.
        match network.driver {
            Driver::Bridge => self.release_bridge(&network.id, &self.bridge_plan(&network)?, None),
            _ => Ok(()),
        }
    }

    /// Ends a container's place in a network: device, description, lease, in this order.
    fn leave(&self, target: &mut Target, place: usize, force: Force) -> Result<()> {
        let lease = target.record.leases.remove(place);
        if place < target.record.request.attachments.len() {
            target.record.request.attachments.remove(place);
        }
        self.disconnect_live(target, &lease.network, force)?;
        self.fault("disconnected-live")?;
        target.write_record()?;
        self.fault("disconnected-recorded")?;
        self.store.leave_network(&target.record.id, &lease.network)
    }

    fn disconnect_live(&self, target: &Target, network: &str, force: Force) -> Result<()> {
        if target.status.is_none() {
            return Ok(());
        }
        let then = self.shape_of(target)?;
        let asked = self.ask(&target.record.id, &Request::Disconnect { network: network.to_owned(), then });
        match asked {
            Err(e) if matches!(e.kind(), Kind::Unavailable | Kind::Unsupported) && force == Force::Yes => {
                self.disconnect_from_here(&target.record.id, network, &self.shape_of(target)?)
            }
            // It ended meanwhile, and its devices with it.
            Err(e) if e.kind() == Kind::State => Ok(()),
            other => other.map(drop),
        }
    }

    /// What follows from all places that the description names.
    fn shape_of(&self, target: &Target) -> Result<Shape> {
        let places = self.places_of(&target.record)?;
        let places: Vec<_> = places.iter().map(|(p, _)| (&p.attachment, &p.network)).collect();
        let shape = network::Shape::of(&places);
        let route = |place: Option<usize>, subnet: fn(&Network) -> Option<&Subnet>| {
            let network = places[place?].1;
            Some((network.id.clone(), EndpointPlan::way_out(network, subnet(network)?)?))
        };
        Ok(Shape {
            routes: route(shape.v4, Network::v4).into_iter().chain(route(shape.v6, Network::v6)).collect(),
            carrier: shape.carrier.map(|i| places[i].1.id.clone()),
        })
    }

    /// Brings to its end what somebody who was killed left half done: a place of which either the device, the description
    /// or the lease is missing is none.
    pub(super) fn end_change(&self, target: &mut Target) -> Result<()> {
        let live = target.status.as_ref().map(|s| s.endpoints.iter().map(|e| e.network.clone()).collect::<Vec<_>>());
        // What runs without it was disconnected.
        if let Some(live) = &live {
            while let Some(place) = target.record.leases.iter().position(|l| !live.contains(&l.network)) {
                self.leave(target, place, Force::No)?;
            }
        }
        let named = |id: &String| target.record.leases.iter().any(|l| l.network == *id);
        for id in live.unwrap_or_default().iter().filter(|id| !named(id)) {
            self.disconnect_live(target, id, Force::No)?;
        }
        for id in self.store.container(&target.record.id)?.networks.iter().filter(|id| !named(id)) {
            self.store.leave_network(&target.record.id, id)?;
        }
        // A name that was changed may not have reached all who answer it.
        for lease in &target.record.leases {
            self.names_file(&lease.network).rename(&target.record.id, target.record.name())?;
        }
        self.agree_on_ports(target)
    }
}
