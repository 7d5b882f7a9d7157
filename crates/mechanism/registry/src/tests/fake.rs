//! An HTTP server that does what a test tells it, on std's threads.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tare_model::{Digest, Reference};

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
    pub(super) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.target.contains(part)
    }
    /// First byte of a `Range: bytes=N-`.
    pub(super) fn range_start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// How the answer's body travels.
#[derive(Debug, Clone, Copy)]
enum Way {
    Whole,
    /// Chunked, without a length.
    Chunked,
    /// After so many bytes, the connection is closed.
    Cut(usize),
    /// After so many bytes, silence.
    Stall(usize),
    /// No answer at all: the connection is closed.
    HangUp,
}

#[derive(Debug, Clone)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    way: Way,
}

impl Reply {
    pub(super) fn new(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: Vec::new(), way: Way::Whole }
    }
    pub(super) fn hang_up() -> Reply {
        Reply { way: Way::HangUp, ..Reply::new(0) }
    }
    pub(super) fn ok(body: impl Into<Vec<u8>>) -> Reply {
        Reply::new(200).body(body)
    }
    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Reply {
        self.body = body.into();
        self
    }
    pub(super) fn header(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
    pub(super) fn chunked(mut self) -> Reply {
        self.way = Way::Chunked;
        self
    }
    pub(super) fn cut(mut self, after: usize) -> Reply {
        self.way = Way::Cut(after);
        self
    }
    pub(super) fn stall(mut self, after: usize) -> Reply {
        self.way = Way::Stall(after);
        self
    }
    /// The answer to a `Range` request (or a plain one) for `content`.
    pub(super) fn range(seen: &Seen, content: &[u8]) -> Reply {
        match seen.range_start() {
            Some(start) => Reply::new(206)
                .header("Content-Range", format!("bytes {start}-{}/{}", content.len() - 1, content.len()))
                .body(&content[start..]),
            None => Reply::ok(content),
        }
    }
    /// A manifest with its headers.
    pub(super) fn manifest(media_type: &str, bytes: &[u8]) -> Reply {
        Reply::ok(bytes).header("Content-Type", media_type).header("Docker-Content-Digest", Digest::of(bytes))
    }
}

type Script = dyn Fn(&Seen, usize) -> Reply + Send + Sync;

/// A server on loopback; lives until the test's process ends.
#[derive(Clone)]
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    log: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// `script` gets each request, and how many came before it.
    pub(super) fn start(script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Fake { address: listener.local_addr().unwrap(), log: Arc::default() };
        let (log, script): (_, Arc<Script>) = (fake.log.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, script) = (log.clone(), script.clone());
                std::thread::spawn(move || while serve(&stream, &log, &*script).is_some() {});
            }
        });
        fake
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    pub(super) fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.address).parse().unwrap()
    }

    pub(super) fn url(&self, rest: &str) -> String {
        format!("http://{}/{rest}", self.address)
    }
}

/// One exchange; `None` if the connection is over.
fn serve(stream: &TcpStream, log: &Mutex<Vec<Seen>>, script: &Script) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut seen = Seen { method, target, headers, body: Vec::new() };
    let length = seen.header("content-length").map_or(0, |v| v.parse().unwrap());
    reader.take(length).read_to_end(&mut seen.body).ok()?;
    let before = {
        let mut log = log.lock().unwrap();
        log.push(seen.clone());
        log.len() - 1
    };
    answer(stream, &seen, &script(&seen, before))
}

fn answer(mut stream: &TcpStream, seen: &Seen, reply: &Reply) -> Option<()> {
    if let Way::HangUp = reply.way {
        let _ = stream.shutdown(std::net::Shutdown::Both);
        return None;
    }
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let own_length = reply.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("content-length"));
    match reply.way {
        Way::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        _ if own_length => {}
        _ => head.push_str(&format!("Content-Length: {}\r\n", reply.body.len())),
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    if seen.method == "HEAD" {
        return Some(());
    }
    match reply.way {
        Way::HangUp => None,
        Way::Whole => stream.write_all(&reply.body).ok(),
        Way::Chunked => {
            for chunk in reply.body.chunks(1000) {
                stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).ok()?;
                stream.write_all(chunk).ok()?;
                stream.write_all(b"\r\n").ok()?;
            }
            stream.write_all(b"0\r\n\r\n").ok()
        }
        Way::Cut(after) => {
            stream.write_all(&reply.body[..after]).ok()?;
            stream.shutdown(std::net::Shutdown::Both).ok()?;
            None
        }
        Way::Stall(after) => {
            stream.write_all(&reply.body[..after]).ok()?;
            std::thread::sleep(Duration::from_secs(5));
            None
        }
    }
}
