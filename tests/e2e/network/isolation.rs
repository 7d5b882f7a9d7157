//! Who may reach whom.

use std::time::Duration;
use tare_tests::lan::{From, HOST, Lan, OUTSIDE, fetch};
use tare_tests::{Host, Running, eventually};

#[test]
fn two_roots_never_meet() {
    let net = Lan::new();
    let other = Host::new();
    other.busybox();
    net.web("web", &["-p", "8080:80"]);
    let started = net.run_for(
        &other,
        &["run", "-d", "--name", "web", "busybox", "sh", "-c", "echo other > /page; exec httpd -f -p 80 -h /"],
    );
    assert_eq!(started.code, 0, "{}", started.stderr);
    let theirs =
        net.run_for(&other, &["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]).stdout.trim().to_owned();
    let ours = net.address("web");
    assert_ne!(ours.rsplit_once('.').unwrap().0, theirs.rsplit_once('.').unwrap().0, "two networks");
    assert_ne!(net.host.names().bridge, other.names().bridge);
    assert!(eventually(Duration::from_secs(5), || fetch(&net.inside, &theirs).as_deref() == Some("other")));
    // Neither reaches the other's containers past what is published.
    let across = net.run(&["exec", "web", "wget", "-qO-", "-T", "2", &format!("http://{theirs}/page")]);
    assert_ne!(across.code, 0, "{}", across.stdout);
    assert_eq!(net.ok(&["ps", "-q"]).lines().count(), 1);
    // The port is taken for both.
    let out = net.run_for(&other, &["run", "--rm", "-p", "8080:80", "busybox", "true"]);
    assert!(out.code == 125 && out.stderr.contains("in use by"), "{}", out.stderr);
    // When one goes, the other stays.
    net.run_for(&other, &["rm", "-f", "web"]);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")).as_deref(), Some("web"));
    assert_eq!(net.ok(&["exec", "web", "wget", "-qO-", "http://192.0.2.2/page"]), "from outside");
}

#[test]
fn a_container_sends_from_its_own_addresses_only() {
    let net = Lan::new();
    let _serving = net.outside.serve("outside", &["7000"]);
    net.peer("one", &["--cap-add", "NET_ADMIN"]);
    let seen = net.whom(From::Container("one"), "udp", OUTSIDE, 7000).expect("it has a way out");
    assert_eq!(seen.peer, HOST);
    // A foreign source: what would otherwise pass for somebody else's.
    net.ok(&["exec", "one", "sh", "-c", "ip addr add 203.0.113.77/32 dev eth0; ip route replace 192.0.2.0/24 dev eth0 via $(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p') src 203.0.113.77"]);
    assert_eq!(net.whom(From::Container("one"), "udp", OUTSIDE, 7000), None);
    // Nor does it reach what listens on the host's loopback device.
    let _local =
        Running::start(&mut net.inside.command(&["busybox", "nc", "-l", "-p", "7001", "-s", "127.0.0.1"]), None);
    net.ok(&["exec", "one", "sh", "-c", "ip route add 127.0.0.9 via $(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'); ip link set lo down; true"]);
    assert_eq!(net.who(From::Container("one"), "tcp", "127.0.0.9", 7001), None);
}
