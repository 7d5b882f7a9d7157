//! Limits against the real kernel: a pair whose one end is a container's.

use super::*;
use crate::Host;
use crate::testing::{command, in_new_namespace};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use tare_kernel::netlink::{in_network_namespace, new_network_namespace};

const LINK: &str = "tvabcdefghijkl";
const IFB: &str = "tiabcdefghijkl";
const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

fn at<T>(netns: &OwnedFd, work: impl FnOnce() -> T) -> T {
    in_network_namespace(netns.as_fd(), work).unwrap()
}

/// A pair with addresses at both ends; the number of the host's.
fn pair(host: &mut Host, netns: &OwnedFd) -> u32 {
    let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
    command(&["ip", "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", &path]);
    command(&["ip", "addr", "add", "10.77.0.1/24", "dev", LINK]);
    command(&["ip", "link", "set", LINK, "up"]);
    at(netns, || {
        command(&["ip", "addr", "add", "10.77.0.2/24", "dev", "eth0"]);
        command(&["ip", "link", "set", "eth0", "up"]);
    });
    host.route.link(LINK).unwrap().unwrap().index
}

/// Bits per second that a TCP connection carries, measured over `time` after a first tenth.
fn carried(sender: &mut TcpStream, receiver: &mut TcpStream, time: Duration) -> f64 {
    sender.set_nonblocking(true).unwrap();
    receiver.set_nonblocking(true).unwrap();
    let (chunk, mut buffer) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let (start, mut begun, mut count) = (Instant::now(), None, 0_u64);
    while start.elapsed() < time {
        let sent = sender.write(&chunk).is_ok();
        let read = receiver.read(&mut buffer).unwrap_or(0) as u64;
        if start.elapsed() > time / 10 {
            begun.get_or_insert_with(Instant::now);
            count += read;
        }
        if !sent && read == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    count as f64 * 8.0 / begun.unwrap().elapsed().as_secs_f64()
}

/// Rates to and from the container.
fn rates(netns: &OwnedFd) -> (f64, f64) {
    let server = TcpListener::bind((HOST, 0)).unwrap();
    let mut inside = at(netns, || TcpStream::connect(server.local_addr().unwrap()).unwrap());
    let (mut outside, _) = server.accept().unwrap();
    let time = Duration::from_millis(1500);
    let to = carried(&mut outside, &mut inside, time);
    let mut inside = at(netns, || TcpStream::connect(server.local_addr().unwrap()).unwrap());
    let (mut outside, _) = server.accept().unwrap();
    (to, carried(&mut inside, &mut outside, time))
}

#[test]
fn each_direction_has_its_own_limit_and_the_container_cannot_lift_it() {
    in_new_namespace(|_| {
        let mut host = Host::open().unwrap();
        let netns = new_network_namespace().unwrap();
        let index = pair(&mut host, &netns);
        let rate = Rate { to_container: Some(20_000_000), from_container: Some(5_000_000) };
        limit(&mut host.route, LINK, index, 1500, rate).unwrap();
        assert!(command(&["tc", "qdisc", "show", "dev", LINK]).contains("qdisc tbf 1: root refcnt"));
        // Whatever it does with its own end.
        at(&netns, || {
            command(&["tc", "qdisc", "replace", "dev", "eth0", "root", "pfifo"]);
            command(&["ip", "link", "set", "eth0", "txqueuelen", "10000"]);
        });
        let (to, from) = rates(&netns);
        assert!((15e6..=21e6).contains(&to), "{to} bit/s to a container that may have 20 Mbit/s");
        assert!((3.7e6..=5.5e6).contains(&from), "{from} bit/s from a container that may send 5 Mbit/s");
        host.remove_limit(LINK, rate).unwrap();
        host.remove_limit(LINK, rate).unwrap();
        assert!(!host.link_exists(IFB).unwrap());
    });
}

#[test]
fn one_direction_alone_leaves_the_other_as_it_was() {
    in_new_namespace(|_| {
        let mut host = Host::open().unwrap();
        let netns = new_network_namespace().unwrap();
        let index = pair(&mut host, &netns);
        limit(&mut host.route, LINK, index, 1500, Rate { to_container: Some(10_000_000), from_container: None })
            .unwrap();
        assert!(!host.link_exists(IFB).unwrap());
        let (to, from) = rates(&netns);
        assert!(to <= 11e6 && from > 100e6, "{to} to, {from} from");
        assert_eq!(at(&netns, || TcpListener::bind((INSIDE, 0)).map(drop)).unwrap(), ());
    });
}

#[test]
fn a_limit_beyond_32_bits_of_bytes_is_what_the_kernel_has() {
    in_new_namespace(|_| {
        let mut host = Host::open().unwrap();
        let netns = new_network_namespace().unwrap();
        let index = pair(&mut host, &netns);
        let rate = Rate { to_container: Some(80_000_000_000), from_container: Some(1_000_000_000) };
        limit(&mut host.route, LINK, index, 1500, rate).unwrap();
        let shown = command(&["tc", "qdisc", "show", "dev", LINK]);
        assert!(shown.contains("rate 80Gbit"), "{shown}");
        let shown = command(&["tc", "qdisc", "show", "dev", IFB]);
        assert!(shown.contains("rate 1Gbit"), "{shown}");
        assert!(!command(&["ip", "addr", "show", IFB]).contains("inet"));
    });
}

#[test]
fn a_bucket_holds_a_packet_and_a_queue_is_not_without_end() {
    let slow = Bucket::new(1_000_000, 1500);
    assert_eq!(slow, Bucket { rate: 125_000, burst: 3028, limit: 3028 + 32 * 1024 });
    let fast = Bucket::new(1_000_000_000, 1500);
    assert_eq!(fast, Bucket { rate: 125_000_000, burst: 1_250_000, limit: 1_250_000 + 6_250_000 });
    assert_eq!(Bucket::new(u64::MAX, 9000).limit, u32::MAX);
}

#[test]
fn too_low_a_rate_is_refused() {
    assert!(Rate { to_container: Some(16_000), from_container: None }.check().is_ok());
    let error = Rate { to_container: None, from_container: Some(15_999) }.check().unwrap_err();
    assert!(error.to_string().contains("16 kbit/s"), "{error}");
}
