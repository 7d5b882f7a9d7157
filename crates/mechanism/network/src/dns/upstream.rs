//! Whom questions are passed on to.
//!
//! The host's name servers are asked from the host's network namespace, so those that listen on the host's loopback serve
//! containers as well. Where the host lists only the stub of systemd-resolved, the servers behind it are asked, as
//! docker does: the stub would hold back what it takes for local. Servers given for one container are asked from its own
//! namespace, as if it asked them itself: they may be on its networks only.

use crate::resolvers::{STUB_RESOLVER_UPSTREAMS, lists_stub_only};
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PORT: u16 = 53;
/// More than anybody lists; each costs a socket while a question waits.
const MOST: usize = 6;
/// How long a server that did not answer is asked last.
const DISTRUST: Duration = Duration::from_secs(30);

/// Where name servers are found.
#[derive(Debug)]
pub enum Upstreams {
    /// Nobody is asked: containers on internal networks only.
    None,
    /// Those of the host's resolv.conf, read again when it changes.
    Host(HostServers),
    /// Those given for the container, asked from its network namespace.
    Given {
        /// In the order in which they are asked.
        servers: Vec<SocketAddr>,
        /// The container's network namespace.
        netns: OwnedFd,
    },
}

impl Upstreams {
    /// Those of this host.
    pub fn host() -> Upstreams {
        Upstreams::of_files("/etc/resolv.conf", STUB_RESOLVER_UPSTREAMS)
    }

    /// Those of a file in the format of resolv.conf(5); `behind_stub` is read when it lists servers on loopback only.
    pub fn of_files(resolv_conf: impl Into<PathBuf>, behind_stub: impl Into<PathBuf>) -> Upstreams {
        Upstreams::Host(HostServers {
            resolv_conf: resolv_conf.into(),
            behind_stub: behind_stub.into(),
            seen: None,
            servers: Vec::new(),
        })
    }

    /// These (`--dns`), asked from the namespace `netns`. The address at which we ourselves serve is left out.
    pub fn given(servers: &[IpAddr], netns: OwnedFd) -> Upstreams {
        let others = servers.iter().filter(|ip| **ip != IpAddr::V4(super::ADDRESS));
        Upstreams::Given { servers: others.map(|ip| SocketAddr::new(*ip, PORT)).collect(), netns }
    }

    /// Whether there is anybody to ask.
    pub(super) fn ask(&self) -> bool {
        !matches!(self, Upstreams::None)
    }

    pub(super) fn servers(&mut self) -> &[SocketAddr] {
        match self {
            Upstreams::None => &[],
            Upstreams::Host(host) => host.current(),
            Upstreams::Given { servers, .. } => servers,
        }
    }

    /// Where sockets for the questions are made, if not in the caller's own namespace.
    pub(super) fn netns(&self) -> Option<&OwnedFd> {
        match self {
            Upstreams::Given { netns, .. } => Some(netns),
            Upstreams::None | Upstreams::Host(_) => None,
        }
    }
}

/// A file as it was: device, number, size, and time of its last change.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// The servers of the host's resolv.conf.
#[derive(Debug)]
pub struct HostServers {
    resolv_conf: PathBuf,
    behind_stub: PathBuf,
    seen: Option<[Stamp; 2]>,
    servers: Vec<SocketAddr>,
}

impl HostServers {
    fn current(&mut self) -> &[SocketAddr] {
        let now = [stamp(&self.resolv_conf), stamp(&self.behind_stub)];
        if self.seen != Some(now) {
            let read = |path: &Path| std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned());
            let own = read(&self.resolv_conf).unwrap_or_default();
            let behind = lists_stub_only(&own).then(|| read(&self.behind_stub).ok()).flatten();
            self.servers = servers(behind.as_deref().unwrap_or_default());
            if self.servers.is_empty() {
                self.servers = servers(&own);
            }
            // resolv.conf(5): without any, the name server on this host is asked.
            if self.servers.is_empty() {
                self.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
            }
            self.seen = Some(now);
        }
        &self.servers
    }
}

fn stamp(path: &Path) -> Stamp {
    let m = std::fs::metadata(path).ok()?;
    Some((m.dev(), m.ino(), m.size(), m.ctime(), m.ctime_nsec()))
}

/// The servers of a resolv.conf, those with a scope (`fe80::1%eth0`) included.
fn servers(text: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for word in crate::resolvers::name_servers(text) {
        let (address, device) = word.split_once('%').map_or((word, None), |(a, d)| (a, Some(d)));
        let server = match (address.parse(), device) {
            (Ok(IpAddr::V6(v6)), Some(device)) => {
                device_index(device).map(|scope| SocketAddrV6::new(v6, PORT, 0, scope).into())
            }
            (Ok(ip), None) => Some(SocketAddr::new(ip, PORT)),
            _ => None,
        };
        if let Some(server) = server
            && !found.contains(&server)
            && found.len() < MOST
        {
            found.push(server);
        }
    }
    found
}

fn device_index(name: &str) -> Option<u32> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
    if let Ok(index) = name.parse() {
        return Some(index);
    }
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
    netdevice::name_to_index(&socket, name).ok()
}

/// Which servers have not answered lately.
#[derive(Debug, Default)]
pub(super) struct Distrust(HashMap<SocketAddr, Instant>);

impl Distrust {
    pub(super) fn has_failed(&mut self, server: SocketAddr, now: Instant) {
        self.0.retain(|_, until| *until > now);
        self.0.insert(server, now + DISTRUST);
    }

    pub(super) fn has_answered(&mut self, server: SocketAddr) {
        self.0.remove(&server);
    }

    /// The servers in the order to ask them in: as listed, those that failed lately last.
    pub(super) fn order(&self, servers: &[SocketAddr], now: Instant) -> Vec<SocketAddr> {
        let mut ordered = servers.to_vec();
        ordered.sort_by_key(|server| self.0.get(server).is_some_and(|until| *until > now));
        ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(upstreams: &mut Upstreams) -> Vec<String> {
        upstreams.servers().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_hosts_servers_are_read_again_when_the_file_changes() {
        let directory = tempfile::tempdir().unwrap();
        let (own, behind) = (directory.path().join("resolv.conf"), directory.path().join("behind"));
        let mut upstreams = Upstreams::of_files(&own, &behind);
        assert_eq!(addresses(&mut upstreams), ["127.0.0.1:53"]);
        std::fs::write(&own, "nameserver 192.0.2.1\nnameserver fe80::1%1\nnameserver fe80::1%nosuch\nnameserver x\n")
            .unwrap();
        assert_eq!(addresses(&mut upstreams), ["192.0.2.1:53", "[fe80::1%1]:53"]);
        std::fs::write(&own, "nameserver 127.0.0.53\n").unwrap();
        assert_eq!(addresses(&mut upstreams), ["127.0.0.53:53"]);
        std::fs::write(&behind, "nameserver 192.0.2.7\nnameserver 192.0.2.7\n").unwrap();
        assert_eq!(addresses(&mut upstreams), ["192.0.2.7:53"]);
        std::fs::write(&behind, "search x\n").unwrap();
        assert_eq!(addresses(&mut upstreams), ["127.0.0.53:53"]);
        std::fs::write(&own, "nameserver 192.0.2.2\nnameserver 127.0.0.53\n").unwrap();
        assert_eq!(addresses(&mut upstreams), ["192.0.2.2:53", "127.0.0.53:53"]);
    }

    #[test]
    fn who_failed_is_asked_last_until_it_answers() {
        let [a, b]: [SocketAddr; 2] = ["192.0.2.1:53", "192.0.2.2:53"].map(|s| s.parse().unwrap());
        let now = Instant::now();
        let mut distrust = Distrust::default();
        assert_eq!(distrust.order(&[a, b], now), [a, b]);
        distrust.has_failed(a, now);
        assert_eq!(distrust.order(&[a, b], now), [b, a]);
        assert_eq!(distrust.order(&[a, b], now + DISTRUST * 2), [a, b]);
        distrust.has_answered(a);
        assert_eq!(distrust.order(&[a, b], now), [a, b]);
    }
}
