//! One blob on its way to a registry: asked for, mounted from a neighbour, or sent.

use crate::body::Content;
use crate::client::Client;
use crate::http::{self, Trouble};
use crate::session::{Answer, Call, Session};
use crate::url::{percent, with_query};
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tare_model::image::Descriptor;
use tare_model::{Context, Error, Kind, Result};
use tokio::sync::mpsc;

/// Read and sent at once.
const CHUNK: usize = 512 << 10;

/// Brings a blob into the session's repository and says how: `exists`, `mounted` or `done`.
///
/// `open` gives the content from its beginning, each time it is sent; `advanced` is told the bytes that are on their way.
pub(crate) fn upload(
    client: &Client,
    session: &Session<'_>,
    blob: &Descriptor,
    mount_from: Option<&str>,
    open: &(dyn Fn() -> Result<File> + Sync),
    advanced: &(dyn Fn(u64) + Sync),
) -> Result<&'static str> {
    let operation = format!("upload {} to", blob.digest.short());
    let head = Call::new(operation.clone(), Method::HEAD, session.uri(&format!("blobs/{}", blob.digest))?);
    let answer = client.run(session.expect(&head, &[StatusCode::OK, StatusCode::NOT_FOUND]))?;
    if answer.response.status() == StatusCode::OK {
        return Ok("exists");
    }
    let retry = client.http.options.retry;
    let mut failed = 0;
    loop {
        let mount = mount_from.filter(|_| failed == 0);
        let Some(put) = client.run(begin(session, blob, mount, &operation))? else { return Ok("mounted") };
        let result = send(client, session, &put, open()?, blob, advanced);
        failed += 1;
        match result {
            // The specification says 201; registries in use say the others, too.
            Ok(answer) if matches!(answer.response.status().as_u16(), 200 | 201 | 204) => return Ok("done"),
            Ok(answer) => {
                let expired = answer.response.status() == StatusCode::UNAUTHORIZED && failed == 1;
                if !(expired && client.run(session.renew())) {
                    return Err(client.run(session.refusal(&put.operation, answer)));
                }
            }
            Err(trouble) if !trouble.lost || failed >= retry.attempts => return Err(trouble.error),
            Err(_) => std::thread::sleep(retry.after(failed)),
        }
    }
}

/// Opens an upload; `None` if the registry took the blob from the other repository.
async fn begin(
    session: &Session<'_>,
    blob: &Descriptor,
    mount_from: Option<&str>,
    operation: &str,
) -> Result<Option<Call>> {
    let query = mount_from.map_or(String::new(), |from| format!("?mount={}&from={}", blob.digest, percent(from)));
    let post = Call::new(operation.to_owned(), Method::POST, session.uri(&format!("blobs/uploads/{query}"))?);
    let answer = session.expect(&post, &[StatusCode::ACCEPTED, StatusCode::CREATED]).await?;
    if answer.response.status() == StatusCode::CREATED {
        return match mount_from {
            Some(_) => Ok(None),
            None => Err(Error::new(Kind::Invalid, operation.to_owned(), &answer.server)
                .because("it says that the blob is there, but nothing was sent yet")),
        };
    }
    let location = http::location(&answer.response, &answer.uri)?;
    let mut put =
        Call::new(operation.to_owned(), Method::PUT, with_query(&location, "digest", &blob.digest.to_string())?);
    put.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    put.headers.insert(CONTENT_LENGTH, HeaderValue::from(blob.size));
    Ok(Some(put))
}

/// Sends the content in one request, read by another thread.
fn send(
    client: &Client,
    session: &Session<'_>,
    put: &Call,
    mut file: File,
    blob: &Descriptor,
    advanced: &(dyn Fn(u64) + Sync),
) -> Result<Answer, Trouble> {
    let (sender, chunks) = mpsc::channel(4);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read_chunks(&mut file, &sender, blob, advanced));
        let body = Content::Stream { chunks, left: blob.size, sent: Arc::new(AtomicU64::new(0)) };
        let answer = client.run(session.send_stream(put, body));
        // With the request over, its end of the channel is closed, and the reader ends.
        match reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            Err(error) => Err(error.into()),
            Ok(()) => answer,
        }
    })
}

fn read_chunks(
    file: &mut File,
    to: &mpsc::Sender<Bytes>,
    blob: &Descriptor,
    advanced: &(dyn Fn(u64) + Sync),
) -> Result<()> {
    let size = file.metadata().during("read blob", blob.digest)?.len();
    if size != blob.size {
        return Err(Error::new(Kind::Corrupt, "read blob", blob.digest)
            .because(format!("it has {size} bytes, the manifest says {}", blob.size)));
    }
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let n = file.by_ref().take(CHUNK as u64).read_to_end(&mut chunk).during("read blob", blob.digest)?;
        if n == 0 || to.blocking_send(chunk.into()).is_err() {
            return Ok(());
        }
        advanced(n as u64);
    }
}
