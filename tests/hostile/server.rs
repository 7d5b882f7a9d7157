//! A registry that says what a case wants it to say.

use crate::image::{Image, digest};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The body again and again, for ever, in chunks.
    pub(crate) endless: bool,
}

impl Answer {
    pub(crate) fn ok(media_type: &str, body: &[u8]) -> Answer {
        let headers = vec![("Content-Type".to_owned(), media_type.to_owned())];
        Answer { status: 200, headers, body: body.to_vec(), endless: false }
    }

    pub(crate) fn missing() -> Answer {
        Answer { status: 404, ..Answer::ok("application/json", b"{}") }
    }

    pub(crate) fn endless(media_type: &str, body: &[u8]) -> Answer {
        Answer { endless: true, ..Answer::ok(media_type, body) }
    }
}

type Handler = dyn Fn(&str) -> Answer + Send + Sync;

/// It lives as long as the test: its threads end with the process.
#[derive(Debug)]
pub(crate) struct Server(SocketAddr);

impl Server {
    /// `answer` gets the path.
    pub(crate) fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Arc<Handler> = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = Arc::clone(&answer);
                // A client that goes away is no failure.
                std::thread::spawn(move || drop(talk(&stream, &*answer)));
            }
        });
        Server(address)
    }

    /// One that has this image under every tag.
    pub(crate) fn of(image: &Image) -> Server {
        let image = image.clone();
        Server::start(move |path| Server::find(&image, path))
    }

    /// What an honest registry answers.
    pub(crate) fn find(image: &Image, path: &str) -> Answer {
        let last = path.rsplit('/').next().unwrap_or_default();
        if path.contains("/manifests/") && (!last.contains(':') || last == digest(&image.top)) {
            return Answer::ok(&image.media_type, &image.top);
        }
        match image.blobs.get(last) {
            Some(blob) if path.contains("/manifests/") => {
                let value: serde_json::Value = serde_json::from_slice(blob).unwrap_or_default();
                Answer::ok(value["mediaType"].as_str().unwrap_or("application/json"), blob)
            }
            Some(blob) => Answer::ok("application/octet-stream", blob),
            None => Answer::missing(),
        }
    }

    /// `127.0.0.1:PORT/REST`.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.0)
    }
}

fn talk(mut stream: &TcpStream, answer: &Handler) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let Answer { status, headers, body, endless } =
            if path == "/v2/" { Answer::ok("application/json", b"{}") } else { answer(path) };
        let mut head = format!("HTTP/1.1 {status} X\r\n");
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head += &if endless {
            "Transfer-Encoding: chunked\r\n\r\n".to_owned()
        } else {
            format!("Content-Length: {}\r\n\r\n", body.len())
        };
        stream.write_all(head.as_bytes())?;
        if method == "HEAD" {
            continue;
        }
        if !endless {
            stream.write_all(&body)?;
            continue;
        }
        loop {
            stream.write_all(format!("{:x}\r\n", body.len()).as_bytes())?;
            stream.write_all(&body)?;
            stream.write_all(b"\r\n")?;
        }
    }
}
