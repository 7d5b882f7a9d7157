//! Everything that is read from netlink, fed with what the kernel said and somebody changed on the way.

use crate::message::{AttributesOf, DUMP, Messages, REQUEST, Writer, find, text, u32_of};
use crate::mutate::{LONG, SHORT, rounds, spoil};
use crate::testing::{command, in_new_namespace};
use std::time::Duration;
use tare_kernel::netlink::{Protocol, Socket};

/// What the kernel answers to these requests, one entry for each datagram: devices, addresses, routes, sockets; and
/// nftables' tables, chains, rules and sets.
fn honest() -> Vec<Vec<u8>> {
    for words in [
        "ip link add br0 type bridge",
        "ip link add va0 type veth peer name vb0",
        "ip link set va0 master br0",
        "ip link set br0 up",
        "ip addr add 10.0.0.1/24 dev br0",
        "ip -6 addr add fd00::1/64 dev br0 nodad",
        "ip route add 10.1.0.0/16 dev br0",
        "nft add table inet t",
        "nft add map inet t m { type inet_proto . inet_service : ipv4_addr . inet_service ; }",
        "nft add element inet t m { tcp . 80 : 10.0.0.2 . 8080 }",
        "nft add chain inet t c { type filter hook forward priority 0 ; }",
        "nft add rule inet t c iifname br0 ct state established accept",
    ] {
        command(&words.split(' ').collect::<Vec<_>>());
    }
    let _listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut answers = Vec::new();
    let nft = |number: u16| (Protocol::Netfilter, 10 << 8 | number, vec![1, 0, 0, 0]);
    let mut sockets = vec![2, 6, 0, 0];
    sockets.extend_from_slice(&u32::MAX.to_ne_bytes());
    sockets.resize(56, 0);
    let requests = [
        (Protocol::Route, 18, vec![0; 16]),
        (Protocol::Route, 22, vec![0; 8]),
        (Protocol::Route, 26, vec![0; 12]),
        (Protocol::SockDiag, 20, sockets),
        nft(1),
        nft(4),
        nft(7),
        nft(10),
    ];
    for (protocol, kind, header) in requests {
        let socket = Socket::open(protocol).unwrap();
        let mut writer = Writer::new();
        writer.message(kind, REQUEST | DUMP, 1, &header, |_| {});
        socket.send(&writer.bytes).unwrap();
        let mut buffer = vec![0; 65536];
        let before = answers.len();
        while let Some(n) = socket.receive(&mut buffer).unwrap() {
            answers.push(buffer[..n].to_vec());
        }
        assert!(answers.len() > before, "{kind} is not answered");
    }
    answers
}

/// Walks attributes in every way that the readers do.
fn walk(bytes: &[u8], depth: usize) -> usize {
    let values = AttributesOf(bytes).map(|(_, value)| {
        let _ = (text(value), u32_of(value), find(value, 1));
        1 + if depth > 0 { walk(value, depth - 1) } else { 0 }
    });
    values.sum()
}

/// How many messages were understood by one of the readers.
fn read(datagram: &[u8]) -> usize {
    let mut understood = 0;
    for message in Messages(datagram) {
        let _ = (message.status(), message.interrupted());
        for header in [0, 4, 8, 12, 16] {
            let attributes = message.attributes(header).map(|(_, value)| walk(value, 4));
            understood += usize::from(attributes.sum::<usize>() == usize::MAX);
        }
        understood += usize::from(crate::device::Link::parse(&message).is_some());
        understood += usize::from(crate::address::Held::parse(&message).is_some());
        understood += usize::from(crate::address::Route::parse(&message).is_some());
        understood += usize::from(crate::own_addresses::parse(message.body).is_some());
        understood += usize::from(crate::conntrack::Flow::parse(message.body).is_some());
        for port in [0, 80] {
            understood += usize::from(crate::holder::parse(message.body, 2, port).is_some());
        }
    }
    understood
}

fn fuzz(seed: u64, time: Duration) {
    in_new_namespace(move |_| {
        let honest = honest();
        assert!(honest.iter().map(|datagram| read(datagram)).sum::<usize>() > 10);
        let count = rounds(seed, time, |random| {
            let mut datagram = random.pick(&honest).clone();
            spoil(random, &mut datagram);
            read(&datagram);
            let noise: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
            read(&noise);
            // Behind a header that lets it in.
            let mut whole = (16 + noise.len() as u32).to_ne_bytes().to_vec();
            whole.extend_from_slice(datagram.get(4..16).unwrap_or_default());
            whole.resize(16, 0);
            whole.extend_from_slice(&noise);
            read(&whole);
        });
        assert!(count > 1000, "{count} rounds");
    });
}

#[test]
fn spoilt_answers_of_the_kernel_make_no_panic() {
    fuzz(1, SHORT);
}

#[test]
#[ignore = "two minutes"]
fn long_spoilt_answers_of_the_kernel_make_no_panic() {
    fuzz(2, LONG);
}
