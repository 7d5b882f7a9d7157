//! Who is in a network under which names, for the servers of names: see [`tare_network::dns::NamesFile`].

use crate::Engine;
use crate::record;
use std::path::PathBuf;
use tare_model::Result;
use tare_network::Endpoint;
use tare_network::dns::{NameEntry, NamesFile};

impl Engine {
    /// `<run>/networks/<id>`.
    pub(crate) fn network_dir(&self, id: &str) -> PathBuf {
        self.config.run.join("networks").join(id)
    }

    /// The names of a network (its id).
    pub(crate) fn names_file(&self, network: &str) -> NamesFile {
        NamesFile::of(self.network_dir(network))
    }

    /// Enters a container among the names of an endpoint's network. Without an address it has none there.
    ///
    /// # Errors
    /// System calls that fail.
    pub(crate) fn enter_name(&self, endpoint: &Endpoint, id: &str, name: &str, aliases: &[String]) -> Result<()> {
        let global = |a: &std::net::IpAddr| match a {
            std::net::IpAddr::V4(_) => true,
            std::net::IpAddr::V6(a) => !a.is_unicast_link_local(),
        };
        let addresses: Vec<_> = endpoint.addresses.iter().map(|net| net.address()).filter(global).collect();
        if addresses.is_empty() {
            return Ok(());
        }
        record::make_private(&self.network_dir(&endpoint.network))?;
        let entry = NameEntry { id: id.to_owned(), addresses, name: name.to_owned(), aliases: aliases.to_vec() };
        self.names_file(&endpoint.network).put(&entry)
    }

    /// Strikes a container off the names of a network. No error if it has none there.
    ///
    /// # Errors
    /// System calls that fail.
    pub(crate) fn strike_name(&self, network: &str, id: &str) -> Result<()> {
        self.names_file(network).remove(id)
    }
}
