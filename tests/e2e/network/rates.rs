//! `--net-rate`, measured by what is transferred.

use tare_tests::lan::{From, HOST, Lan, OUTSIDE, talk};

/// 16 Mbit/s are two million bytes a second.
const BYTES: &str = "4000000";

/// How many milliseconds a transfer takes.
fn milliseconds(printed: &str) -> u64 {
    printed.trim().parse().unwrap()
}

#[track_caller]
fn is_limited(took: u64, what: &str) {
    // A bucket's content passes at once; nothing is promised of the lower end on a busy machine.
    assert!(took > 1_400, "{what}: {took} ms");
    assert!(took < 8_000, "{what}: {took} ms");
}

#[track_caller]
fn is_free(took: u64, what: &str) {
    assert!(took < 1_000, "{what}: {took} ms");
}

#[test]
fn both_directions_are_limited_and_nobody_inside_lifts_it() {
    let net = Lan::new();
    let _serving = net.outside.serve("outside", &["7000"]);
    let talk = talk().display().to_string();
    let from_outside = |direction: &str, port: &str| {
        milliseconds(&net.outside.ok(&["timeout", "30", &talk, "move", direction, BYTES, HOST, port]))
    };
    let from_inside = |name: &str, direction: &str| {
        milliseconds(&net.ok(&["exec", name, "talk", "move", direction, BYTES, OUTSIDE, "7000"]))
    };
    net.peer("both", &["-p", "8001:80", "--net-rate", "16mbit", "--cap-add", "NET_ADMIN"]);
    net.peer("into", &["-p", "8002:80", "--net-rate", "in=16mbit"]);
    net.peer("away", &["-p", "8003:80", "--net-rate", "out=2mbps"]);
    net.peer("free", &["-p", "8004:80"]);
    is_limited(from_outside("get", "8001"), "both, sent");
    is_limited(from_outside("put", "8001"), "both, received");
    is_limited(from_inside("both", "put"), "both, sent by itself");
    is_free(from_outside("get", "8002"), "into, sent");
    is_limited(from_outside("put", "8002"), "into, received");
    is_limited(from_outside("get", "8003"), "away, sent");
    is_free(from_outside("put", "8003"), "away, received");
    is_free(from_outside("get", "8004"), "free, sent");
    is_free(from_inside("free", "get"), "free, received");
    // From within nothing is there to be lifted.
    net.ok(&[
        "exec",
        "both",
        "sh",
        "-c",
        "tc qdisc del dev eth0 root; tc qdisc del dev eth0 ingress; ip link set eth0 down; ip link set eth0 up; true",
    ]);
    let gateway = net.ok(&["inspect", "-f", "{{.NetworkSettings.Gateway}}", "both"]);
    net.ok(&["exec", "both", "sh", "-c", &format!("ip route replace default via {gateway}")]);
    is_limited(from_inside("both", "get"), "both, received after it has tried");
    is_limited(from_inside("both", "put"), "both, sent after it has tried");
    // It holds again after a start, and says what it counts.
    net.ok(&["stop", "-t", "0", "both"]);
    net.ok(&["start", "both"]);
    assert!(tare_tests::eventually(std::time::Duration::from_secs(5), || {
        net.who(From::On(&net.outside), "tcp", HOST, 8001).is_some()
    }));
    is_limited(from_outside("get", "8001"), "both, after a start");
    let seen = net.ok(&["stats", "--no-stream", "--format", "{{.NetIO}}", "both"]);
    let sent = seen.split('/').nth(1).unwrap().trim();
    // What was dropped above the rate has been sent, too.
    let megabytes: f64 = sent.strip_suffix("MB").expect(&seen).parse().unwrap();
    assert!((4.0..12.0).contains(&megabytes), "{seen}");
}
