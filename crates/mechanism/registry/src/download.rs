//! One blob on its way here: in pieces, resumed where a connection breaks, never longer than announced.

use crate::http::Trouble;
use crate::session::{Answer, Call, Session};
use hyper::body::Bytes;
use hyper::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderValue, RANGE};
use hyper::{Method, StatusCode};
use tare_model::image::Descriptor;
use tare_model::{Error, Kind, Result};

/// Hands the blob's bytes from `from` on to `sink`, in order and each once. They are not verified: whoever stores them does that.
///
/// # Errors
/// `Kind::Corrupt` if the registry's blob has another length; `Kind::Unavailable` if it breaks off again and again;
/// what `sink` gives ends the transfer.
pub(crate) async fn download(
    session: &Session<'_>,
    blob: &Descriptor,
    from: u64,
    sink: &mut dyn FnMut(Bytes) -> Result<()>,
) -> Result<()> {
    let retry = session.http.options.retry;
    if from > 0 && from == blob.size {
        return Ok(());
    }
    let mut transfer = Transfer { session, blob, done: from };
    let mut failed = 0;
    loop {
        let before = transfer.done;
        let trouble = match transfer.attempt(sink).await {
            Ok(()) => return Ok(()),
            Err(trouble) => trouble,
        };
        failed = if transfer.done > before { 1 } else { failed + 1 };
        // A registry that was there a moment ago may come back; one that never was does not.
        let again = trouble.lost || (transfer.done > from && trouble.error.kind() == Kind::Unavailable);
        if !again || failed >= retry.attempts {
            return Err(trouble.error);
        }
        tokio::time::sleep(retry.after(failed)).await;
    }
}

struct Transfer<'a> {
    session: &'a Session<'a>,
    blob: &'a Descriptor,
    /// Bytes that are here.
    done: u64,
}

impl Transfer<'_> {
    async fn attempt(&mut self, sink: &mut dyn FnMut(Bytes) -> Result<()>) -> Result<(), Trouble> {
        let Answer { response, server, .. } = self.session.expect(&self.call()?, &self.statuses()).await?;
        let mut skip = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                self.check_range(response.headers().get(CONTENT_RANGE))?;
                0
            }
            // The server sends everything once more.
            _ => {
                let length = response.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
                if let Some(length) = length.filter(|l| *l != self.blob.size) {
                    return Err(self.corrupt(format!("expected {} bytes, the registry has {length}", self.blob.size)));
                }
                self.done
            }
        };
        let mut body = response.into_body();
        while let Some(mut data) = self.session.http.next(&server, &mut body).await? {
            let repeated = skip.min(data.len() as u64);
            skip -= repeated;
            let data = data.split_off(usize::try_from(repeated).unwrap_or(usize::MAX));
            if data.is_empty() {
                continue;
            }
            let length = data.len() as u64;
            if length > self.blob.size - self.done {
                return Err(self.corrupt(format!("the registry sends more than {} bytes", self.blob.size)));
            }
            sink(data)?;
            self.done += length;
        }
        if self.done < self.blob.size {
            // The end of the body was announced as such: it is not the connection that is to blame.
            return Err(Trouble {
                lost: true,
                ..self.corrupt(format!("the registry sent {} of {} bytes", self.done, self.blob.size))
            });
        }
        Ok(())
    }

    fn call(&self) -> Result<Call> {
        let uri = self.session.uri(&format!("blobs/{}", self.blob.digest))?;
        let mut call = Call::new(format!("fetch {} from", self.blob.digest.short()), Method::GET, uri);
        // A proxy that compresses on the way would change the bytes under their digest.
        call.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if self.done > 0 {
            call.headers.insert(RANGE, crate::http::header(&format!("bytes={}-", self.done))?);
        }
        Ok(call)
    }

    fn statuses(&self) -> Vec<StatusCode> {
        let partial = (self.done > 0).then_some(StatusCode::PARTIAL_CONTENT);
        [StatusCode::OK].into_iter().chain(partial).collect()
    }

    /// `bytes FIRST-LAST/TOTAL` must begin where we stopped.
    fn check_range(&self, header: Option<&HeaderValue>) -> Result<(), Trouble> {
        let text = header.and_then(|v| v.to_str().ok()).unwrap_or_default();
        let first = text.strip_prefix("bytes ").and_then(|r| r.split('-').next()?.trim().parse::<u64>().ok());
        if first == Some(self.done) {
            return Ok(());
        }
        Err(self.corrupt(format!("asked for the rest from byte {}, the registry sends {text:?}", self.done)))
    }

    fn corrupt(&self, why: String) -> Trouble {
        Error::new(Kind::Corrupt, "fetch", self.blob.digest).because(why).into()
    }
}
