//! Names of containers: a server of DNS for each container, inside its network namespace, run by its supervisor.
//!
//! ```text
//! program ─► 127.0.0.11:53 ─┬─► names files of the container's networks ─► addresses, or names of addresses
//!                           └─► everything else: the host's name servers, or those given for the container
//! ```
//!
//! No daemon, and nothing is cached: a names file is replaced by rename with each start, stop, connect and disconnect,
//! and the server looks at it with every question. What containers may do to a server is bounded: the questions under
//! way, the connections, what a connection may leave unread.
//!
//! A message's question and its EDNS record are all that is read here; the rest is passed on as it came. That is why the
//! format is read by a hundred lines of our own: a library that understands every record refuses a message for one that
//! it does not know.

mod answer;
mod forward;
mod inside;
mod message;
mod names;
mod server;
mod stream;
mod upstream;

pub use inside::{ADDRESS, Listener};
pub use names::{NAMES, NameEntry, NamesFile, SHORT_ID};
pub use server::{ServedNetwork, Server};
pub use upstream::{HostServers, Upstreams};

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod serving_tests;
