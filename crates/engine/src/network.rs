//! The default bridge, as the engine sees it: one row in the store, one lock, and what the mechanism does with both.

use crate::record::Record;
use crate::request::{NetworkMode, PortRequest};
use crate::view::Port;
use crate::{Engine, record};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use tare_model::network::{Driver, Network, Subnet};
use tare_model::{Context, Error, Kind, Result};
use tare_network::{
    BridgePlan, BridgeRemoval, Endpoint, EndpointPlan, Host, PortMapping, Reservation, Site, Transport,
};
use tare_store::NetworkRow;

/// A bridge that nobody uses is kept for so long: making it anew for each of many short containers would cost more
/// than they do.
const LINGER: Duration = Duration::from_millis(250);
/// A veth leaves the bridge some 15 ms after its namespace; on a busy host later.
const DEVICE_PATIENCE: Duration = Duration::from_millis(250);

impl Engine {
    /// The default network of this root, its subnet chosen once.
    pub(crate) fn default_network(&self) -> Result<Network> {
        if let Some(network) = self.bridge.get() {
            return Ok(network.clone());
        }
        let bridge = self.site().bridge;
        let row = match self.store.network(&bridge) {
            Ok(row) => row,
            Err(e) if e.kind() == Kind::NotFound => self.choose_network(&bridge)?,
            Err(e) => return Err(e),
        };
        let corrupt = || Error::new(Kind::Corrupt, "read network", &bridge);
        let subnet = match row.subnet {
            Some(net) if net.is_ipv4() => net,
            _ => return Err(corrupt()),
        };
        let mtu = row.labels.get("mtu").and_then(|m| m.parse().ok()).unwrap_or(1500);
        let gateway = row.gateway.or_else(|| subnet.first_host());
        let network = Network {
            device: Some(bridge),
            subnets: vec![Subnet { net: subnet, gateway, range: None, reserved: Vec::new() }],
            mtu: Some(mtu),
            created: row.created,
            ..Network::new("bridge", "", Driver::Bridge)
        };
        Ok(self.bridge.get_or_init(|| network).clone())
    }

    pub(crate) fn default_bridge(&self) -> Result<BridgePlan> {
        BridgePlan::of(&self.site(), &self.default_network()?, 1500)
    }

    /// What this root's networks are called in the kernel.
    pub(crate) fn site(&self) -> Site {
        Site::of(&self.config.root)
    }

    fn choose_network(&self, bridge: &str) -> Result<NetworkRow> {
        let mut host = Host::open()?;
        let occupied = host.occupied(Some(bridge))?;
        let subnet = tare_network::choose_subnet(&occupied, &tare_network::subnet_candidates(&self.config.root))?;
        self.store.put_network_if_absent(&NetworkRow {
            name: bridge.to_owned(),
            driver: "bridge".to_owned(),
            subnet: Some(subnet),
            gateway: subnet.first_host(),
            labels: BTreeMap::from([("mtu".to_owned(), host.default_mtu()?.to_string())]),
            created: jiff::Timestamp::now().as_nanosecond() as i64,
        })
    }

    /// Keeps whoever connects apart from whoever removes the bridge.
    pub(crate) fn network_lock(&self, how: FlockOperation) -> Result<Option<OwnedFd>> {
        record::make_private(&self.config.run)?;
        let path = self.config.run.join("network.lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600))
            .map_err(|e| Error::io("open", path.display(), e))?;
        match rustix::fs::flock(&fd, how) {
            Ok(()) => Ok(Some(fd)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(Error::io("lock", path.display(), e)),
        }
    }

    /// Plans the endpoint of a container; the same for every start.
    pub(crate) fn endpoint_plan(&self, record: &Record, ports: Vec<PortMapping>) -> Result<EndpointPlan> {
        let address = record.leases.first().and_then(|l| l.v4).ok_or_else(|| {
            Error::new(Kind::Corrupt, "plan network", &record.id).because("the container has no address")
        })?;
        let mut token = [0u8; 8];
        rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::io("read", "random bytes", e))?;
        let plan =
            EndpointPlan::of(&self.site(), &self.default_network()?, u64::from_le_bytes(token), &[address.into()])?;
        Ok(EndpointPlan { ports, ..plan })
    }

    /// Makes bridge and veth, and publishes the ports.
    pub(crate) fn connect(&self, plan: &EndpointPlan, netns: &OwnedFd) -> Result<Endpoint> {
        let lock = self.network_lock(FlockOperation::LockShared)?;
        if let Some(lock) = &lock {
            // Says to those who linger that the bridge is wanted: the last one to come removes it, and only that one.
            let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            let _ = rustix::fs::futimens(lock, &Timestamps { last_access: now, last_modification: now });
        }
        let mut host = Host::open()?;
        host.ensure_bridge(&self.default_bridge()?)?;
        self.fault("bridge")?;
        host.connect(plan, netns.as_fd())
    }

    /// Takes the host's ports for a container, or says who has them.
    pub(crate) fn reserve_ports(&self, record: &Record) -> Result<Reservation> {
        let wanted = port_mappings(&record.request.ports)?;
        tare_network::reserve_ports(&wanted).map_err(|e| self.name_publisher(e, &wanted))
    }

    /// Its supervisor holds the socket: the container's name says more than a process of tare's.
    pub(crate) fn name_publisher(&self, e: Error, wanted: &[PortMapping]) -> Error {
        match self.publisher(wanted) {
            Some(name) if e.kind() == Kind::InUse => {
                e.because(format!("container {name} has published the host's port"))
            }
            _ => e,
        }
    }

    /// A running container of this root that has published one of these ports.
    fn publisher(&self, wanted: &[PortMapping]) -> Option<String> {
        let overlap =
            |a: Option<IpAddr>, b: Option<IpAddr>| a.is_none() || b.is_none_or(|b| b.is_unspecified() || a == Some(b));
        let has = |p: &Port| wanted.iter().any(|w| w.host_port == p.host_port && overlap(p.host_ip, w.host_ip));
        let running = self.containers(false).ok()?;
        running.into_iter().find(|c| c.ports.iter().any(has)).map(|c| c.name)
    }

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

    /// Withdraws the published ports: at once, so that they are free when the caller is answered.
    pub(crate) fn unpublish(&self, endpoint: &Endpoint) -> Result<()> {
        if endpoint.ports.is_empty() { Ok(()) } else { Host::open()?.disconnect(endpoint, None) }
    }

    /// Waits until the container's device is gone, and removes it if it does not go by itself.
    pub(crate) fn await_device(&self, endpoint: &Endpoint) -> Result<()> {
        let mut host = Host::open()?;
        let end = Instant::now() + DEVICE_PATIENCE;
        while host.link_exists(&endpoint.link)? {
            if Instant::now() > end {
                host.delete_link(&endpoint.link)?;
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        host.remove_limit(&endpoint.link, endpoint.rate)
    }

    /// Removes the bridge if nobody has come meanwhile.
    pub(crate) fn release_bridge(&self) -> Result<()> {
        let site = self.site();
        let begun = SystemTime::now();
        std::thread::sleep(LINGER);
        // Whoever holds the lock is connecting: the bridge is in use.
        let Some(lock) = self.network_lock(FlockOperation::NonBlockingLockExclusive)? else { return Ok(()) };
        let used = std::fs::File::from(lock.try_clone().during("duplicate", "network lock")?).metadata();
        if used.and_then(|m| m.modified()).is_ok_and(|t| t > begun) {
            return Ok(());
        }
        match Host::open()?.remove_bridge_if_unused(&site.table, &site.bridge, None)? {
            BridgeRemoval::Removed | BridgeRemoval::Used => Ok(()),
        }
    }

    /// The container's own /etc files, written into a directory of it. Not the run directory: whoever is root inside can
    /// make them as large as he likes, and what is below /run is the whole host's memory.
    pub(crate) fn write_etc(&self, record: &Record, dir: &std::path::Path) -> Result<()> {
        let own = record.leases.iter().find_map(|l| l.v4).map(IpAddr::V4);
        let host_network = record.request.network == NetworkMode::Host;
        let host_text = |path: &str| crate::config::read_or_empty(std::path::Path::new(path));
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

/// The ports asked for, as the mechanism takes them.
pub(crate) fn port_mappings(ports: &[PortRequest]) -> Result<Vec<PortMapping>> {
    ports
        .iter()
        .map(|p| {
            let refuse =
                |why: String| Err(Error::new(Kind::Unsupported, "publish port", p.container_port).because(why));
            if let Some(v6) = p.host_ip.filter(IpAddr::is_ipv6) {
                return refuse(format!("{v6} is not an IPv4 address"));
            }
            if p.transport != Transport::Tcp {
                return refuse(format!("protocol {} cannot be published", p.transport));
            }
            let (container_port, transport) = (p.container_port, p.transport);
            let host_port = p.host_ports.map_or(0, |(first, _)| first);
            Ok(PortMapping { host_ip: p.host_ip, host_port, container_port, transport })
        })
        .collect()
}

/// The ports in force, as callers are told.
pub(crate) fn port_views(ports: &[PortMapping]) -> Vec<Port> {
    ports
        .iter()
        .map(|p| Port {
            host_ip: p.host_ip,
            host_port: p.host_port,
            container_port: p.container_port,
            transport: p.transport,
        })
        .collect()
}

/// A port in force, as the mechanism takes it.
pub(crate) fn port_mapping(port: &Port) -> PortMapping {
    PortMapping {
        host_ip: port.host_ip,
        host_port: port.host_port,
        container_port: port.container_port,
        transport: port.transport,
    }
}
