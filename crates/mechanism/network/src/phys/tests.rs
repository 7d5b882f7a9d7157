//! Devices that are lent and come back. A veth end stands in for a card: the kernel would destroy it with its namespace, and
//! everything else is the same. What the kernel does with a card is proved in the virtual machine.

use super::*;
use crate::Host;
use crate::testing::{command, in_new_namespace};
use std::os::fd::OwnedFd;
use tare_kernel::netlink::{in_network_namespace, new_network_namespace};

const NO_WAIT: Duration = Duration::ZERO;

fn at<T>(netns: &OwnedFd, work: impl FnOnce() -> T) -> T {
    in_network_namespace(netns.as_fd(), work).unwrap()
}

/// A card with everything that it can have.
fn card() {
    for line in [
        "link add card0 mtu 1400 type veth peer name other0",
        "link set card0 address 02:00:00:00:00:07",
        "addr add 198.51.100.7/24 brd + dev card0",
        "addr add 198.51.100.8/24 dev card0 label card0:b valid_lft 5000 preferred_lft 4000",
        "addr add 169.254.3.3/16 scope link dev card0",
        "addr add fd00:7::7/64 nodad dev card0",
        "link set other0 up",
        "link set card0 up",
        "route add default via 198.51.100.1 dev card0 metric 20",
        "route add 203.0.113.0/24 dev card0",
        "route add 192.0.2.0/24 via 198.51.100.2 table 77",
        "-6 route add default via fd00:7::1 dev card0",
    ] {
        let mut words = vec!["ip"];
        words.extend(line.split(' '));
        command(&words);
    }
}

/// What ip tells of it, but what changes by itself: times, and the link's partner.
fn told() -> String {
    let mut out = command(&["ip", "-o", "addr", "show", "card0"]);
    out += &command(&["ip", "-o", "link", "show", "card0"]);
    out += &command(&["ip", "route", "show", "table", "all", "dev", "card0"]);
    out += &command(&["ip", "-6", "route", "show", "dev", "card0"]);
    let seconds = |word: &str| word.strip_suffix("sec").is_some_and(|n| n.parse::<u32>().is_ok());
    let lines = out.lines().filter(|line| !line.contains("fe80"));
    let lines = lines.map(|line| line.split_whitespace().filter(|w| !seconds(w)).collect::<Vec<_>>().join(" "));
    // Its number may be another.
    let lines =
        lines.map(|line| line.trim_start_matches(|c: char| c.is_ascii_digit() && line.contains(": card0")).to_owned());
    lines.map(|line| line.replace(" tentative", "")).collect::<Vec<_>>().join("\n")
}

fn lent(host: &mut Host, netns: &OwnedFd, mac: Option<MacAddress>) -> LentDevice {
    let mut lent = host.lend("card0").unwrap();
    let inside = Inside { interface: "eth0", mac, mtu: 1300 };
    lent.index_inside = Some(move_in(&mut host.route, &lent, inside, netns.as_fd()).unwrap());
    lent
}

#[test]
fn a_device_comes_back_as_it_was_whatever_was_done_to_it_inside() {
    in_new_namespace(|_| {
        card();
        let before = told();
        for part in
            ["198.51.100.8/24", "card0:b", "169.254.3.3", "fd00:7::7/64", "metric 20", "table 77", "203.0.113.0/24"]
        {
            assert!(before.contains(part), "{part} is not in {before}");
        }
        let mut host = Host::open().unwrap();
        let netns = new_network_namespace().unwrap();
        let device = lent(&mut host, &netns, Some(MacAddress([2, 0, 0, 0, 0, 9])));
        let inside = at(&netns, || command(&["ip", "addr", "show", "eth0"]));
        assert!(
            inside.contains("02:00:00:00:00:09") && inside.contains("mtu 1300") && !inside.contains("inet"),
            "{inside}"
        );
        at(&netns, || {
            command(&["ip", "link", "set", "eth0", "up"]);
            command(&["ip", "link", "set", "eth0", "name", "mine0"]);
            command(&["ip", "link", "set", "mine0", "mtu", "900", "address", "02:00:00:00:00:0a"]);
            command(&["ip", "addr", "add", "10.9.9.9/24", "dev", "mine0"]);
        });
        // By another process, from what was written down.
        let read: LentDevice = serde_json::from_str(&serde_json::to_string(&device).unwrap()).unwrap();
        let mut other = Host::open().unwrap();
        assert_eq!(other.give_back(&read, "eth0", Some(netns.as_fd()), NO_WAIT).unwrap(), Returned::Whole);
        assert_eq!(told(), before);
        assert!(!at(&netns, || command(&["ip", "link"])).contains("mine0"));
        // Again, and without the namespace.
        assert_eq!(other.give_back(&read, "eth0", Some(netns.as_fd()), NO_WAIT).unwrap(), Returned::Whole);
        assert_eq!(other.give_back(&read, "eth0", None, NO_WAIT).unwrap(), Returned::Whole);
        assert_eq!(told(), before);
    });
}

#[test]
fn a_device_that_was_down_stays_down() {
    in_new_namespace(|_| {
        command(&["ip", "link", "add", "card0", "type", "veth", "peer", "name", "other0"]);
        let mut host = Host::open().unwrap();
        let netns = new_network_namespace().unwrap();
        let device = lent(&mut host, &netns, None);
        host.give_back(&device, "eth0", Some(netns.as_fd()), NO_WAIT).unwrap();
        assert!(command(&["ip", "link", "show", "card0"]).contains("state DOWN"));
    });
}

#[test]
fn a_name_that_was_taken_meanwhile_is_left_to_its_new_owner() {
    in_new_namespace(|_| {
        card();
        let mut host = Host::open().unwrap();
        let netns = new_network_namespace().unwrap();
        let device = lent(&mut host, &netns, None);
        command(&["ip", "link", "add", "card0", "type", "veth", "peer", "name", "eth0"]);
        let Returned::Renamed(name) = host.give_back(&device, "eth0", Some(netns.as_fd()), NO_WAIT).unwrap() else {
            panic!("the name is another's");
        };
        assert!(name.starts_with("dev"), "{name}");
        assert!(command(&["ip", "addr", "show", &name]).contains("198.51.100.7/24"));
        // Once the name is free, it has it again.
        command(&["ip", "link", "del", "card0"]);
        assert_eq!(host.give_back(&device, "eth0", None, NO_WAIT).unwrap(), Returned::Whole);
        assert!(told().contains("198.51.100.7/24"));
    });
}

#[test]
fn a_container_may_have_it_with_its_own_addresses_and_routes() {
    in_new_namespace(|_| {
        card();
        let mut host = Host::open().unwrap();
        let netns = new_network_namespace().unwrap();
        let device = lent(&mut host, &netns, None);
        let mut there = Channel::open(Protocol::Route, Some(netns.as_fd())).unwrap();
        keep_own(&mut there, &device, device.index_inside.unwrap(), "eth0").unwrap();
        let inside = at(&netns, || {
            command(&["ip", "addr", "show", "eth0"]) + &command(&["ip", "route"]) + &command(&["ip", "-6", "route"])
        });
        for part in [
            "198.51.100.7/24",
            "fd00:7::7/64",
            "UP",
            "default via 198.51.100.1 dev eth0 metric 20",
            "203.0.113.0/24 dev eth0",
            "default via fd00:7::1 dev eth0",
        ] {
            assert!(inside.contains(part), "{part} is not in {inside}");
        }
        // Leased by somebody on the host, and of this link.
        assert!(!inside.contains("198.51.100.8") && !inside.contains("169.254"), "{inside}");
    });
}

#[test]
fn what_cannot_be_lent_is_refused_and_says_why() {
    in_new_namespace(|_| {
        let mut host = Host::open().unwrap();
        let missing = host.lend("card0").unwrap_err();
        assert_eq!(missing.kind(), Kind::NotFound);
        assert!(missing.first_hint().unwrap().contains("ip link"));
        assert_eq!(host.lend("lo").unwrap_err().kind(), Kind::Invalid);
        command(&["ip", "link", "add", "br0", "type", "bridge"]);
        assert_eq!(host.lend("br0").unwrap_err().kind(), Kind::Invalid);
        command(&["ip", "link", "add", "card0", "type", "veth", "peer", "name", "other0"]);
        command(&["ip", "link", "set", "card0", "master", "br0"]);
        let port = host.lend("card0").unwrap_err();
        assert_eq!(port.kind(), Kind::InUse);
        assert!(port.to_string().contains("\"br0\""), "{port}");
        assert!(port.first_hint().unwrap().contains("nomaster"));
        command(&["ip", "link", "set", "card0", "nomaster"]);
        command(&["ip", "link", "add", "mv0", "link", "card0", "type", "macvlan"]);
        let carrier = host.lend("card0").unwrap_err();
        assert!(carrier.to_string().contains("\"mv0\" stands on it"), "{carrier}");
        command(&["ip", "link", "del", "mv0"]);
        host.lend("card0").unwrap();
    });
}

#[test]
fn one_that_is_nowhere_is_told_and_one_that_cannot_be_moved_in_stays_whole() {
    in_new_namespace(|home| {
        card();
        let before = told();
        let mut host = Host::open().unwrap();
        let netns = new_network_namespace().unwrap();
        at(&netns, || command(&["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "x0"]));
        let device = host.lend("card0").unwrap();
        let inside = Inside { interface: "eth0", mac: None, mtu: 0 };
        let error = move_in(&mut host.route, &device, inside, netns.as_fd()).unwrap_err();
        assert_eq!(error.kind(), Kind::AlreadyExists, "{error}");
        assert_eq!(told(), before);
        // Refused by the kernel when the move is done.
        let inside = Inside { interface: "eth1", mac: None, mtu: 1 << 20 };
        let error = move_in(&mut host.route, &device, inside, netns.as_fd()).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::INVAL.raw_os_error()), "{error}");
        assert_eq!(told(), before);
        let gone = new_network_namespace().unwrap();
        let device = lent(&mut host, &gone, None);
        // Not where it is looked for, although somewhere: this namespace is not the one that has it.
        let error = host.give_back(&device, "eth0", Some(home.as_fd()), Duration::from_millis(10)).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.first_hint().unwrap().contains("lsns"));
    });
}
