//! Networks, as containers have them: what is defined, who has which place, what a start brings about.
//!
//! ```text
//! request::NetworkRequest ── define ──► Network, a row of the store        once, `network create`
//! request::Attachment     ── places ──► Lease: addresses, in the record    once, `create` or `network connect`
//! Network + Lease         ── plans  ──► EndpointPlan, BridgePlan           at each start; then connected
//! ```
//!
//! Locks below the run directory, taken in this order. None is common to all networks: whoever removes one keeps nobody
//! else waiting.
//!
//! ```text
//! networks/<id>/lock       shared: connects to this network. Exclusive: removes its bridge
//! networks/<id>            exclusive: replaces networks/<id>/names
//! ```

mod bridge;
mod define;
mod etc;
mod names;
mod options;
mod places;
mod plans;
mod ports;
mod shape;
mod subnets;
#[cfg(test)]
pub(crate) mod testing;
mod verbs;

pub(crate) use places::{Place, address_requests, lease_of};
pub(crate) use ports::{check as check_ports, port_mapping, port_views, requests, wishes};
pub(crate) use shape::Shape;
pub use verbs::NetworkRemoval;

/// What users call the network of those who name none.
pub(crate) const DEFAULT: &str = "bridge";
