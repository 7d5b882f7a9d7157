//! Bringing a container's networks about in the kernel, and taking them down.

use super::plans::Plans;
use crate::Engine;
use crate::record::{self, Record, Status};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use tare_model::{Context, Error, Kind, Result};
use tare_network::{BridgePlan, Endpoint, EndpointKind, Host};

/// A veth leaves the bridge some 15 ms after its namespace; on a busy host later.
const DEVICE_PATIENCE: Duration = Duration::from_millis(250);

impl Engine {
    /// Keeps whoever connects to a network (its id) apart from whoever removes the last of it.
    pub(crate) fn bridge_lock(&self, id: &str, how: FlockOperation) -> Result<Option<OwnedFd>> {
        let dir = self.network_dir(id);
        record::make_private(&dir)?;
        lock(&dir.join("lock"), OFlags::CREATE, how)
    }

    /// Says that a network (its id) is wanted, for as long as the descriptor is open: whoever lingers to remove its bridge
    /// does not.
    pub(crate) fn want_network(&self, id: &str) -> Result<Option<OwnedFd>> {
        let lock = self.bridge_lock(id, FlockOperation::LockShared)?;
        if let Some(lock) = &lock {
            // The last one to come removes it, and only that one.
            let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            let _ = rustix::fs::futimens(lock, &Timestamps { last_access: now, last_modification: now });
        }
        Ok(lock)
    }

    /// Connects a container's namespace as planned, all networks with one handle of the host's. The status names the
    /// endpoints already: whatever happens, what was begun is taken down. Adds to its warnings what was changed of the host.
    pub(crate) fn connect_all(
        &self,
        plans: &Plans,
        netns: &OwnedFd,
        record: &Record,
        status: &mut Status,
    ) -> Result<()> {
        let bridged = plans.endpoints.iter().filter(|p| matches!(p.kind, EndpointKind::Bridge { .. }));
        let _wanted = bridged.map(|p| self.want_network(&p.network)).collect::<Result<Vec<_>>>()?;
        let mut host = Host::open()?;
        let mut bridges = plans.bridges.iter();
        for (i, plan) in plans.endpoints.iter().enumerate() {
            if let (EndpointKind::Bridge { .. }, Some(bridge)) = (&plan.kind, bridges.next()) {
                let report = host.ensure_bridge(bridge)?;
                let changed = report.settings.iter();
                status.warnings.extend(changed.map(|s| {
                    format!(
                        "{} was {} on this host, and is {} now: networks of containers need it",
                        s.name, s.before, s.now
                    )
                }));
            }
            self.fault("bridge")?;
            status.endpoints[i] = host.connect(plan, netns.as_fd())?;
            let aliases = record.request.attachments.get(i).map_or(&[][..], |a| &a.aliases);
            self.enter_name(&status.endpoints[i], &record.id, record.name(), aliases)?;
        }
        Ok(())
    }

    /// Withdraws a container's published ports and its names: at once, so that they are free when the caller is answered.
    /// Goes on past failures and returns the first. `host` is opened if it is needed; closing it right after a change of rules
    /// waits for the kernel to be done with the old ones (10 to 20 ms), which whoever is answered need not.
    pub(crate) fn withdraw(&self, id: &str, endpoints: &[Endpoint], host: &mut Option<Host>) -> Result<()> {
        let mut result = Ok(());
        for endpoint in endpoints {
            result = result.and(self.strike_name(&endpoint.network, id));
            if endpoint.ports.is_empty() {
                continue;
            }
            let opened = match host.take() {
                Some(host) => Ok(host),
                None => Host::open(),
            };
            match opened {
                Ok(mut opened) => {
                    result = result.and(opened.unpublish(endpoint, &endpoint.ports));
                    *host = Some(opened);
                }
                Err(e) => result = result.and(Err(e)),
            }
        }
        result
    }

    /// Waits until a container's devices are gone, and removes those that do not go by themselves.
    pub(crate) fn await_devices(&self, endpoints: &[Endpoint]) -> Result<()> {
        let veth = |e: &&Endpoint| matches!(e.kind, EndpointKind::Bridge { .. });
        let mut left: Vec<&str> = endpoints.iter().filter(veth).map(|e| e.link.as_str()).collect();
        if left.is_empty() {
            return Ok(());
        }
        let mut host = Host::open()?;
        let end = Instant::now() + DEVICE_PATIENCE;
        loop {
            let mut there = Vec::new();
            for link in left {
                if host.link_exists(link)? {
                    there.push(link);
                }
            }
            left = there;
            if left.is_empty() {
                break;
            }
            if Instant::now() > end {
                left.iter().try_for_each(|link| host.delete_link(link))?;
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        endpoints.iter().filter(veth).try_for_each(|e| host.remove_limit(&e.link, e.rate))
    }

    /// Removes the bridges of these endpoints that nobody uses and, with `since`, to which nobody has connected since then.
    pub(crate) fn release_bridges(&self, status: &Status, since: Option<SystemTime>) -> Result<()> {
        let of = |e: &Endpoint| {
            let EndpointKind::Bridge { bridge, .. } = &e.kind else { return None };
            let plan = status.bridges.iter().find(|b| b.bridge == *bridge)?;
            Some((e.network.clone(), plan.clone()))
        };
        let bridges: Vec<(String, BridgePlan)> = status.endpoints.iter().filter_map(of).collect();
        let mut result = Ok(());
        for (network, plan) in &bridges {
            result = result.and(self.release_bridge(network, plan, since));
        }
        result
    }

    /// Removes one network's bridge (`network`: its id) unless somebody uses it, or has come since.
    pub(crate) fn release_bridge(&self, network: &str, plan: &BridgePlan, since: Option<SystemTime>) -> Result<()> {
        // The lock goes with the network; then nobody can come any more, and a new lock looks as if somebody had.
        let path = self.network_dir(network).join("lock");
        let held = match lock(&path, OFlags::empty(), FlockOperation::NonBlockingLockExclusive) {
            Err(e) if e.kind() == Kind::NotFound => None,
            other => Some(other?),
        };
        let removed = held.is_none();
        let held = match held {
            Some(held) => held,
            None => self.bridge_lock(network, FlockOperation::NonBlockingLockExclusive)?,
        };
        // Whoever holds the lock is connecting: the bridge is in use.
        let Some(held) = held else { return Ok(()) };
        if let Some(since) = since.filter(|_| !removed) {
            let used = std::fs::File::from(held.try_clone().during("duplicate", "network lock")?).metadata();
            if used.and_then(|m| m.modified()).is_ok_and(|t| t > since) {
                return Ok(());
            }
        }
        let mut host = Host::open()?;
        host.set_bridge_aside_if_unused(&plan.table, &plan.bridge, plan.parent.as_deref())?;
        if removed {
            let _ = std::fs::remove_dir_all(self.network_dir(network));
        }
        // The kernel takes its time for the rest, and nobody has to wait for that.
        drop(held);
        host.delete_aside(&plan.bridge)
    }
}

fn lock(path: &Path, create: OFlags, how: FlockOperation) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | create;
    let fd =
        rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(|e| Error::io("open", path.display(), e))?;
    loop {
        match rustix::fs::flock(&fd, how) {
            Ok(()) => return Ok(Some(fd)),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::io("lock", path.display(), e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::testing::engine;
    use crate::network::testing::{command, in_new_namespace, record};
    use crate::request::{Attachment, NetworkRequest, RunRequest};
    use tare_kernel::netlink::{in_network_namespace, new_network_namespace};

    fn request(networks: &[&str]) -> RunRequest {
        let attachment = |name: &&str| Attachment { network: (*name).to_owned(), ..Attachment::default() };
        RunRequest {
            name: Some("web".to_owned()),
            attachments: networks.iter().map(attachment).collect(),
            ..RunRequest::default()
        }
    }

    /// A container with leases, as `create` leaves it.
    fn made(engine: &Engine, request: RunRequest) -> Record {
        let places = engine.places(&request).unwrap();
        let mut record = record(&tare_store::Store::new_id().unwrap(), request);
        let networks: Vec<_> = places.iter().map(|p| p.network.id.clone()).collect();
        let addresses: Vec<_> = places.iter().flat_map(crate::network::address_requests).collect();
        let new = tare_store::NewContainer {
            id: &record.id,
            name: record.request.name.as_deref(),
            image: None,
            layers: &[],
            created: 1,
            networks: &networks,
            addresses: &addresses,
            volumes: &[],
            durability: tare_store::Durability::Lazy,
        };
        let mut given = engine.store.reserve_container(&new).unwrap().addresses.into_iter();
        let mut lease = |p: &crate::network::Place| {
            let own: Vec<_> = given.by_ref().take(p.network.subnets.len()).collect();
            crate::network::lease_of(p, &own)
        };
        record.leases = places.iter().map(&mut lease).collect();
        record.request.attachments = places.into_iter().map(|p| p.attachment).collect();
        record
    }

    fn connected(engine: &Engine, record: &Record, netns: &OwnedFd) -> Status {
        let plans = engine.plan_networks(record, &[]).unwrap();
        let mut status = Status {
            endpoints: plans.endpoints.iter().map(tare_network::EndpointPlan::endpoint).collect(),
            bridges: plans.bridges.clone(),
            ..Status::default()
        };
        engine.connect_all(&plans, netns, record, &mut status).unwrap();
        status
    }

    #[test]
    fn several_networks_come_with_the_first_container_and_go_with_the_last() {
        in_new_namespace(|| {
            let (_dir, engine) = engine();
            let back = NetworkRequest { name: "back".to_owned(), internal: true, ..NetworkRequest::default() };
            let back = engine.network_create(&back).unwrap();
            let device = back.device.clone().unwrap();
            assert_eq!(command("ip -brief link show type bridge"), "", "nothing is made before it is needed");

            let mut wish = request(&["back", "bridge"]);
            wish.attachments[0].aliases.push("db".to_owned());
            wish.attachments[1].interface = Some("eth0".to_owned());
            let record = made(&engine, wish);
            let inside = new_network_namespace().unwrap();
            let status = connected(&engine, &record, &inside);
            let bridges = command("ip -brief link show type bridge");
            assert!(bridges.contains(&device) && bridges.contains(&engine.site().bridge), "{bridges}");
            in_network_namespace(inside.as_fd(), || {
                let addresses = command("ip -brief address");
                // The name that one network was promised was not free for the other.
                let line = |name: &str| addresses.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
                for (name, lease) in [("eth1@", &record.leases[0]), ("eth0@", &record.leases[1])] {
                    assert!(line(name).contains(&format!(" {}/", lease.v4.unwrap())), "{addresses}");
                    assert!(line(name).contains(&format!(" {}/", lease.v6.unwrap())), "{addresses}");
                }
                for family in ["-4", "-6"] {
                    let routes = command(&format!("ip {family} route show default"));
                    assert_eq!(routes.lines().count(), 1, "{routes}");
                    assert!(routes.contains("dev eth0"), "an internal network leads nowhere: {routes}");
                }
            })
            .unwrap();
            let names = engine.names_file(&back.id).entries().unwrap();
            assert_eq!(
                (names.len(), names[0].name.as_str(), &names[0].aliases[..]),
                (1, "web", &["db".to_owned()][..])
            );
            assert_eq!(names[0].addresses.len(), 2);

            // A second one on one of the two.
            let other = made(&engine, RunRequest { name: Some("two".to_owned()), ..request(&["back"]) });
            let elsewhere = new_network_namespace().unwrap();
            let second = connected(&engine, &other, &elsewhere);
            engine.withdraw(&record.id, &status.endpoints, &mut None).unwrap();
            drop(inside);
            engine.await_devices(&status.endpoints).unwrap();
            assert_eq!(engine.names_file(&back.id).entries().unwrap().len(), 1);
            engine.release_bridges(&status, None).unwrap();
            let bridges = command("ip -brief link show type bridge");
            assert!(bridges.contains(&device) && !bridges.contains(&engine.site().bridge), "{bridges}");
            // Whoever lingers sees that somebody has come.
            let begun = SystemTime::now();
            // Times of files advance with the kernel's tick.
            std::thread::sleep(Duration::from_millis(20));
            engine.want_network(&back.id).unwrap();
            engine.withdraw(&other.id, &second.endpoints, &mut None).unwrap();
            drop(elsewhere);
            engine.await_devices(&second.endpoints).unwrap();
            engine.release_bridge(&back.id, &second.bridges[0], Some(begun)).unwrap();
            assert!(command("ip -brief link show type bridge").contains(&device));
            engine.release_bridges(&second, None).unwrap();
            assert_eq!(command("ip -brief link show type bridge"), "");
            assert_eq!(command("nft list tables"), "", "with the last network goes the table");
        });
    }

    #[test]
    fn what_was_only_planned_can_be_taken_down() {
        in_new_namespace(|| {
            let (_dir, engine) = engine();
            let record = made(&engine, request(&[]));
            let plans = engine.plan_networks(&record, &[]).unwrap();
            let status = Status {
                endpoints: plans.endpoints.iter().map(tare_network::EndpointPlan::endpoint).collect(),
                bridges: plans.bridges.clone(),
                ..Status::default()
            };
            engine.withdraw(&record.id, &status.endpoints, &mut None).unwrap();
            engine.await_devices(&status.endpoints).unwrap();
            engine.release_bridges(&status, None).unwrap();
        });
    }
}
