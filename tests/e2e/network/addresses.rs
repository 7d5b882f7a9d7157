//! What a container has: addresses, routes, a way out, the files of /etc; and what is left of it.

use std::time::Duration;
use tare_tests::lan::{HOST, Lan, fetch, program};
use tare_tests::{Tree, command, eventually};

#[test]
fn a_container_has_an_address_a_route_and_a_way_out() {
    let net = Lan::new();
    let script = "ip -4 -o addr show dev eth0; ip route; ip -o link show; cat /sys/class/net/eth0/mtu; wget -qO- http://192.0.2.2/page";
    let seen = net.ok(&["run", "--rm", "busybox", "sh", "-c", script]);
    assert!(seen.ends_with("from outside"), "{seen}");
    assert!(seen.contains("default via 10."), "{seen}");
    assert_eq!(seen.matches("eth0@").count(), 1, "{seen}");
    // Outside knows no route to the container: it has seen the host's address.
    assert!(
        net.visitors().contains(&format!("[::ffff:{HOST}]")) || net.visitors().contains(HOST),
        "{}",
        net.visitors()
    );
    // Two containers reach each other by address, and the host reaches both.
    net.web("one", &[]);
    net.web("two", &[]);
    let (one, two) = (net.address("one"), net.address("two"));
    assert_ne!(one, two);
    assert_eq!(net.ok(&["exec", "two", "wget", "-qO-", &format!("http://{one}/page")]), "one");
    assert_eq!(fetch(&net.inside, &two).as_deref(), Some("two"));
    assert_eq!(fetch(&net.outside, &two), None, "nothing that is not published is reached from outside");
    // Its own address, and the bridge's, as inspect gives them.
    let settings = net.ok(&[
        "inspect",
        "-f",
        "{{.NetworkSettings.Gateway}} {{.NetworkSettings.IPPrefixLen}} {{.NetworkSettings.MacAddress}}",
        "one",
    ]);
    let fields: Vec<&str> = settings.split(' ').collect();
    let addresses = net.ok(&["exec", "one", "ip", "addr", "show", "dev", "eth0"]);
    assert!(
        addresses.contains(&format!("{one}/{}", fields[1])) && addresses.contains(fields[2]),
        "{settings} {addresses}"
    );
    assert!(net.ok(&["exec", "one", "ip", "route"]).contains(&format!("default via {}", fields[0])));
    assert!(net.inside.on(&["ip", "addr"]).stdout.contains(&format!("{}/", fields[0])));
}

/// What `apt-get update` does, without Debian's mirrors: names, redirects of the resolver aside, and a larger file.
#[test]
fn files_are_fetched_from_outside_whole() {
    let net = Lan::new();
    let file = net.host.scratch("site/large");
    let bytes = command("head").args(["-c", "5000000", "/dev/urandom"]).output().unwrap().stdout;
    std::fs::write(&file, &bytes).unwrap();
    let sum = program(&["sha256sum", &file.display().to_string()]);
    let script = "wget -qO /large http://192.0.2.2/large && sha256sum /large; wget -qO- http://192.0.2.2/missing 2>&1 | grep -c 404";
    let seen = net.ok(&["run", "--rm", "busybox", "sh", "-c", script]);
    assert_eq!(seen, format!("{}  /large\n1", &sum[..64]));
}

#[test]
fn the_files_of_the_network_say_what_is_so() {
    let mut net = Lan::new();
    net.resolver("# comment\nsearch example.org\nnameserver 127.0.0.53\nnameserver 192.0.2.53\noptions edns0\n");
    let script = "cat /etc/hosts /etc/resolv.conf /etc/hostname; ip -4 -o addr show dev eth0";
    let out = net.run(&["run", "--rm", "--hostname", "me", "busybox", "sh", "-c", script]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    let address = out.stdout.rsplit("inet ").next().unwrap().split('/').next().unwrap();
    assert!(
        out.stdout.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
        "{}",
        out.stdout
    );
    assert!(
        out.stdout
            .contains(&format!("\n{address}\tme\nsearch example.org\noptions edns0\nnameserver 192.0.2.53\nme\n")),
        "{}",
        out.stdout
    );
    let seen = net.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--hostname",
        "me",
        "busybox",
        "sh",
        "-c",
        "grep me /etc/hosts; ping -c 1 -W 1 me >/dev/null && echo resolves",
    ]);
    assert_eq!(seen, "127.0.0.1\tme\nresolves");
    let hosts = net.ok(&["run", "--rm", "--network", "host", "busybox", "cat", "/etc/hosts"]);
    assert_eq!(hosts, std::fs::read_to_string("/etc/hosts").unwrap().trim_end());
}

#[test]
fn names_with_a_configuration_of_their_own_are_kept() {
    // An image that brings its own /etc/resolv.conf as a mount keeps it.
    let net = Lan::new();
    let tree = Tree::new();
    tree.file("resolv.conf", "nameserver 198.51.100.1\n");
    let mount = format!("{}:/etc/resolv.conf:ro", tree.path("resolv.conf").display());
    assert_eq!(net.ok(&["run", "--rm", "-v", &mount, "busybox", "cat", "/etc/resolv.conf"]), "nameserver 198.51.100.1");
}

#[test]
fn the_last_container_takes_the_bridge_and_the_rules_along() {
    let net = Lan::new();
    let names = net.host.names().clone();
    let exists = || {
        let bridge = net.inside.on(&["ip", "link", "show", &names.bridge]).code == 0;
        let table = net.inside.on(&["nft", "list", "tables"]).stdout.contains(&names.instance);
        (bridge, table)
    };
    assert_eq!(exists(), (false, false));
    net.ok(&["run", "-d", "--name", "one", "busybox", "sleep", "1000"]);
    net.ok(&["run", "-d", "--name", "two", "-p", "8080:80", "busybox", "sleep", "1000"]);
    assert_eq!(exists(), (true, true));
    net.ok(&["rm", "-f", "one"]);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(exists(), (true, true), "the other one needs them");
    net.ok(&["kill", "two"]);
    assert!(eventually(Duration::from_secs(5), || exists() == (false, false)), "{:?}", exists());
    // An address is used again once it is free, and never twice at once.
    for i in 0..3 {
        net.ok(&["run", "-d", "--name", &format!("box{i}"), "busybox", "sleep", "1000"]);
    }
    let mut addresses: Vec<String> = (0..3).map(|i| net.address(&format!("box{i}"))).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 3);
}
