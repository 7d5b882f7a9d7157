//! Netlink messages, which belong to the socket; here under the names by which this crate's modules know them.

pub(crate) use tare_kernel::netlink::message::*;
