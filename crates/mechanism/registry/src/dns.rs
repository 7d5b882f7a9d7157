//! Names to addresses, as resolv.conf(5) and hosts(5) say.
//!
//! A static binary cannot use glibc's `getaddrinfo` (it loads NSS modules), and a whole resolver library triples the
//! time to build this crate. What a registry client needs is small: ask the host's recursive name servers for A and
//! AAAA records, over UDP, and over TCP when the answer is truncated.

mod files;
mod message;

use files::Config;
use message::{Answer, RecordType};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// After one family has answered, how long the other may take.
const SECOND_FAMILY: Duration = Duration::from_millis(400);

/// Reads both files at each question: they change under long-lived processes.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    pub(crate) resolv_conf: PathBuf,
    pub(crate) hosts: PathBuf,
}

impl Resolver {
    /// The addresses of a name, in the order to try them; never empty.
    ///
    /// # Errors
    /// A sentence that says which server said what.
    pub(crate) async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![ip]);
        }
        let read = |path: &PathBuf| std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned());
        let name = host.trim_end_matches('.');
        if let Some(found) = files::hosts(&read(&self.hosts).unwrap_or_default(), name) {
            return Ok(order(found));
        }
        // RFC 6761 §6.3: never a question for a name server.
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let config = files::resolv_conf(&read(&self.resolv_conf).unwrap_or_default());
        let mut last = format!("no such host {host}");
        for candidate in config.candidates(host) {
            match ask_servers(&config, &candidate).await {
                Ok(found) if !found.is_empty() => return Ok(order(found)),
                Ok(_) => {}
                Err(why) => last = why,
            }
        }
        Err(last)
    }
}

/// All addresses of one fully qualified name; empty if it has none.
async fn ask_servers(config: &Config, name: &str) -> Result<Vec<IpAddr>, String> {
    let mut last = "no name server is configured".to_owned();
    for _ in 0..config.attempts {
        for server in &config.servers {
            match ask_server(*server, name, config.timeout).await {
                Ok(found) => return Ok(found),
                Err(why) => last = format!("name server {server} {why}"),
            }
        }
    }
    Err(last)
}

async fn ask_server(server: SocketAddr, name: &str, limit: Duration) -> Result<Vec<IpAddr>, String> {
    let a = Box::pin(timeout(limit, ask(server, name, RecordType::A)));
    let aaaa = Box::pin(timeout(limit, ask(server, name, RecordType::Aaaa)));
    let words = |r: Result<io::Result<Answer>, _>| match r {
        Err(_) => Err("does not answer".to_owned()),
        Ok(Err(e)) => Err(format!("cannot be asked: {e}")),
        Ok(Ok(Answer::Failed(code))) => Err(format!("failed on {name} (code {code})")),
        Ok(Ok(Answer::NoSuchName)) => Ok(Vec::new()),
        Ok(Ok(Answer::Addresses(found))) => Ok(found),
    };
    let (first, other) = match select(a, aaaa).await {
        (first, other) if matches!(&first, Ok(Ok(Answer::Addresses(f))) if !f.is_empty()) => {
            (first, timeout(SECOND_FAMILY, other).await.unwrap_or(Ok(Ok(Answer::NoSuchName))))
        }
        (first, other) => (first, other.await),
    };
    match (words(first), words(other)) {
        (Ok(mut x), Ok(y)) => {
            x.extend(y);
            Ok(x)
        }
        (Ok(x), Err(_)) | (Err(_), Ok(x)) if !x.is_empty() => Ok(x),
        (Err(why), _) | (_, Err(why)) => Err(why),
    }
}

/// The result of the future that is ready first, and the other future.
async fn select<F, G, T>(mut a: F, mut b: G) -> (T, std::pin::Pin<Box<dyn Future<Output = T> + Send>>)
where
    F: Future<Output = T> + Unpin + Send + 'static,
    G: Future<Output = T> + Unpin + Send + 'static,
{
    let first = std::future::poll_fn(|cx| {
        use std::task::Poll;
        if let Poll::Ready(x) = std::pin::Pin::new(&mut a).poll(cx) {
            return Poll::Ready((x, true));
        }
        std::pin::Pin::new(&mut b).poll(cx).map(|x| (x, false))
    })
    .await;
    match first {
        (x, true) => (x, Box::pin(b)),
        (x, false) => (x, Box::pin(a)),
    }
}

fn ask(server: SocketAddr, name: &str, kind: RecordType) -> impl Future<Output = io::Result<Answer>> + Send + 'static {
    let id = random_id();
    let query = message::query(id, name, kind);
    async move {
        let query = query.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a host name"))?;
        let local: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        // A socket per question: the kernel's random port is half of what a forged answer would have to guess.
        let socket = tokio::net::UdpSocket::bind((local, 0)).await?;
        socket.connect(server).await?;
        socket.send(&query).await?;
        let mut buffer = [0; 4096];
        loop {
            let n = socket.recv(&mut buffer).await?;
            match message::parse(&buffer[..n], &query) {
                Some(message::Reply::Whole(answer)) => return Ok(answer),
                Some(message::Reply::Truncated) => return ask_tcp(server, &query).await,
                None => {} // not the answer to this question: go on waiting
            }
        }
    }
}

async fn ask_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Answer> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "malformed answer");
    let mut stream = tokio::net::TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(|_| bad())?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    match message::parse(&buffer, query) {
        Some(message::Reply::Whole(answer)) => Ok(answer),
        _ => Err(bad()),
    }
}

fn random_id() -> u16 {
    let mut bytes = [0; 2];
    // Without randomness the port still protects; early boot is the only time when this fails.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u16::from_ne_bytes(bytes)
}

/// IPv6 first if the kernel has a route to it, as glibc does; otherwise last.
fn order(mut found: Vec<IpAddr>) -> Vec<IpAddr> {
    let reachable = |ip: &IpAddr| {
        // connect(2) on a datagram socket sends nothing and asks the routing table.
        UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).and_then(|s| s.connect((*ip, 443))).is_ok()
    };
    let v6 = found.iter().find(|ip| ip.is_ipv6()).is_some_and(reachable);
    found.sort_by_key(|ip| ip.is_ipv6() != v6);
    let mut seen = std::collections::HashSet::new();
    found.retain(|ip| seen.insert(*ip));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A name server on loopback that answers from `reply`, for as long as the test runs.
    fn server(reply: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                let answer = reply(&buffer[..n]);
                if !answer.is_empty() {
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        address
    }

    fn run<T>(f: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
    }

    #[test]
    fn a_name_server_is_asked_for_both_families() {
        let address = server(|q| {
            let v6 = q[q.len() - 3] == 28;
            message::tests::answer(q, if v6 { &["2001:db8::1"] } else { &["192.0.2.7", "192.0.2.8"] }, 0)
        });
        let found = run(ask_server(address, "registry.example", Duration::from_secs(2))).unwrap();
        assert_eq!(found.len(), 3);
        assert!(found.contains(&"192.0.2.8".parse().unwrap()) && found.contains(&"2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn forged_answers_are_passed_over_and_silence_is_named() {
        let address = server(|q| {
            let mut forged = message::tests::answer(q, &["192.0.2.66"], 0);
            forged[0] ^= 0xff;
            forged
        });
        let why = run(ask_server(address, "registry.example", Duration::from_millis(200))).unwrap_err();
        assert_eq!(why, "does not answer");
    }

    #[test]
    fn hosts_come_first_and_unknown_names_are_said_so() {
        let address = server(|q| message::tests::answer(q, &[], 3));
        let mut hosts = tempfile::NamedTempFile::new().unwrap();
        writeln!(hosts, "192.0.2.1 registry.test").unwrap();
        let r = Resolver { resolv_conf: "/nonexistent".into(), hosts: hosts.path().into() };
        assert_eq!(run(r.lookup("registry.test")).unwrap(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(run(r.lookup("other.test")).unwrap_err(), "no name server is configured");
        assert!(run(r.lookup("a.localhost")).unwrap()[0].is_loopback());
        assert_eq!(run(ask_server(address, "gone.test", Duration::from_secs(2))), Ok(vec![]));
    }
}
