//! The container's own /etc files: names and name servers.

use crate::Engine;
use crate::record::{self, Record};
use crate::request::NetworkMode;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tare_model::{Context, Result};

impl Engine {
    /// Where the three files of /etc lie: a container in another's network has that one's.
    pub(crate) fn etc_files(&self, record: &Record) -> Result<PathBuf> {
        let mut dir = self.dirs(&record.id).state;
        let mut network = record.request.network.clone();
        // Names may have been given anew since, even in a circle.
        for _ in 0..16 {
            let NetworkMode::Container(name) = network else { break };
            let (row, owner) = self.find(&name)?;
            dir = self.dirs(&row.id).state;
            network = owner.request.network;
        }
        Ok(dir)
    }

    /// The container's own /etc files, written into a directory of it. Not the run directory: whoever is root inside can
    /// make them as large as he likes, and what is below /run is the whole host's memory.
    pub(crate) fn write_etc(&self, record: &Record, dir: &Path) -> Result<()> {
        let own = record.leases.iter().find_map(|l| l.v4).map(IpAddr::V4);
        let host_network = record.request.network == NetworkMode::Host;
        let host_text = |path: &str| crate::config::read_or_empty(Path::new(path));
        let resolv = host_text("/etc/resolv.conf");
        let resolv = if host_network {
            resolv
        } else {
            let upstream = if tare_network::lists_stub_only(&resolv) {
                Some(host_text(tare_network::STUB_RESOLVER_UPSTREAMS)).filter(|t| !t.is_empty())
            } else {
                None
            };
            tare_network::ResolvConf { servers: tare_network::NameServers::Reachable, search: &[], options: &[] }
                .text(upstream.as_deref().unwrap_or(&resolv))
        };
        let hosts = if host_network {
            host_text("/etc/hosts")
        } else {
            tare_network::hosts_file(own.as_slice(), &[&record.hostname], &[])
        };
        let hostname = tare_network::hostname_file(&record.hostname);
        for (name, text) in [("resolv.conf", resolv), ("hosts", hosts), ("hostname", hostname)] {
            record::write_file(dir, name, text.as_bytes(), record::Durable::No)?;
            // For every user of the container, whatever the caller's umask.
            let path = dir.join(name);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))
                .during("set mode of", path.display())?;
        }
        Ok(())
    }
}
