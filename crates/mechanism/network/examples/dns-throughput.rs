//! How many questions a second the server of a container's names answers, and how long the slowest of a hundred waits.
//!
//! `cargo run --release -p tare-network --example dns-throughput [SECONDS]`, as root. One thread asks, one answers, in a
//! network namespace of their own, with 300 containers on the network; a table with the number of questions under way.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement, run by hand")]

use rustix::event::{PollFd, PollFlags, poll};
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};
use tare_network::dns::{ADDRESS, Listener, NameEntry, NamesFile, ServedNetwork, Server, Upstreams};

fn question(id: u16) -> Vec<u8> {
    let mut bytes = [id.to_be_bytes(), [1, 0], [0, 1], [0; 2], [0; 2], [0; 2]].concat();
    let name = format!("w{}", id % 300);
    bytes.push(name.len() as u8);
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

fn measure(under_way: u16, time: Duration) -> (f64, [Duration; 2]) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect((ADDRESS, 53)).unwrap();
    let mut asked = vec![Instant::now(); 1 << 16];
    let mut times = Vec::new();
    let mut next = 0_u16;
    let mut ask = |asked: &mut Vec<Instant>| {
        asked[usize::from(next)] = Instant::now();
        socket.send(&question(next)).unwrap();
        next = next.wrapping_add(1);
    };
    (0..under_way).for_each(|_| ask(&mut asked));
    let begun = Instant::now();
    let mut buffer = [0; 512];
    while begun.elapsed() < time {
        let n = socket.recv(&mut buffer).unwrap();
        assert!(n > 12 && buffer[7] == 1, "no address");
        times.push(asked[usize::from(u16::from_be_bytes([buffer[0], buffer[1]]))].elapsed());
        ask(&mut asked);
    }
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort_unstable();
    (rate, [times[times.len() / 2], times[times.len() * 99 / 100]])
}

fn main() {
    let seconds = std::env::args().nth(1).map_or(3.0, |s| s.parse().unwrap());
    let netns = tare_kernel::netlink::new_network_namespace().unwrap();
    tare_network::loopback_up(netns.as_fd()).unwrap();
    let directory = std::env::temp_dir().join(format!("dns-throughput-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let names = NamesFile::of(&directory);
    for n in 0..300_u16 {
        let [high, low] = n.to_be_bytes();
        let addresses = vec![[10, 1, high, low].into(), [0xfd00, 0, 0, 0, 0, 0, 0, n].into()];
        let entry =
            NameEntry { id: format!("{n:064x}"), addresses, name: format!("w{n}"), aliases: vec!["pool".into()] };
        names.put(&entry).unwrap();
    }
    let begun = Instant::now();
    let listener = Listener::open(netns.as_fd()).unwrap();
    println!("sockets and table of one container: {:?}", begun.elapsed());
    let networks = vec![ServedNetwork { name: "blue".into(), names }];
    std::thread::spawn(move || {
        let mut server = Server::new(listener, networks, Upstreams::None).unwrap();
        loop {
            poll(&mut [PollFd::new(&server, PollFlags::IN)], None).unwrap();
            server.work();
        }
    });
    println!("{:>9} {:>12} {:>10} {:>10}", "under way", "answers/s", "p50", "p99");
    tare_kernel::netlink::in_network_namespace(netns.as_fd(), || {
        for under_way in [1, 8, 32] {
            let (rate, [half, most]) = measure(under_way, Duration::from_secs_f64(seconds));
            println!("{under_way:>9} {rate:>12.0} {half:>10.1?} {most:>10.1?}");
        }
    })
    .unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}
