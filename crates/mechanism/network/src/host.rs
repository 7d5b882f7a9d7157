//! The host's network stack: one handle over the netlink sockets, and the verbs.

use crate::{BridgePlan, BridgeRemoval, BridgeReport, Endpoint, EndpointPlan, Instance, Occupied};
use rustix::fd::BorrowedFd;
use serde::{Deserialize, Serialize};
use tare_model::Result;

/// The network namespace of the thread that opened it, through netlink.
#[derive(Debug)]
pub struct Host {}

/// What a device has carried since it was made, as in `struct rtnl_link_stats64`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Name of the device inside.
    pub interface: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Bad packets received.
    pub rx_errors: u64,
    /// Packets dropped on receive.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Failures of sending.
    pub tx_errors: u64,
    /// Packets dropped on sending.
    pub tx_dropped: u64,
}

impl Host {
    /// Opens the netlink sockets in the calling thread's network namespace.
    pub fn open() -> Result<Host> {
        todo!()
    }

    /// Networks that the host has a route to, or an address in; `except` names a device that does not count.
    pub fn occupied(&mut self, except: Option<&str>) -> Result<Vec<Occupied>> {
        let _ = except;
        todo!()
    }

    /// The MTU of the device with the default route, or 1500.
    pub fn default_mtu(&mut self) -> Result<u32> {
        todo!()
    }

    /// Makes bridge, address and table where missing; harmless when many processes do it at once.
    ///
    /// The caller's lock need only keep it and [`Host::connect`] apart from [`Host::remove_bridge_if_unused`].
    pub fn ensure_bridge(&mut self, plan: &BridgePlan) -> Result<BridgeReport> {
        let _ = plan;
        todo!()
    }

    /// Connects the namespace `netns` and publishes the ports. On failure everything is taken back.
    pub fn connect(&mut self, plan: &EndpointPlan, netns: BorrowedFd<'_>) -> Result<Endpoint> {
        let _ = (plan, netns);
        todo!()
    }

    /// Withdraws the published ports; the devices die with the container's namespace.
    ///
    /// Fine to repeat, and when others now hold these ports: elements that lead elsewhere are left alone.
    pub fn disconnect(&mut self, endpoint: &Endpoint) -> Result<()> {
        let _ = endpoint;
        todo!()
    }

    /// Removes bridge and table unless a device is connected.
    pub fn remove_bridge_if_unused(&mut self, instance: &Instance) -> Result<BridgeRemoval> {
        let _ = instance;
        todo!()
    }

    /// Whether a device of this name exists.
    pub fn link_exists(&mut self, name: &str) -> Result<bool> {
        let _ = name;
        todo!()
    }

    /// Deletes a device; fine if there is none. Blocks for 10 to 60 ms: for recovery, not for the usual teardown.
    pub fn delete_link(&mut self, name: &str) -> Result<()> {
        let _ = name;
        todo!()
    }
}

/// Sets the loopback device of `netns` up: all that network `none` has.
pub fn loopback_up(netns: BorrowedFd<'_>) -> Result<()> {
    let _ = netns;
    todo!()
}

/// The counters of the devices in `netns`, loopback excluded.
pub fn counters(netns: BorrowedFd<'_>) -> Result<Vec<Counters>> {
    let _ = netns;
    todo!()
}
