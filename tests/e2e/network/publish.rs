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
fn both_loopback_addresses_of_the_host_lead_to_the_container() {
    let net = Lan::new();
    net.peer("web", &["-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1:8081:80", "-p", "[::1]:8082:80"]);
    for transport in ["tcp", "udp"] {
        for address in ["127.0.0.1", "127.0.0.2", "::1", HOST, HOST6] {
            let who = net.who(From::On(&net.inside), transport, address, 8080);
            assert_eq!(who.as_deref(), Some("web"), "{transport} {address}");
        }
    }
    for (address, port, there) in [
        ("127.0.0.1", 8081, true),
        ("::1", 8081, false),
        (HOST, 8081, false),
        ("::1", 8082, true),
        ("127.0.0.1", 8082, false),
        (HOST6, 8082, false),
    ] {
        let who = net.who(From::On(&net.inside), "tcp", address, port);
        assert_eq!(who.is_some(), there, "{address} {port}");
        assert_eq!(net.who(From::On(&net.outside), "tcp", address, port), None, "{address} {port}");
    }
    // Whole files go through the spliced connection in both directions.
    let talk = talk().display().to_string();
    for direction in ["get", "put"] {
        net.inside.ok(&["timeout", "20", &talk, "move", direction, "20000000", "::1", "8080"]);
    }
    // Many at once.
    let many = vec![("tcp", "::1", 8080); 100];
    let answers = net.ask(From::On(&net.inside), Duration::from_secs(5), &many);
    assert!(answers.iter().all(Option::is_some), "{answers:?}");
}

/// The ports of the host that lead to a container's, as `port` prints them.
fn host_ports(net: &Lan, container: &str, port: &str) -> Vec<u16> {
    let list = net.ok(&["port", container, port]);
    let mut ports: Vec<u16> = list.lines().map(|l| l.rsplit(':').next().unwrap().trim().parse().unwrap()).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[test]
fn ports_are_chosen_from_ranges_at_random_or_all() {
    let net = Lan::new();
    net.peer_on("all", &["-p", "9000-9002:80-82"], &["80", "81", "82"]);
    for (port, inner) in [(9000, "80"), (9001, "81"), (9002, "82")] {
        assert_eq!(host_ports(&net, "all", inner), [port]);
        assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, port).as_deref(), Some("all"), "{port}");
        assert_eq!(net.who(From::On(&net.outside), "udp", HOST, port), None, "{port}");
    }
    // A range for one port: a free one of it, until there is none.
    for name in ["one", "two"] {
        net.peer(name, &["-p", "9100-9101:80"]);
    }
    let mut taken = [host_ports(&net, "one", "80"), host_ports(&net, "two", "80")].concat();
    taken.sort_unstable();
    assert_eq!(taken, [9100, 9101]);
    let refused = net.fails(&["run", "--rm", "-p", "9100-9101:80", "busybox", "true"], 125);
    assert!(refused.contains("9100") && refused.contains("9101"), "{refused}");
    // Chosen by the host.
    net.peer("random", &["-p", "80", "-p", "127.0.0.1::81"]);
    let port = host_ports(&net, "random", "80")[0];
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST6, port).as_deref(), Some("random"));
    assert!(net.ok(&["port", "random", "81"]).starts_with("127.0.0.1:"));
    // Everything that is exposed.
    net.peer_on(
        "exposed",
        &["-P", "--expose", "80", "--expose", "81/udp", "--expose", "90-91"],
        &["80", "81", "90", "91"],
    );
    for (transport, inner) in [("tcp", "80"), ("udp", "81"), ("tcp", "90"), ("tcp", "91")] {
        let port = host_ports(&net, "exposed", &format!("{inner}/{transport}"))[0];
        let who = net.who(From::On(&net.outside), transport, HOST, port);
        assert_eq!(who.as_deref(), Some("exposed"), "{transport} {inner}");
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

#[test]
fn ports_come_and_go_on_a_running_container() {
    let net = Lan::new();
    net.peer_on("web", &["-p", "8080:80"], &["80", "81"]);
    let talk = talk().display().to_string();
    let mut long = Running::interactive(&mut net.outside.command(&[&talk, "hold", HOST, "8080"]));
    let said = |held: &Running, n: usize| eventually(Duration::from_secs(3), || held.printed().0.lines().count() == n);
    assert!(said(&long, 1), "{:?}", long.printed());
    net.ok(&["port", "add", "web", "8081:81", "8082:80/udp", "8083:81"]);
    for (transport, port) in [("tcp", 8080), ("tcp", 8081), ("udp", 8082), ("tcp", 8083)] {
        for (from, address) in
            [(&net.outside, HOST), (&net.outside, HOST6), (&net.inside, "127.0.0.1"), (&net.inside, "::1")]
        {
            let who = net.who(From::On(from), transport, address, port);
            assert_eq!(who.as_deref(), Some("web"), "{transport} {address} {port}");
        }
    }
    let list = net.ok(&["port", "web"]);
    assert!(list.contains(":8081") && list.contains("80/udp"), "{list}");
    assert!(net.ok(&["ps", "--format", "{{.Ports}}"]).contains("8081->81/tcp"));
    long.write(b"still here\n");
    assert!(said(&long, 2), "{:?}", long.printed());
    // The port goes, the connection that came through it stays.
    net.ok(&["port", "rm", "web", "8080:80", "8082:80/udp"]);
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8080), None);
    assert_eq!(net.who(From::On(&net.outside), "udp", HOST, 8082), None);
    assert_eq!(net.who(From::On(&net.inside), "tcp", "::1", 8080), None);
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8081).as_deref(), Some("web"));
    long.write(b"and still\n");
    assert!(said(&long, 3), "{:?}", long.printed());
    // Somebody else's by now; and a conflict changes nothing.
    net.peer("other", &["-p", "8080:80"]);
    let refused = net.run(&["port", "add", "web", "8084:80", "8080:80"]);
    assert!(refused.code != 0 && refused.stderr.contains("other"), "{}", refused.stderr);
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8084), None);
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8080).as_deref(), Some("other"));
    // What was added lasts as long as the container does.
    net.ok(&["stop", "-t", "0", "web"]);
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8081), None);
    net.ok(&["start", "web"]);
    let back = || net.who(From::On(&net.outside), "tcp", HOST, 8081).as_deref() == Some("web");
    assert!(eventually(Duration::from_secs(5), back));
    assert_eq!(net.who(From::On(&net.outside), "tcp", HOST, 8083).as_deref(), Some("web"));
}
