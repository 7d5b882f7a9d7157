//! Hostile containers and neighbours, unlucky operators: what they try is in vain, and nothing is left of it.

use std::time::Duration;
use tare_tests::lan::{HOST, HOST6, Lan, OUTSIDE, OUTSIDE6};
use tare_tests::{Running, compile, eventually};

const SPOOF: &str = include_str!("spoof.c");
/// Where datagrams are heard.
const PORT: &str = "7002";

/// `spoof.c`, compiled for this test.
fn spoof(net: &Lan) -> String {
    let path = net.host.scratch("spoof");
    compile(SPOOF, &path);
    path.display().to_string()
}

/// A command in a container's network namespace, with all that root may do there.
fn beside(net: &Lan, container: &str, line: &[&str]) -> Running {
    let pid = net.ok(&["inspect", "-f", "{{.State.Pid}}", container]);
    let namespace = format!("--net=/proc/{pid}/ns/net");
    Running::start(&mut net.inside.command(&[&["nsenter", &namespace], line].concat()), None)
}

#[track_caller]
fn ready(running: Running) -> Running {
    assert!(eventually(Duration::from_secs(10), || running.printed().0.contains("ready")), "{:?}", running.printed());
    running
}

/// Sends all of `letters`, FROM TO TEXT each; whatever is heard of them afterwards, sorted.
fn heard(listeners: &[&Running], send: impl Fn(&[&str]) -> Running, letters: &[[&str; 3]]) -> Vec<String> {
    let words: Vec<&str> = letters.iter().flatten().copied().collect();
    let out = send(&words).wait();
    assert_eq!((out.code, out.stderr.as_str()), (0, ""), "{words:?}");
    std::thread::sleep(Duration::from_millis(700));
    let all = listeners.iter().flat_map(|l| l.printed().0.lines().map(str::to_owned).collect::<Vec<_>>());
    let mut all: Vec<String> = all.filter(|l| l != "ready").collect();
    all.sort();
    all
}

/// The host's addresses on a network's bridge, of both families, and its link-local one.
fn gateways(net: &Lan, network: &str) -> [String; 3] {
    let of =
        |i: usize| net.ok(&["network", "inspect", "-f", &format!("{{{{(index .IPAM.Config {i}).Gateway}}}}"), network]);
    let (four, six) = (of(0), of(1));
    let all = net.inside.ok(&["ip", "-6", "-o", "address"]);
    let device = all.lines().find(|l| l.contains(&format!(" {six}/"))).unwrap().split_whitespace().nth(1).unwrap();
    let local = all.lines().find(|l| l.contains(&format!(" {device} ")) && l.contains(" fe80:")).unwrap();
    let local = local.split_whitespace().nth(3).unwrap().split('/').next().unwrap();
    [four, six, local.to_owned()]
}

#[test]
fn nobody_inside_passes_for_the_host_or_for_another_network() {
    let net = Lan::new();
    let tool = spoof(&net);
    for name in ["red", "blue"] {
        net.ok(&["network", "create", name]);
        net.peer(name, &["--network", name]);
    }
    let (red4, red6) = net.addresses("red", "red");
    let (blue4, blue6) = net.addresses("blue", "blue");
    let [gate4, gate6, local] = gateways(&net, "red");
    let hear = [tool.as_str(), "hear", PORT];
    let inside = ready(Running::start(&mut net.inside.command(&hear), None));
    let outside = ready(Running::start(&mut net.outside.command(&hear), None));
    let blue = ready(beside(&net, "blue", &hear));
    let gate_local = format!("{local}%eth0");
    let letters = [
        // The gateway's hardware address is asked for with the source of the first packet.
        [red4.as_str(), &gate4, "true"],
        ["127.0.0.1", &gate4, "from loopback"],
        [&gate4, &gate4, "from the gateway"],
        [&gate4, OUTSIDE, "from the gateway, outwards"],
        [HOST, &gate4, "from the host"],
        [&blue4, OUTSIDE, "from blue, outwards"],
        [&blue4, &gate4, "from blue"],
        [&red4, &blue4, "to blue"],
        ["::1", &gate6, "from loopback, IPv6"],
        ["::ffff:127.0.0.1", &gate6, "from loopback, mapped"],
        [&gate6, &gate6, "from the gateway, IPv6"],
        [&gate6, OUTSIDE6, "from the gateway, outwards, IPv6"],
        [&local, &gate6, "from the bridge's own address"],
        [&local, &gate_local, "from the bridge's own address, to it"],
        [HOST6, &gate6, "from the host, IPv6"],
        [&blue6, OUTSIDE6, "from blue, outwards, IPv6"],
        [&red6, &blue6, "to blue, IPv6"],
        ["fe80::77", OUTSIDE6, "from the link, outwards"],
        [&red6, &gate6, "true, IPv6"],
        ["fe80::77", &gate_local, "true, of the link"],
    ];
    let send = |words: &[&str]| beside(&net, "red", &[&[tool.as_str(), "send", PORT], words].concat());
    assert_eq!(heard(&[&inside, &outside, &blue], send, &letters), ["true", "true, IPv6", "true, of the link"]);
}

#[test]
fn an_internal_network_leaks_nothing_and_neighbours_on_the_lan_do_not_get_in() {
    let net = Lan::new();
    let tool = spoof(&net);
    net.ok(&["network", "create", "red"]);
    net.ok(&["network", "create", "--internal", "inner"]);
    net.peer("red", &["--network", "red", "-p", "8080:7002/udp"]);
    net.peer("inner", &["--network", "inner"]);
    let (red4, red6) = net.addresses("red", "red");
    let (inner4, inner6) = net.addresses("inner", "inner");
    let [gate4, gate6, _] = gateways(&net, "inner");
    let [red_gate4, red_gate6, _] = gateways(&net, "red");
    let hear = [tool.as_str(), "hear", PORT];
    let inside = ready(Running::start(&mut net.inside.command(&hear), None));
    let outside = ready(Running::start(&mut net.outside.command(&hear), None));
    let red = ready(beside(&net, "red", &hear));
    let all = [&inside, &outside, &red];
    let routes = format!("ip route add default via {gate4}; ip -6 route add default via {gate6}");
    assert_eq!(beside(&net, "inner", &["sh", "-c", &routes]).wait().code, 0);
    let letters = [
        [inner4.as_str(), OUTSIDE, "outwards"],
        [&inner4, HOST, "to the host"],
        [&inner4, &red_gate4, "to another bridge"],
        [&red4, OUTSIDE, "as red"],
        [&inner4, &red4, "to red"],
        [&inner6, OUTSIDE6, "outwards, IPv6"],
        [&inner6, HOST6, "to the host, IPv6"],
        [&inner6, &red_gate6, "to another bridge, IPv6"],
        ["fe80::77", HOST6, "of the link"],
        [&inner6, &red6, "to red, IPv6"],
        [&inner4, &gate4, "true"],
        [&inner6, &gate6, "true, IPv6"],
    ];
    let send = |words: &[&str]| beside(&net, "inner", &[&[tool.as_str(), "send", PORT], words].concat());
    assert_eq!(heard(&all, send, &letters), ["true", "true, IPv6"]);
    // The LAN routes to the containers' subnets through the host, and may claim to be anybody.
    let inner = ready(beside(&net, "inner", &hear));
    let all = [&red, &inner];
    let letters = [
        [OUTSIDE, red4.as_str(), "routed"],
        [&red_gate4, &red4, "as the gateway"],
        ["127.0.0.1", &red4, "as loopback"],
        [OUTSIDE, &inner4, "routed, to inner"],
        [&gate4, &inner4, "as its gateway"],
        [OUTSIDE6, &red6, "routed, IPv6"],
        [&red_gate6, &red6, "as the gateway, IPv6"],
        [OUTSIDE6, &inner6, "routed, to inner, IPv6"],
    ];
    let send = |words: &[&str]| {
        let line = [&[tool.as_str(), "send", PORT], words].concat();
        Running::start(&mut net.outside.command(&line), None)
    };
    assert_eq!(heard(&all, send, &letters), [""; 0]);
}

#[test]
fn a_bridge_goes_even_if_its_network_was_removed_first() {
    let net = Lan::new();
    for round in 0..12 {
        let name = format!("n{round}");
        net.ok(&["network", "create", &name]);
        net.ok(&["run", "--rm", "--network", &name, "busybox", "true"]);
        // Its supervisor is still at work.
        net.ok(&["network", "rm", &name]);
    }
    let gone = || !net.inside.ok(&["ip", "-brief", "link"]).contains("tn-");
    assert!(eventually(Duration::from_secs(5), gone), "{}", net.inside.ok(&["ip", "-brief", "link"]));
    assert_eq!(net.inside.ok(&["nft", "list", "tables"]), "");
    let left = std::fs::read_dir(net.host.run_dir().join("networks")).unwrap().count();
    assert_eq!(left, 0, "their directories");
}

#[test]
fn what_no_network_can_be_is_refused_and_leaves_nothing() {
    let net = Lan::new();
    for subnet in [
        "0.0.0.0/0",
        "0.0.0.0/8",
        "127.0.0.0/8",
        "126.0.0.0/7",
        "224.0.0.0/4",
        "255.255.255.0/24",
        "10.9.0.1/32",
        "10.9.0.0/31",
        "10.9.0.1/24",
        "10.9.0.0/33",
        "010.9.0.0/16",
        "::/0",
        "::/64",
        "::1:0/112",
        "fe80::/64",
        "fe00::/7",
        "8000::/1",
        "ff02::/64",
        "::ffff:10.0.0.0/104",
        "::ffff:0:0/96",
        "fd09::/128",
        "192.0.0.0/2",
    ] {
        net.fails(&["network", "create", "--subnet", subnet, "bad"], 1);
    }
    let long = "a".repeat(129);
    for name in [
        "",
        " ",
        "--",
        "--rm",
        "-x",
        "a b",
        "a\nb",
        "a/b",
        ".",
        "..",
        "é",
        "a\"b",
        "a;b",
        "none",
        "host",
        "bridge",
        "default",
        "tare0",
        "container",
        "container:x",
        "ns:x",
        &long,
    ] {
        net.fails(&["network", "create", "--", name], 1);
    }
    for device in
        ["%d", "br%d", "a*", "a\"b", "a;b", "a{b", "a/b", "a:b", "a\\b", "..", "all", "lo", "up0", "0123456789abcdef"]
    {
        let option = format!("com.docker.network.bridge.name={device}");
        net.fails(&["network", "create", "-o", &option, "bad"], 1);
    }
    net.ok(&["network", "create", "red"]);
    for alias in ["", " ", "a b", "a\nb", "a#b", "..", "*", "a..b", &"a".repeat(64), &"a.".repeat(150)] {
        let line = ["run", "--rm", "--network", "red", "--network-alias", alias, "busybox", "true"];
        net.fails(&line, 125);
    }
    for (flag, value) in [
        ("--hostname", "a\n6.6.6.6 bank.example"),
        ("--hostname", "a b"),
        ("--hostname", "a#b"),
        ("--add-host", "a\nb:1.2.3.4"),
        ("--add-host", "a:1.2.3.4\n6.6.6.6 b"),
        ("--dns-search", "a\nnameserver 6.6.6.6"),
        ("--dns-option", "a\nnameserver 6.6.6.6"),
        ("--dns", "1.2.3.4\n"),
        ("--network", "red:interface_name=x%d"),
        ("--network", "red:interface_name=../../x"),
        ("--network", "red:interface_name=lo"),
        ("--network", "red:interface_name=all"),
    ] {
        net.fails(&["run", "--rm", flag, value, "busybox", "true"], 125);
    }
    net.peer("web", &["--network", "red"]);
    for name in ["..", "../x", "/tmp/x", "", "a\nb", "a b", &"a".repeat(300)] {
        net.fails(&["network", "attach-netns", "web", name], 1);
    }
    net.ok(&["rm", "-f", "web"]);
    net.ok(&["network", "rm", "red"]);
    assert_eq!(net.settled(), "");
    let devices = net.inside.ok(&["ip", "-brief", "link"]);
    assert_eq!(devices.lines().count(), 2, "{devices}");
}
