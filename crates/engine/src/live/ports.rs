//! `port add` and `port rm`: published ports of a container, changed while it runs, and for its next starts.

use super::target::{Target, strange};
use crate::Engine;
use crate::network::{Shape, port_views, requests, wishes};
use crate::request::PortRequest;
use crate::supervise::control::{Done, Request};
use crate::view::Port;
use tare_model::{Error, Kind, Result};
use tare_network::{PortMapping, PortWish};

const ADD: &str = "publish ports of container";
const REMOVE: &str = "withdraw ports of container";

impl Engine {
    /// Publishes more ports of a container, all or none: at once if it runs, and at its next starts. Durable.
    ///
    /// Answers with the ports in force, free ones filled in; with none if it does not run.
    ///
    /// # Errors
    /// `Kind::InUse` naming who holds a port; `Kind::State` for a running container that is in no network through which it
    /// could be reached; `Kind::Invalid` for one without a network stack of its own.
    pub fn port_add(&self, container: &str, ports: &[PortRequest]) -> Result<Vec<Port>> {
        let mut target = self.target(container, ADD)?;
        target.require_own_stack(ADD)?;
        let mut published = Vec::new();
        if target.status.is_some() {
            let wishes = self.wishes_of(&target, ports)?;
            target.change.half_done();
            published = match self.ask(&target.record.id, &Request::Publish { ports: wishes.clone() }) {
                Ok(Done::Ports(done)) => done,
                Ok(_) => return Err(strange(target.record.name())),
                // It may still act.
                Err(e) if e.kind() == Kind::Unavailable => return Err(e),
                Err(e) => {
                    target.change.whole();
                    return Err(self.name_publisher(e, &wishes));
                }
            };
        }
        target.record.request.ports.extend_from_slice(ports);
        if let Err(e) = self.fault("published-live").and_then(|()| target.write_record()) {
            // Why it failed is what is to be told. What cannot be undone now is undone by the next one to look.
            if published.is_empty() || self.ask(&target.record.id, &Request::Withdraw { ports: published }).is_ok() {
                target.change.whole();
            }
            return Err(e);
        }
        target.change.whole();
        Ok(port_views(&published))
    }

    /// Makes the ports in force and the description say the same again, after somebody was killed between the two: a
    /// port that one of them lacks is none.
    pub(super) fn agree_on_ports(&self, target: &mut Target) -> Result<()> {
        let Some(status) = &target.status else { return Ok(()) };
        let live: Vec<PortMapping> = status.ports.iter().map(crate::network::port_mapping).collect();
        let asked = requests(&target.record)?;
        let Agreement { unasked, unmet } = Agreement::of(&asked, &live);
        if !unasked.is_empty() {
            match self.ask(&target.record.id, &Request::Withdraw { ports: unasked }) {
                // It has ended, and its ports with it.
                Err(e) if e.kind() == Kind::State => {}
                done => drop(done?),
            }
        }
        if unmet.is_empty() {
            return Ok(());
        }
        let left = asked.into_iter().enumerate().filter(|(i, _)| !unmet.contains(i)).map(|(_, r)| r);
        // What remains of the image's ports has to be named from now on.
        target.record.request.ports = left.collect();
        target.record.request.publish_all = false;
        target.write_record()
    }

    /// With the addresses that the network or the configuration names where a request names none.
    fn wishes_of(&self, target: &Target, ports: &[PortRequest]) -> Result<Vec<PortWish>> {
        let places = self.places_of(&target.record)?;
        let shape = Shape::of(&places.iter().map(|(p, _)| (&p.attachment, &p.network)).collect::<Vec<_>>());
        let (place, lease) = shape.carrier.map(|i| &places[i]).ok_or_else(|| {
            Error::new(Kind::State, ADD, target.record.name())
                .because("it is in no network through which it could be reached from outside")
                .hint("connect it to one with a bridge that is not internal: tare network connect bridge CONTAINER")
        })?;
        wishes(ports, &place.network, lease, &self.config.network.publish)
    }

    /// Withdraws published ports of a container: at once if it runs, and for its next starts. Connections that are
    /// established go on. Durable. A request without host address or host port means all that lead to the container's port.
    ///
    /// Answers with the ports that were in force.
    ///
    /// # Errors
    /// `Kind::NotFound` if one of them is not published; nothing is changed then.
    pub fn port_remove(&self, container: &str, ports: &[PortRequest]) -> Result<Vec<Port>> {
        let mut target = self.target(container, REMOVE)?;
        target.require_own_stack(REMOVE)?;
        let live: Vec<PortMapping> =
            target.status.iter().flat_map(|s| &s.ports).map(crate::network::port_mapping).collect();
        for wanted in ports {
            let named =
                live.iter().any(|p| means(wanted, p)) || target.record.request.ports.iter().any(|r| covers(wanted, r));
            if !named {
                return Err(Error::new(Kind::NotFound, REMOVE, target.record.name())
                    .because(format!("{} is not published", describe(wanted)))
                    .hint(format!("tare port {} lists what is", target.record.name())));
            }
        }
        let gone: Vec<_> = live.iter().copied().filter(|p| ports.iter().any(|w| means(w, p))).collect();
        let mut withdrawn = Vec::new();
        if !gone.is_empty() {
            target.change.half_done();
            match self.ask(&target.record.id, &Request::Withdraw { ports: gone.clone() }) {
                Ok(Done::Ports(done)) => withdrawn = done,
                Ok(_) => return Err(strange(target.record.name())),
                // It has ended, and its ports with it.
                Err(e) if e.kind() == Kind::State => {}
                Err(e) => return Err(e),
            }
        }
        self.fault("withdrawn-live")?;
        forget(&mut target, ports, &live, &gone);
        target.write_record()?;
        target.change.whole();
        Ok(port_views(&withdrawn))
    }
}

/// Takes ports out of the description.
fn forget(target: &mut Target, ports: &[PortRequest], live: &[PortMapping], gone: &[PortMapping]) {
    let request = &mut target.record.request;
    let asked: Vec<PortRequest> = request.ports.clone();
    let explains = |p: &PortMapping| asked.iter().any(|r| means(r, p));
    // Those of the image were published by -P: what remains of them has to be named from now on.
    if request.publish_all && gone.iter().any(|p| !explains(p)) {
        request.publish_all = false;
        let left = live.iter().filter(|p| !gone.contains(p) && !explains(p));
        request.ports.extend(left.map(|p| PortRequest {
            host_ip: p.host_ip,
            host_ports: None,
            container_port: p.container_port,
            transport: p.transport,
        }));
    }
    // A request for any free port is met by one mapping: not by all that lead to the same port.
    let mut left_over = gone.to_vec();
    request.ports.retain(|r| {
        if ports.iter().any(|wanted| covers(wanted, r)) {
            return false;
        }
        match left_over.iter().position(|p| means(r, p)) {
            Some(i) => {
                left_over.remove(i);
                false
            }
            None => true,
        }
    });
}

/// Whether a request means this mapping. The unspecified address means all addresses as well.
fn means(request: &PortRequest, port: &PortMapping) -> bool {
    request.container_port == port.container_port
        && request.transport == port.transport
        && request.host_ports.is_none_or(|(first, last)| (first..=last).contains(&port.host_port))
        && request.host_ip.is_none_or(|ip| port.host_ip.map_or(ip.is_unspecified(), |at| at == ip))
}

/// What requests and ports in force do not have in common.
#[derive(Debug, Default, PartialEq, Eq)]
struct Agreement {
    /// In force, and asked for by nobody.
    unasked: Vec<PortMapping>,
    /// Asked for, by the place in the list, and not in force.
    unmet: Vec<usize>,
}

impl Agreement {
    /// Each port is given to the request that leaves the least choice; a request has one at each address of the host.
    fn of(requests: &[PortRequest], live: &[PortMapping]) -> Agreement {
        let choice = |r: &PortRequest| r.host_ports.map_or(usize::MAX, |(first, last)| usize::from(last - first));
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.sort_by_key(|i| (choice(&requests[*i]), requests[*i].host_ip.is_none()));
        let mut met: Vec<Vec<Option<std::net::IpAddr>>> = vec![Vec::new(); requests.len()];
        let mut unasked = Vec::new();
        for port in live {
            match order.iter().find(|i| means(&requests[**i], port) && !met[**i].contains(&port.host_ip)) {
                Some(i) => met[*i].push(port.host_ip),
                None => unasked.push(*port),
            }
        }
        Agreement { unasked, unmet: (0..requests.len()).filter(|i| met[*i].is_empty()).collect() }
    }
}

/// Whether what is withdrawn includes all that another request asks for.
fn covers(wanted: &PortRequest, other: &PortRequest) -> bool {
    let range = match (wanted.host_ports, other.host_ports) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some((a, b)), Some((c, d))) => a <= c && d <= b,
    };
    range
        && wanted.container_port == other.container_port
        && wanted.transport == other.transport
        && (wanted.host_ip.is_none() || wanted.host_ip == other.host_ip)
}

fn describe(request: &PortRequest) -> String {
    let host = match request.host_ports {
        Some((first, last)) if first == last => format!("{first}:"),
        Some((first, last)) => format!("{first}-{last}:"),
        None => String::new(),
    };
    let ip = request.host_ip.map(|ip| format!("{ip}:")).unwrap_or_default();
    format!("{ip}{host}{}/{}", request.container_port, request.transport)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_network::Transport;

    fn request(host: Option<(u16, u16)>, container_port: u16) -> PortRequest {
        PortRequest { host_ip: None, host_ports: host, container_port, transport: Transport::Tcp }
    }

    fn mapping(host_port: u16, container_port: u16) -> PortMapping {
        PortMapping { host_ip: None, host_port, container_port, transport: Transport::Tcp }
    }

    #[test]
    fn a_request_means_the_mappings_that_it_could_have_made() {
        assert!(means(&request(None, 80), &mapping(8080, 80)));
        assert!(means(&request(Some((8080, 8090)), 80), &mapping(8085, 80)));
        assert!(!means(&request(Some((8080, 8080)), 80), &mapping(8081, 80)));
        assert!(!means(&request(None, 81), &mapping(8080, 80)));
        let mut at = request(None, 80);
        at.host_ip = Some([127, 0, 0, 1].into());
        assert!(!means(&at, &mapping(8080, 80)));
        at.host_ip = Some([0, 0, 0, 0].into());
        assert!(means(&at, &mapping(8080, 80)));
        assert!(means(&at, &PortMapping { host_ip: at.host_ip, ..mapping(8080, 80) }), "by the words it was asked for");
        assert!(!means(&PortRequest { transport: Transport::Udp, ..request(None, 80) }, &mapping(8080, 80)));
    }

    #[test]
    fn what_only_one_side_knows_is_found() {
        let of = |requests: &[PortRequest], live: &[PortMapping]| {
            let Agreement { unasked, unmet } = Agreement::of(requests, live);
            (unasked, unmet)
        };
        let asked = [request(None, 80), request(Some((8080, 8080)), 80), request(Some((9000, 9001)), 81)];
        let live = [mapping(8080, 80), mapping(49152, 80), mapping(9001, 81)];
        assert_eq!(of(&asked, &live), (vec![], vec![]));
        // The last to come was not yet written down.
        assert_eq!(of(&asked, &[&live[..], &[mapping(49153, 80)]].concat()), (vec![mapping(49153, 80)], vec![]));
        assert_eq!(of(&asked, &live[1..]), (vec![], vec![1]));
        assert_eq!(of(&asked[..1], &live), (vec![mapping(49152, 80), mapping(9001, 81)], vec![]));
        // One request at several addresses of the host.
        let at = |ip: &str| PortMapping { host_ip: Some(ip.parse().unwrap()), ..mapping(8080, 80) };
        assert_eq!(of(&asked[1..2], &[at("127.0.0.1"), at("::1")]), (vec![], vec![]));
        assert_eq!(of(&[], &[]), (vec![], vec![]));
    }

    #[test]
    fn what_is_withdrawn_covers_requests_within_it() {
        let all = request(None, 80);
        assert!(covers(&all, &request(Some((1, 2)), 80)) && covers(&all, &all));
        assert!(covers(&request(Some((1, 9)), 80), &request(Some((2, 3)), 80)));
        assert!(!covers(&request(Some((1, 2)), 80), &request(Some((2, 3)), 80)));
        assert!(!covers(&request(Some((1, 2)), 80), &all), "a free port is another one each time");
        assert_eq!(describe(&request(Some((8080, 8080)), 80)), "8080:80/tcp");
    }
}
