//! The floor of a pull: fetches an image from a registry, hashes each layer's blob, inflates it, hashes the archive, writes both,
//! and syncs once. No tar is read, no index made, nothing recorded. What a pull takes longer than this is its own doing.
//!
//! ```text
//! pull_floor http://HOST:PORT/v2/NAME DIRECTORY      tag 1, plain HTTP/1.1, a connection for each lane
//!
//! lane:  socket → hash → DIRECTORY/HEX → inflate ─ buffers ─ hash → DIRECTORY/HEX.tar      two lanes, the largest layers first
//! ```

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use tare_format::inflate::{Gunzip, HISTORY, SLACK};

const LANES: usize = 2;
const PIECE: usize = 1 << 20;
const BUFFER: usize = HISTORY + PIECE + SLACK;
const TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

type Answer<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Answer<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, directory] = &arguments[..] else {
        return Err("usage: pull_floor http://HOST:PORT/v2/NAME DIRECTORY".into());
    };
    let (host, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or("this is no http:// URL")?;
    let directory = Path::new(directory);
    std::fs::create_dir_all(directory)?;
    let mut connection = Connection::new(host)?;
    let mut manifest = Vec::new();
    connection.get(&format!("/{path}/manifests/1"))?.read_to_end(&mut manifest)?;
    let manifest: Value = serde_json::from_slice(&manifest)?;
    let config = manifest["config"]["digest"].as_str().ok_or("the manifest has no config")?;
    let mut bytes = Vec::new();
    connection.get(&format!("/{path}/blobs/{config}"))?.read_to_end(&mut bytes)?;
    std::fs::write(directory.join("config"), bytes)?;
    let mut layers = manifest["layers"].as_array().cloned().unwrap_or_default();
    layers.sort_by_key(|layer| layer["size"].as_u64());
    let waiting = Mutex::new(layers);
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(|| lane(host, path, directory, &waiting))).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().expect("lanes do not panic"))
    })?;
    Ok(rustix::fs::syncfs(File::open(directory)?)?)
}

fn lane(host: &str, path: &str, directory: &Path, waiting: &Mutex<Vec<Value>>) -> Answer<()> {
    let mut connection = Connection::new(host)?;
    loop {
        let Some(layer) = waiting.lock().expect("lanes do not panic").pop() else { return Ok(()) };
        let digest = layer["digest"].as_str().and_then(|d| d.strip_prefix("sha256:")).ok_or("a layer has no digest")?;
        let source = connection.get(&format!("/{path}/blobs/sha256:{digest}"))?;
        let mut blob = Blob { source, file: File::create(directory.join(digest))?, hash: Sha256::new() };
        let tar = File::create(directory.join(format!("{digest}.tar")))?;
        let zstd = layer["mediaType"].as_str().is_some_and(|t| t.ends_with("zstd"));
        if zstd {
            unzstd(&mut blob, tar)?
        } else {
            gunzip(&mut blob, tar)?
        }
        if format!("{:x}", blob.hash.finalize()) != digest {
            return Err(format!("{digest} came with other content").into());
        }
    }
}

fn gunzip(blob: &mut Blob<'_>, tar: File) -> Answer<()> {
    let mut gunzip = Gunzip::new(blob);
    written(tar, |buffer| gunzip.fill(buffer))
}

fn unzstd(blob: &mut Blob<'_>, tar: File) -> Answer<()> {
    let mut decoder = zstd::Decoder::new(blob)?;
    written(tar, |buffer| Ok(HISTORY..HISTORY + full(&mut decoder, &mut buffer[HISTORY..])?))
}

/// Fills buffers, which another thread hashes and writes.
fn written(mut tar: File, mut fill: impl FnMut(&mut [u8]) -> io::Result<Range<usize>>) -> Answer<()> {
    let (filled, to_write) = sync_channel::<(Vec<u8>, Range<usize>)>(2);
    let (empty, emptied): (Sender<Vec<u8>>, Receiver<Vec<u8>>) = channel();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut hash = Sha256::new();
            for (buffer, new) in to_write {
                hash.update(&buffer[new.clone()]);
                tar.write_all(&buffer[new])?;
                // The other side may need no more.
                let _ = empty.send(buffer);
            }
            std::hint::black_box(hash.finalize());
            io::Result::Ok(())
        });
        loop {
            let mut buffer = emptied.try_recv().unwrap_or_else(|_| vec![0; BUFFER]);
            let new = fill(&mut buffer)?;
            if new.is_empty() || filled.send((buffer, new)).is_err() {
                break;
            }
        }
        drop(filled);
        Ok(writer.join().expect("the writer does not panic")?)
    })
}

/// A blob on its way: hashed and kept as it is read.
struct Blob<'a> {
    source: io::Take<&'a mut BufReader<TcpStream>>,
    file: File,
    hash: Sha256,
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = full(&mut self.source, buffer)?;
        self.hash.update(&buffer[..n]);
        self.file.write_all(&buffer[..n])?;
        Ok(n)
    }
}

fn full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

struct Connection {
    host: String,
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn new(host: &str) -> io::Result<Connection> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        Ok(Connection { host: host.to_owned(), stream: BufReader::new(stream) })
    }

    /// The body of an answer, which is to be read to its end before the next one is asked for.
    fn get(&mut self, path: &str) -> Answer<io::Take<&mut BufReader<TcpStream>>> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: {TYPES}\r\n\r\n", self.host);
        self.stream.get_mut().write_all(head.as_bytes())?;
        let (mut line, mut length) = (String::new(), None);
        self.stream.read_line(&mut line)?;
        if line.split(' ').nth(1) != Some("200") {
            return Err(format!("{path}: {}", line.trim_end()).into());
        }
        while !line.trim_end().is_empty() {
            line.clear();
            self.stream.read_line(&mut line)?;
            if let Some((_, value)) =
                line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            {
                length = Some(value.trim().parse()?);
            }
        }
        Ok((&mut self.stream).take(length.ok_or("an answer says no length")?))
    }
}
