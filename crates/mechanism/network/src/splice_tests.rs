//! The relay in a network namespace of its own; the "container" is a listener on another loopback address.

use crate::testing::in_new_namespace;
use crate::{Relay, Relayed};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

type Work = Box<dyn FnOnce(&mut Relay) + Send>;

/// A relay at work on a thread until dropped.
struct Relaying {
    orders: Option<Sender<Work>>,
    load: Arc<Mutex<(usize, usize, usize)>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Relaying {
    fn new() -> Relaying {
        let mut relay = Relay::new().unwrap();
        let (orders, work) = channel::<Work>();
        let load = Arc::new(Mutex::new((0, 0, 0)));
        let now = Arc::clone(&load);
        let thread = std::thread::spawn(move || {
            loop {
                match work.try_recv() {
                    Ok(order) => order(&mut relay),
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                    Err(std::sync::mpsc::TryRecvError::Empty) => {}
                }
                let until = relay.deadline().unwrap_or_else(|| Instant::now() + Duration::from_millis(10));
                let left = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(10));
                let wait = Timespec { tv_sec: 0, tv_nsec: left.as_nanos() as i64 };
                poll(&mut [PollFd::new(&relay, PollFlags::IN)], Some(&wait)).unwrap();
                relay.work();
                *now.lock().unwrap() = relay.load();
            }
        });
        Relaying { orders: Some(orders), load, thread: Some(thread) }
    }

    fn order<T: Send + 'static>(&self, order: impl FnOnce(&mut Relay) -> T + Send + 'static) -> T {
        let (answer, wait) = channel();
        let work: Work = Box::new(move |relay| answer.send(order(relay)).unwrap());
        self.orders.as_ref().unwrap().send(work).unwrap();
        wait.recv().unwrap()
    }

    /// Publishes a port: where clients connect, and the relay's name for it.
    fn stream(&self, targets: &[&str]) -> (SocketAddr, Relayed) {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let address = SocketAddr::new("::1".parse().unwrap(), listener.local_addr().unwrap().port());
        let targets = targets.iter().map(|t| t.parse().unwrap()).collect();
        (address, self.order(move |relay| relay.add_stream(listener.into(), targets).unwrap()))
    }

    fn datagram(&self, targets: &[&str]) -> (SocketAddr, Relayed) {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        let address = SocketAddr::new("::1".parse().unwrap(), socket.local_addr().unwrap().port());
        let targets = targets.iter().map(|t| t.parse().unwrap()).collect();
        (address, self.order(move |relay| relay.add_datagram(socket.into(), targets).unwrap()))
    }

    fn settles_at(&self, wanted: impl Fn((usize, usize, usize)) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let load = *self.load.lock().unwrap();
            if wanted(load) {
                return;
            }
            assert!(Instant::now() < end, "{load:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Relaying {
    fn drop(&mut self) {
        drop(self.orders.take());
        let result = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            result.unwrap();
        }
    }
}

/// Bytes that say where they stand.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32 / 4).flat_map(u32::to_le_bytes).collect()
}

/// Sends back what it gets until the client ends, then ends as well.
fn echo(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = vec![0; 128 * 1024];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

#[test]
fn bytes_go_both_ways_and_each_end_is_passed_on() {
    in_new_namespace(|_| {
        let relay = Relaying::new();
        echo("127.0.0.2:80");
        let (address, _) = relay.stream(&["127.0.0.2:80"]);
        let sent = pattern(20 << 20);
        let mut stream = TcpStream::connect(address).unwrap();
        let (mut writer, out) = (stream.try_clone().unwrap(), sent.clone());
        let writing = std::thread::spawn(move || {
            writer.write_all(&out).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        writing.join().unwrap();
        assert!(got == sent, "{} of {}", got.len(), sent.len());
        relay.settles_at(|load| load.0 == 0);
        // Half of it: the container has ended, the client goes on.
        let container = TcpListener::bind("127.0.0.2:81").unwrap();
        let (address, _) = relay.stream(&["127.0.0.2:81"]);
        let mut client = TcpStream::connect(address).unwrap();
        let (mut server, from) = container.accept().unwrap();
        assert!(from.ip().is_loopback());
        server.write_all(b"bye").unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "bye");
        client.write_all(&sent[..100_000]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        server.read_to_end(&mut got).unwrap();
        assert!(got == sent[..100_000]);
        relay.settles_at(|load| load.0 == 0);
    });
}

#[test]
fn a_side_that_takes_nothing_holds_the_other_back_and_nobody_else() {
    in_new_namespace(|_| {
        let relay = Relaying::new();
        let container = TcpListener::bind("127.0.0.2:80").unwrap();
        echo("127.0.0.2:81");
        let (address, _) = relay.stream(&["127.0.0.2:80"]);
        let mut client = TcpStream::connect(address).unwrap();
        let (mut server, _) = container.accept().unwrap();
        client.set_nonblocking(true).unwrap();
        let chunk = pattern(1 << 20);
        let mut sent = 0;
        let mut quiet = Instant::now();
        while quiet.elapsed() < Duration::from_millis(300) {
            match client.write(&chunk[sent % chunk.len()..]) {
                Ok(n) => {
                    sent += n;
                    quiet = Instant::now();
                }
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::WouldBlock);
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            assert!(sent < 64 << 20, "nothing holds it back");
        }
        let (other, _) = relay.stream(&["127.0.0.2:81"]);
        let mut quick = TcpStream::connect(other).unwrap();
        quick.write_all(b"hello").unwrap();
        let mut buffer = [0; 5];
        quick.read_exact(&mut buffer).unwrap();
        drop(quick);
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        server.read_to_end(&mut got).unwrap();
        assert_eq!(got.len(), sent);
        assert!(got.chunks(chunk.len()).all(|part| part == &chunk[..part.len()]));
    });
}

#[test]
fn hundreds_of_connections_are_carried_and_idle_ones_hold_no_pipe() {
    in_new_namespace(|_| {
        let relay = Relaying::new();
        echo("127.0.0.2:80");
        let (address, port) = relay.stream(&["127.0.0.2:80"]);
        let mut streams: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(address).unwrap()).collect();
        for round in 0..3_u8 {
            for (i, stream) in streams.iter_mut().enumerate() {
                stream.write_all(&[round, i as u8]).unwrap();
            }
            for (i, stream) in streams.iter_mut().enumerate() {
                let mut buffer = [0; 2];
                stream.read_exact(&mut buffer).unwrap();
                assert_eq!(buffer, [round, i as u8]);
            }
        }
        relay.settles_at(|(pairs, _, pipes)| pairs == 300 && pipes <= 4);
        // Withdrawn: nobody is let in any more, and what is open goes on.
        relay.order(move |relay| relay.remove(port));
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        for stream in &mut streams {
            stream.write_all(b"!").unwrap();
            stream.read_exact(&mut [0; 1]).unwrap();
        }
        drop(streams);
        relay.settles_at(|load| load.0 == 0);
    });
}

#[test]
fn the_next_address_is_tried_and_refusal_and_reset_are_passed_on() {
    in_new_namespace(|_| {
        let relay = Relaying::new();
        let container = TcpListener::bind("127.0.0.3:80").unwrap();
        let (address, port) = relay.stream(&["127.0.0.2:80", "[::1]:1", "127.0.0.3:80"]);
        let mut client = TcpStream::connect(address).unwrap();
        let (mut server, _) = container.accept().unwrap();
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0; 1]).unwrap();
        // Bytes that the server has not read make its end a reset.
        client.write_all(b"y").unwrap();
        std::thread::sleep(Duration::from_millis(100));
        drop(server);
        assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        relay.order(move |relay| relay.retarget(port, vec!["127.0.0.2:80".parse().unwrap()]));
        let mut client = TcpStream::connect(address).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        relay.settles_at(|load| load.0 == 0);
    });
}

#[test]
fn only_what_comes_to_the_loopback_address_is_carried() {
    in_new_namespace(|_| {
        crate::testing::command(&["ip", "address", "add", "fd00::1/64", "dev", "lo"]);
        let relay = Relaying::new();
        echo("127.0.0.2:80");
        let (address, _) = relay.stream(&["127.0.0.2:80"]);
        // The end may come before connect(2) has returned.
        let refused =
            TcpStream::connect(("fd00::1", address.port())).and_then(|mut s| s.read(&mut [0; 1])).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionReset);
        let container = UdpSocket::bind("127.0.0.2:53").unwrap();
        container.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let (address, _) = relay.datagram(&["127.0.0.2:53"]);
        let foreign = UdpSocket::bind("[fd00::1]:0").unwrap();
        foreign.send_to(b"x", ("fd00::1", address.port())).unwrap();
        assert!(container.recv(&mut [0; 9]).is_err());
    });
}

#[test]
fn datagrams_of_several_clients_find_their_way_back() {
    in_new_namespace(|_| {
        let relay = Relaying::new();
        let container = UdpSocket::bind("127.0.0.3:53").unwrap();
        container.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let (address, port) = relay.datagram(&["127.0.0.2:53", "127.0.0.3:53"]);
        let clients: Vec<UdpSocket> = (0..20).map(|_| UdpSocket::bind("[::1]:0").unwrap()).collect();
        let mut buffer = vec![0; 65536];
        // The first address refuses the first datagram, which is lost.
        clients[0].send_to(b"lost", address).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        for (i, client) in clients.iter().enumerate() {
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client.send_to(&vec![i as u8; 1 + i * 300], address).unwrap();
        }
        let mut froms = Vec::new();
        for _ in &clients {
            let (n, from) = container.recv_from(&mut buffer).unwrap();
            froms.push(from);
            container.send_to(&buffer[..n], from).unwrap();
        }
        for (i, client) in clients.iter().enumerate() {
            let (n, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((n, from, buffer[0]), (1 + i * 300, address, i as u8));
        }
        // The largest that IPv6 has.
        clients[1].send_to(&[7; 65_487], address).unwrap();
        let (n, from) = container.recv_from(&mut buffer).unwrap();
        container.send_to(&buffer[..n], from).unwrap();
        assert_eq!(clients[1].recv(&mut buffer).unwrap(), 65_487);
        // The container may speak first later on, and in any number.
        for _ in 0..3 {
            container.send_to(b"news", froms[7]).unwrap();
        }
        relay.settles_at(|load| load.1 == 20);
        relay.order(move |relay| relay.remove(port));
        relay.settles_at(|load| load.1 == 0);
    });
}
