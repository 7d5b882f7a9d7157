//! Published ports.

use std::time::Duration;
use tare_tests::lan::{From, HOST, HOST6, Lan, OUTSIDE, OUTSIDE6, fetch, program, talk};
use tare_tests::{Running, eventually};

#[test]
fn published_ports_are_reached_from_everywhere() {
    let net = Lan::new();
    net.web("web", &["-p", "8080:80", "-p", "80"]);
    let ports =
        net.ok(&["inspect", "-f", "{{range index .NetworkSettings.Ports \"80/tcp\"}}{{.HostPort}} {{end}}", "web"]);
    let free = ports.split(' ').find(|p| *p != "8080").unwrap().to_owned();
    for port in ["8080", &free] {
        for (from, address) in
            [(&net.outside, HOST), (&net.inside, HOST), (&net.inside, "127.0.0.1"), (&net.inside, "localhost")]
        {
            let got = fetch(from, &format!("{address}:{port}"));
            assert_eq!(got.as_deref(), Some("web"), "{address}:{port}");
        }
    }
    assert!(net.ok(&["ps", "--format", "{{.Ports}}"]).contains("0.0.0.0:8080->80/tcp"));
    // From a container, by the host's address.
    net.web("other", &[]);
    assert_eq!(net.ok(&["exec", "other", "wget", "-qO-", &format!("http://{HOST}:8080/page")]), "web");
    // Free again when the container is gone, without delay.
    net.ok(&["rm", "-f", "web"]);
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")), None);
    net.web("again", &["-p", "8080:80"]);
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")).as_deref(), Some("again"));
    // It keeps its ports through a stop and a start.
    net.ok(&["stop", "-t", "0", "again"]);
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")), None);
    net.ok(&["start", "again"]);
    assert!(
        eventually(Duration::from_secs(5), || fetch(&net.outside, &format!("{HOST}:8080")).as_deref() == Some("again"))
    );
}

#[test]
fn a_port_may_be_published_on_one_address_only() {
    let net = Lan::new();
    net.web("local", &["-p", "127.0.0.1:8080:80"]);
    net.web("wide", &["-p", &format!("{HOST}:8080:80")]);
    assert_eq!(fetch(&net.inside, "127.0.0.1:8080").as_deref(), Some("local"));
    assert_eq!(fetch(&net.inside, &format!("{HOST}:8080")).as_deref(), Some("wide"));
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")).as_deref(), Some("wide"));
    // Somebody on the same wire who sends packets for 127.0.0.1 gets nowhere.
    net.ok(&["rm", "-f", "wide"]);
    assert_eq!(fetch(&net.outside, &format!("{HOST}:8080")), None);
    program(&["ip", "-n", net.outside.name(), "address", "flush", "dev", "lo"]);
    program(&["ip", "-n", net.outside.name(), "route", "add", "127.0.0.0/8", "via", HOST]);
    let allow = "for f in all eth0; do echo 1 > /proc/sys/net/ipv4/conf/$f/route_localnet; done";
    assert_eq!(net.outside.on(&["sh", "-c", allow]).code, 0);
    let route = net.outside.on(&["ip", "route", "get", "127.0.0.1"]).stdout;
    assert!(route.contains("dev eth0"), "{route}");
    assert_eq!(fetch(&net.outside, "127.0.0.1:8080"), None);
    let ranges = net.run(&[
        "run",
        "-d",
        "--name",
        "range",
        "-p",
        "9000-9002:80-82",
        "busybox",
        "sh",
        "-c",
        "httpd -p 82 -h /etc; echo range > /etc/page; sleep 1000",
    ]);
    assert_eq!(ranges.code, 0, "{}", ranges.stderr);
    assert!(
        eventually(Duration::from_secs(5), || fetch(&net.outside, &format!("{HOST}:9002")).as_deref() == Some("range"))
    );
}

#[test]
fn a_port_in_use_is_refused_and_its_holder_named() {
    let net = Lan::new();
    net.web("web", &["-p", "8080:80"]);
    let out = net.run(&["run", "--rm", "-p", "8080:81", "busybox", "true"]);
    assert_eq!(out.code, 125);
    assert!(out.stderr.contains("8080") && out.stderr.contains("container web has published"), "{}", out.stderr);
    assert!(out.stderr.contains("hint: choose another host port"), "{}", out.stderr);
    // A program of the host.
    let _listener = Running::start(&mut net.inside.command(&["busybox", "nc", "-l", "-p", "8081"]), None);
    assert!(eventually(Duration::from_secs(5), || net.inside.on(&["ss", "-tln"]).stdout.contains(":8081")));
    let out = net.run(&["run", "--rm", "--name", "late", "-p", "8081:80", "busybox", "true"]);
    assert_eq!(out.code, 125);
    assert!(out.stderr.contains("in use by") && out.stderr.contains("(pid "), "{}", out.stderr);
    // Nothing of the failed ones is left.
    assert_eq!(net.ok(&["ps", "-a", "--format", "{{.Names}}"]), "web");
    let out = net.run(&["run", "--rm", "-p", "203.0.113.9:80:80", "busybox", "true"]);
    assert!(out.code == 125 && out.stderr.contains("203.0.113.9 is not an address of this host"), "{}", out.stderr);
    for network in ["none", "host", "container:web"] {
        let out = net.run(&["run", "--rm", "--network", network, "-p", "8082:80", "busybox", "true"]);
        assert!(out.code == 125 && out.stderr.contains("--publish"), "{network}: {}", out.stderr);
    }
}

#[test]
fn the_source_address_is_preserved_from_outside_and_hidden_on_the_way_out() {
    let net = Lan::new();
    let _serving = net.outside.serve("outside", &["7000"]);
    net.peer("web", &["-p", "8080:80", "-p", "8080:80/udp"]);
    let (four, six) = net.addresses("web", "");
    for (host, outside, own) in [(HOST, OUTSIDE, &four), (HOST6, OUTSIDE6, &six)] {
        for transport in ["tcp", "udp"] {
            let reply = net.whom(From::On(&net.outside), transport, host, 8080).expect("it is published");
            assert_eq!((reply.name.as_str(), reply.peer.as_str()), ("web", outside), "{transport} {host}");
            assert_eq!(&reply.local, own, "{transport} {host}");
            let reply = net.whom(From::Container("web"), transport, outside, 7000).expect("a way out");
            assert_eq!((reply.name.as_str(), reply.peer.as_str()), ("outside", host), "{transport} {outside}");
        }
    }
}

#[test]
fn udp_and_ipv6_ports_in_use_are_refused_and_their_holder_named() {
    let net = Lan::new();
    net.peer("web", &["-p", "5000:80/udp", "-p", "[2001:db8::1]:5001:80"]);
    for (port, there) in [
        ("5000:80/udp", false),
        ("5000:80", true),
        ("[2001:db8::1]:5001:80", false),
        ("5001:80", false),
        ("192.0.2.1:5001:80", true),
    ] {
        let out = net.run(&["run", "--rm", "-p", port, "busybox", "true"]);
        assert_eq!(out.code == 0, there, "{port}: {}", out.stderr);
        assert!(there || out.stderr.contains("web"), "{port}: {}", out.stderr);
    }
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST6, 5001).as_deref(), Some("web"));
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 5001), None);
    let _serving = net.inside.serve("host", &["5002"]);
    let out = net.fails(&["run", "--rm", "-p", "5002:80/udp", "busybox", "true"], 125);
    assert!(out.contains("in use by") && out.contains("(pid "), "{out}");
    // The same port twice in one command.
    let out = net.run(&["run", "--rm", "-p", "5003:80", "-p", "5003:81", "busybox", "true"]);
    assert!(out.code == 125 && out.stderr.contains("5003"), "{}", out.stderr);
}

/// A client that never closes its socket is led to whoever has the port now.
#[test]
fn datagrams_follow_the_port_to_its_new_holder() {
    let net = Lan::new();
    net.peer("first", &["-p", "5000:80/udp"]);
    let talk = talk().display().to_string();
    let line = [talk.as_str(), "send", "4000", HOST, "5000", "600", "50"];
    let client = Running::start(&mut net.outside.command(&line), None);
    let saw = |name: &str| client.printed().0.lines().last().is_some_and(|l| l.starts_with(name));
    assert!(eventually(Duration::from_secs(3), || saw("first")), "{:?}", client.printed());
    net.ok(&["rm", "-f", "first"]);
    net.peer("second", &["-p", "5000:80/udp"]);
    assert!(eventually(Duration::from_secs(2), || saw("second ")), "{:?}", client.printed());
    // Asked before anybody listened, too.
    net.ok(&["rm", "-f", "second"]);
    std::thread::sleep(Duration::from_millis(200));
    net.peer("third", &["-p", "5000:80/udp"]);
    assert!(eventually(Duration::from_secs(2), || saw("third ")), "{:?}", client.printed());
}
