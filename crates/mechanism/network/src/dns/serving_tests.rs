//! A server in a network namespace of its own, asked by dig and by hand.

use super::message::{Code, Query};
use super::*;
use crate::testing::{command, in_new_namespace};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SERVER: (std::net::Ipv4Addr, u16) = (ADDRESS, 53);

/// A container's server, at work on a thread until dropped.
struct Served {
    directory: tempfile::TempDir,
    ends: Arc<AtomicBool>,
    load: Arc<Mutex<(usize, usize)>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    /// On the networks `blue` and `Green`; `resolv_conf`: where unknown names are asked, `None`: nowhere.
    fn new(netns: &OwnedFd, resolv_conf: Option<&str>) -> Served {
        Served::with(netns, resolv_conf, None)
    }

    fn with(netns: &OwnedFd, resolv_conf: Option<&str>, given: Option<&[IpAddr]>) -> Served {
        let directory = tempfile::tempdir().unwrap();
        let mut networks = Vec::new();
        for name in ["blue", "Green"] {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).unwrap();
            networks.push(ServedNetwork { name: name.into(), names: NamesFile::of(path) });
        }
        let conf = directory.path().join("resolv.conf");
        let upstreams = match (resolv_conf, given) {
            (_, Some(servers)) => Upstreams::given(servers, netns.try_clone().unwrap()),
            (Some(text), None) => {
                std::fs::write(&conf, text).unwrap();
                Upstreams::of_files(&conf, "/nonexistent")
            }
            (None, None) => Upstreams::None,
        };
        let listener = Listener::open(netns.as_fd()).unwrap();
        let mut server = Server::new(listener, networks, upstreams).unwrap();
        let (ends, load) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new((0, 0))));
        let (stop, now) = (Arc::clone(&ends), Arc::clone(&load));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let until = server.deadline().unwrap_or_else(|| Instant::now() + Duration::from_millis(50));
                let left = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(50));
                let wait = Timespec { tv_sec: 0, tv_nsec: left.as_nanos() as i64 };
                poll(&mut [PollFd::new(&server, PollFlags::IN)], Some(&wait)).unwrap();
                server.work();
                *now.lock().unwrap() = server.load();
            }
        });
        Served { directory, ends, load, thread: Some(thread) }
    }

    fn network(&self, name: &str) -> NamesFile {
        NamesFile::of(self.directory.path().join(name))
    }

    fn put(&self, network: &str, id: char, addresses: &[&str], name: &str, aliases: &[&str]) {
        let entry = NameEntry {
            id: id.to_string().repeat(64),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            name: name.into(),
            aliases: aliases.iter().map(|a| (*a).to_owned()).collect(),
        };
        self.network(network).put(&entry).unwrap();
    }

    fn set_resolv_conf(&self, text: &str) {
        std::fs::write(self.directory.path().join("resolv.conf"), text).unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let result = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            result.unwrap();
        }
    }
}

fn dig(words: &[&str]) -> String {
    command(&[&["dig", "@127.0.0.11", "+tries=1", "+time=12"], words].concat())
}

/// What dig prints with +short, in order.
fn short(words: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = dig(&[words, &["+short"]].concat()).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The status that dig tells, and the count of answers.
fn status(words: &[&str]) -> (String, usize) {
    let text = dig(words);
    let after = |mark: &str| text.split(mark).nth(1).unwrap_or_else(|| panic!("{text}")).to_owned();
    let status = after("status: ").split(',').next().unwrap().to_owned();
    (status, after("ANSWER: ").split(',').next().unwrap().parse().unwrap())
}

/// A name server on port 53 of `ip`, over UDP and TCP, that says what `say` makes of each question; nothing for `None`.
fn upstream(ip: &str, say: impl Fn(&Query<'_>, bool) -> Option<Vec<u8>> + Send + Sync + 'static) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let say = Arc::new(say);
    let address = SocketAddr::new(ip.parse().unwrap(), 53);
    let udp = UdpSocket::bind(address).unwrap();
    let (count, answer) = (Arc::clone(&asked), Arc::clone(&say));
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok((n, from)) = udp.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::Relaxed);
            if let Some(said) = Query::parse(&buffer[..n]).ok().and_then(|q| answer(&q, false)) {
                let _ = udp.send_to(&said, from);
            }
        }
    });
    let tcp = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for mut client in tcp.incoming().flatten() {
            let say = Arc::clone(&say);
            std::thread::spawn(move || {
                let question = read_message(&mut client);
                if let Some(said) = Query::parse(&question).ok().and_then(|q| say(&q, true)) {
                    // In two pieces, as a network may deliver it.
                    let whole = [&(said.len() as u16).to_be_bytes()[..], &said].concat();
                    client.write_all(&whole[..3]).unwrap();
                    std::thread::sleep(Duration::from_millis(5));
                    client.write_all(&whole[3..]).unwrap();
                }
            });
        }
    });
    asked
}

fn read_message(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    if stream.read_exact(&mut length).is_err() {
        return Vec::new();
    }
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

/// One address for every name.
fn always(address: &'static str) -> impl Fn(&Query<'_>, bool) -> Option<Vec<u8>> + Send + Sync + 'static {
    move |query, _| {
        let mut reply = query.reply(Code::Success, 512);
        reply.address(address.parse().unwrap());
        Some(reply.finish())
    }
}

/// A question as a client writes it.
fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = [id.to_be_bytes(), [1, 0], [0, 1], [0; 2], [0; 2], [0; 2]].concat();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, (kind >> 8) as u8, kind as u8, 0, 1]);
    bytes
}

fn code(message: &[u8]) -> u16 {
    super::message::code_of(message)
}

#[test]
fn dig_finds_containers_by_every_name_that_they_have() {
    in_new_namespace(|netns| {
        let served = Served::new(netns, None);
        served.put("blue", 'a', &["10.0.0.2", "fd00::2"], "web", &["Front"]);
        served.put("blue", 'b', &["10.0.0.3"], "Db_1.main", &[]);
        served.put("Green", 'a', &["10.0.1.2"], "web", &[]);
        for name in ["web", "WEB", "aaaaaaaaaaaa", "web."] {
            assert_eq!(short(&[name, "A"]), ["10.0.0.2", "10.0.1.2"], "{name}");
        }
        assert_eq!(short(&["front", "A"]), ["10.0.0.2"]);
        assert_eq!(short(&["web.blue", "A"]), ["10.0.0.2"]);
        assert_eq!(short(&["web.GREEN.", "A"]), ["10.0.1.2"]);
        assert_eq!(short(&["web", "AAAA"]), ["fd00::2"]);
        assert_eq!(short(&["web.blue", "ANY"]), ["10.0.0.2", "fd00::2"]);
        assert_eq!(short(&["db_1.MAIN", "A"]), ["10.0.0.3"]);
        assert_eq!(short(&["-x", "10.0.1.2"]), ["web.Green."]);
        assert_eq!(short(&["-x", "fd00::2"]), ["web.blue."]);
        // No address of this family, no record of this type: the name is there nevertheless.
        for kind in ["AAAA", "MX", "HTTPS", "TXT"] {
            assert_eq!(status(&["db_1.main", kind]), ("NOERROR".into(), 0), "{kind}");
        }
        assert_eq!(status(&["-x", "10.0.1.2", "-t", "A"]).0, "NOERROR");
        for absent in ["nobody", "web.red", "blue", "aaaaaaaaaaa", "web.blue.blue"] {
            assert_eq!(status(&[absent, "A"]), ("NXDOMAIN".into(), 0), "{absent}");
            assert_eq!(status(&[absent, "AAAA"]), ("NXDOMAIN".into(), 0), "{absent}");
        }
        assert_eq!(status(&["-x", "10.0.1.9"]), ("NXDOMAIN".into(), 0));
        let text = dig(&["web", "A"]);
        assert!(text.contains("flags: qr aa rd ra;"), "{text}");
        assert!(text.contains("\t0\tIN\tA\t10.0.0.2"), "{text}");
        // As each change is made.
        served.network("Green").remove(&"a".repeat(64)).unwrap();
        assert_eq!(short(&["web", "A"]), ["10.0.0.2"]);
        served.network("blue").rename(&"b".repeat(64), "db").unwrap();
        assert_eq!(status(&["db_1.main", "A"]).0, "NXDOMAIN");
        assert_eq!(short(&["db", "A"]), ["10.0.0.3"]);
    });
}

#[test]
fn several_addresses_of_an_alias_take_turns() {
    in_new_namespace(|netns| {
        let served = Served::new(netns, None);
        for (i, id) in ('a'..'d').enumerate() {
            served.put("blue", id, &[&format!("10.0.0.{}", i + 2)], &format!("w{i}"), &["pool"]);
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut first = Vec::new();
        for id in 0..9 {
            socket.send_to(&question(id, "pool", 1), SERVER).unwrap();
            let mut buffer = [0; 512];
            let n = socket.recv(&mut buffer).unwrap();
            // The record begins behind the question of 22 bytes, its data 12 bytes later.
            assert_eq!((n, buffer[7]), (22 + 3 * 16, 3));
            first.push(buffer[22 + 12 + 3]);
        }
        assert_eq!(first[..3], first[3..6]);
        let mut seen = first[..3].to_vec();
        seen.sort_unstable();
        assert_eq!(seen, [2, 3, 4]);
    });
}

#[test]
fn what_is_too_long_for_udp_is_marked_and_given_over_tcp() {
    in_new_namespace(|netns| {
        let served = Served::new(netns, None);
        for n in 0..300 {
            let entry = NameEntry {
                id: format!("{n:064x}"),
                addresses: vec![IpAddr::from([10, 1, (n / 250) as u8, (n % 250) as u8])],
                name: format!("w{n}"),
                aliases: vec!["pool".into()],
            };
            served.network("blue").put(&entry).unwrap();
        }
        let plain = dig(&["pool", "+noedns", "+ignore"]);
        assert!(plain.contains("flags: qr aa tc rd ra;") && plain.contains("ANSWER: 30,"), "{plain}");
        let edns = dig(&["pool", "+bufsize=1232", "+ignore", "+dnssec"]);
        assert!(edns.contains(" tc ") && edns.contains("; EDNS: version: 0, flags: do; udp: 4096"), "{edns}");
        assert!(edns.contains("ANSWER: 74,"), "{edns}");
        // More than we send over UDP, whatever the client takes.
        assert!(dig(&["pool", "+bufsize=65535", "+ignore"]).contains(" tc "));
        assert_eq!(short(&["pool"]).len(), 300);
        assert_eq!(short(&["pool", "+noedns"]).len(), 300);
        assert_eq!(short(&["w7", "+tcp"]), ["10.1.0.7"]);
        assert_eq!(status(&["w7", "+edns=1", "+noednsnegotiation"]).0, "BADVERS");
        assert_eq!(status(&["w7", "+opcode=status"]).0, "NOTIMP");
    });
}

#[test]
fn a_connection_carries_many_questions() {
    in_new_namespace(|netns| {
        let served = Served::new(netns, Some("nameserver 127.0.0.2\n"));
        let asked = upstream("127.0.0.2", always("192.0.2.7"));
        served.put("blue", 'a', &["10.0.0.2"], "web", &[]);
        let text = dig(&["+tcp", "+keepopen", "+short", "web", "example.org", "web"]);
        assert_eq!(text, "10.0.0.2\n192.0.2.7\n10.0.0.2\n");
        // All at once, more than may wait at a time; in pieces; and no more after them.
        let mut stream = TcpStream::connect(SERVER).unwrap();
        let mut all = Vec::new();
        for id in 0..100 {
            let question = question(id, if id % 2 == 0 { "web" } else { "example.org" }, 1);
            all.extend_from_slice(&(question.len() as u16).to_be_bytes());
            all.extend_from_slice(&question);
        }
        for piece in all.chunks(37) {
            stream.write_all(piece).unwrap();
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut ids = Vec::new();
        loop {
            let answer = read_message(&mut stream);
            if answer.is_empty() {
                break;
            }
            let id = u16::from_be_bytes([answer[0], answer[1]]);
            assert_eq!(answer[answer.len() - 4], if id.is_multiple_of(2) { 10 } else { 192 });
            ids.push(id);
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..100).collect::<Vec<_>>());
        assert_eq!(asked.load(Ordering::Relaxed), 0, "over TCP it is asked over TCP");
    });
}

#[test]
fn unknown_names_are_asked_of_the_servers_that_the_host_lists_now() {
    in_new_namespace(|netns| {
        let served = Served::new(netns, Some("nameserver 127.0.0.2\nnameserver 127.0.0.3\n"));
        let first = upstream("127.0.0.2", always("192.0.2.2"));
        let second = upstream("127.0.0.3", always("192.0.2.3"));
        served.put("blue", 'a', &["10.0.0.2"], "web", &[]);
        assert_eq!(short(&["example.org"]), ["192.0.2.2"]);
        assert_eq!(short(&["single"]), ["192.0.2.2"]);
        assert_eq!(short(&["-x", "10.0.0.9", "-t", "A"]), ["192.0.2.2"]);
        assert_eq!(short(&["web"]), ["10.0.0.2"]);
        assert_eq!((first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)), (3, 0));
        served.set_resolv_conf("nameserver 127.0.0.3\n");
        assert_eq!(short(&["example.org"]), ["192.0.2.3"]);
        served.set_resolv_conf("# nobody: then the host itself, where nobody listens\n");
        assert_eq!(status(&["example.org"]).0, "SERVFAIL");
    });
}

#[test]
fn a_server_that_fails_or_is_silent_gives_way_to_the_next() {
    in_new_namespace(|netns| {
        let servers = "nameserver 127.0.0.2\nnameserver 127.0.0.3\nnameserver 127.0.0.4\n";
        let _served = Served::new(netns, Some(servers));
        let silent = upstream("127.0.0.2", |_, _| None);
        let failing = upstream("127.0.0.3", |q, _| Some(q.reply(Code::ServerFailure, 512).finish()));
        let good = upstream("127.0.0.4", always("192.0.2.4"));
        assert_eq!(short(&["one.example"]), ["192.0.2.4"]);
        // The silent one is asked last from now on.
        assert_eq!(short(&["two.example"]), ["192.0.2.4"]);
        let counts = [&silent, &failing, &good].map(|c| c.load(Ordering::Relaxed));
        assert_eq!(counts, [1, 2, 2]);
        assert_eq!(short(&["three.example", "+tcp"]), ["192.0.2.4"]);
    });
}

#[test]
fn the_last_word_of_servers_that_cannot_is_passed_on() {
    in_new_namespace(|netns| {
        let _served = Served::new(netns, Some("nameserver 127.0.0.2\nnameserver 127.0.0.3\n"));
        upstream("127.0.0.2", |q, _| Some(q.reply(Code::NotImplemented, 512).finish()));
        upstream("127.0.0.3", |q, _| Some(q.reply(Code::ServerFailure, 512).finish()));
        assert_eq!(status(&["example.org"]).0, "NOTIMP");
    });
}

#[test]
fn forged_and_late_answers_are_not_believed() {
    in_new_namespace(|netns| {
        let _served = Served::new(netns, Some("nameserver 127.0.0.2\n"));
        let sockets = UdpSocket::bind("127.0.0.2:53").unwrap();
        let other = UdpSocket::bind("127.0.0.5:53").unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (n, from) = sockets.recv_from(&mut buffer).unwrap();
            let query = Query::parse(&buffer[..n]).unwrap();
            let mut bad = query.reply(Code::Success, 512);
            bad.address("192.0.2.66".parse().unwrap());
            let bad = bad.finish();
            // From another address; with another id; to another question; a question; too short.
            other.send_to(&bad, from).unwrap();
            let mut id = bad.clone();
            id[0] ^= 1;
            sockets.send_to(&id, from).unwrap();
            let mut name = bad.clone();
            name[14] ^= 1;
            sockets.send_to(&name, from).unwrap();
            let mut query_bit = bad.clone();
            query_bit[2] &= 0x7f;
            sockets.send_to(&query_bit, from).unwrap();
            sockets.send_to(&bad[..7], from).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            let mut good = query.reply(Code::Success, 512);
            good.address("192.0.2.1".parse().unwrap());
            sockets.send_to(&good.finish(), from).unwrap();
        });
        assert_eq!(short(&["example.org"]), ["192.0.2.1"]);
    });
}

#[test]
fn what_is_longer_than_a_datagram_is_passed_on_over_tcp() {
    in_new_namespace(|netns| {
        let _served = Served::new(netns, Some("nameserver 127.0.0.2\n"));
        upstream("127.0.0.2", |q, tcp| {
            let mut reply = q.reply(Code::Success, if tcp { 65535 } else { q.limit() });
            (0..2000_u32).for_each(|n| reply.address(IpAddr::from((0x0a00_0000 + n).to_be_bytes())));
            Some(reply.finish())
        });
        assert!(dig(&["example.org", "+ignore"]).contains(" tc "));
        assert_eq!(short(&["example.org"]).len(), 2000);
    });
}

#[test]
fn given_servers_are_asked_from_inside_and_never_ourselves() {
    in_new_namespace(|netns| {
        // The server's own thread is in another namespace; only through `netns` does it reach this one's loopback.
        let servers: Vec<IpAddr> = ["127.0.0.11", "127.0.0.2"].map(|s| s.parse().unwrap()).into();
        upstream("127.0.0.2", always("192.0.2.7"));
        let inside = netns.try_clone().unwrap();
        let elsewhere = tare_kernel::netlink::new_network_namespace().unwrap();
        let served = tare_kernel::netlink::in_network_namespace(elsewhere.as_fd(), || {
            Served::with(&inside, None, Some(&servers))
        });
        assert_eq!(short(&["example.org"]), ["192.0.2.7"]);
        drop(served);
    });
}

#[test]
fn a_program_in_the_container_may_have_port_53_for_itself() {
    in_new_namespace(|netns| {
        let served = Served::new(netns, None);
        served.put("blue", 'a', &["10.0.0.2"], "web", &[]);
        let udp = UdpSocket::bind("0.0.0.0:53").unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let tcp = TcpListener::bind("0.0.0.0:53").unwrap();
        assert_eq!(short(&["web"]), ["10.0.0.2"]);
        assert_eq!(short(&["web", "+tcp"]), ["10.0.0.2"]);
        tcp.set_nonblocking(true).unwrap();
        assert_eq!(tcp.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        let mut buffer = [0; 9];
        assert!(udp.recv(&mut buffer).is_err());
        // And its own port is its own.
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"x", "127.0.0.1:53").unwrap();
        assert_eq!(udp.recv(&mut buffer).unwrap(), 1);
    });
}

#[test]
fn rules_of_the_containers_own_and_their_removal_do_no_harm() {
    in_new_namespace(|netns| {
        let served = Served::new(netns, None);
        served.put("blue", 'a', &["10.0.0.2"], "web", &[]);
        // What is let out is port 53 alone, by a firewall that tracks connections.
        for rule in [
            "add table inet own",
            "add chain inet own out { type filter hook output priority 0; policy drop; }",
            "add rule inet own out ct state invalid drop",
            "add rule inet own out ct state established accept",
            "add rule inet own out udp dport 53 accept",
            "add rule inet own out tcp dport 53 accept",
            "add chain inet own in { type filter hook input priority 0; policy accept; }",
            "add rule inet own in ct state invalid drop",
        ] {
            command(&["nft", rule]);
        }
        assert_eq!(short(&["web"]), ["10.0.0.2"]);
        assert_eq!(short(&["web", "+tcp"]), ["10.0.0.2"]);
        assert!(command(&["nft", "list", "ruleset"]).contains("table ip tare-dns"));
        command(&["nft", "flush", "ruleset"]);
        assert_eq!(short(&["web"]), ["10.0.0.2"]);
        assert_eq!(short(&["web", "+tcp"]), ["10.0.0.2"]);
        drop(served);
        // The table goes with its keeper.
        assert!(!command(&["nft", "list", "ruleset"]).contains("tare-dns"));
    });
}

#[test]
fn what_clients_may_ask_for_is_bounded() {
    in_new_namespace(|netns| {
        let served = Served::new(netns, Some("nameserver 127.0.0.2\n"));
        upstream("127.0.0.2", |_, _| None);
        served.put("blue", 'a', &["10.0.0.2"], "web", &[]);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut buffer = [0; 512];
        for id in 0..200 {
            socket.send_to(&question(id, "slow.example", 1), SERVER).unwrap();
            // The same again is the same question.
            socket.send_to(&question(id, "slow.example", 1), SERVER).unwrap();
            if id >= 128 {
                for _ in 0..2 {
                    let got = socket.recv(&mut buffer);
                    assert_eq!(got.ok(), Some(30), "question {id}, {:?}", served.load.lock().unwrap());
                    assert_eq!(code(&buffer), Code::ServerFailure as u16);
                }
            } else if id % 16 == 15 {
                // No more at once than a socket's buffer holds.
                while served.load.lock().unwrap().0 <= usize::from(id) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        assert_eq!(served.load.lock().unwrap().0, 128);
        let connections: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(SERVER).unwrap()).collect();
        assert_eq!(short(&["web", "+tcp"]), ["10.0.0.2"]);
        assert!(served.load.lock().unwrap().1 <= 64);
        drop(connections);
        // One that asks and does not read is not answered without end.
        let mut greedy = TcpStream::connect(SERVER).unwrap();
        greedy.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let question = question(1, "web", 1);
        let one = [&(question.len() as u16).to_be_bytes()[..], &question].concat();
        let many = one.repeat(10_000);
        let taken = (0..400).take_while(|_| greedy.write_all(&many).is_ok()).count();
        assert!(taken < 400, "84 MB of questions were taken");
        assert_eq!(short(&["web"]), ["10.0.0.2"]);
    });
}

#[test]
fn what_is_no_question_gets_no_answer_or_is_called_malformed() {
    in_new_namespace(|netns| {
        let _served = Served::new(netns, None);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut buffer = [0; 512];
        let good = question(7, "web", 1);
        let mut response = good.clone();
        response[2] |= 0x80;
        for silent in [&b""[..], &good[..11], &response] {
            socket.send_to(silent, SERVER).unwrap();
            assert!(socket.recv(&mut buffer).is_err(), "{silent:?}");
        }
        let mut two = good.clone();
        two[5] = 2;
        let mut looped = good.clone();
        looped[12..14].copy_from_slice(&[0xc0, 12]);
        let mut missing = good.clone();
        missing[11] = 1;
        for malformed in [&good[..good.len() - 1], &two, &looped, &missing] {
            socket.send_to(malformed, SERVER).unwrap();
            let n = socket.recv(&mut buffer).unwrap();
            assert_eq!((&buffer[..2], code(&buffer[..n])), (&good[..2], Code::Malformed as u16));
        }
    });
}

#[test]
fn an_idle_connection_is_closed() {
    in_new_namespace(|netns| {
        let _served = Served::new(netns, None);
        let mut stream = TcpStream::connect(SERVER).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let begun = Instant::now();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
        assert!(begun.elapsed() > Duration::from_secs(8));
    });
}
