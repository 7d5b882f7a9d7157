//! One exchange with one server: time limits, and errors that name the server.

use crate::body::Content;
use crate::connect::{ConnectError, Connector};
use crate::options::Options;
use crate::token_cache::Tokens;
use crate::url::{self, Origin};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tare_model::{Error, Kind, Result};
use tokio::time::timeout;

/// The pool of connections and what all operations of a client share.
pub(crate) struct Http {
    pool: legacy::Client<Connector, Content>,
    pub(crate) options: Options,
    pub(crate) tokens: Tokens,
    agent: HeaderValue,
}

/// A failed exchange.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) error: Error,
    /// The connection was there and was lost: trying again may help.
    pub(crate) lost: bool,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble { error, lost: false }
    }
}

impl Trouble {
    fn lost(server: &Origin, why: impl std::fmt::Display) -> Self {
        let error = Error::new(Kind::Unavailable, "talk to", server).because(why).hint("try again");
        Trouble { error, lost: true }
    }
}

impl Http {
    pub(crate) fn new(options: Options) -> Result<Http> {
        let agent = HeaderValue::from_str(&options.user_agent)
            .map_err(|e| Error::new(Kind::Invalid, "set user agent", &options.user_agent).because(e))?;
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(Connector::new(&options)?);
        Ok(Http { pool, options, tokens: Tokens::default(), agent })
    }

    /// Sends a request and waits for the head of the answer. A body that streams may take as long as it gets on.
    pub(crate) async fn exchange(&self, mut request: Request<Content>) -> Result<Response<Incoming>, Trouble> {
        let server = Origin::of(request.uri())?;
        request.headers_mut().insert(USER_AGENT, self.agent.clone());
        if !server.https
            && let Some(authorization) = self.options.proxies.to(&server)?.and_then(|p| p.authorization)
            && let Ok(value) = HeaderValue::from_str(&authorization)
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        let sent = match request.body() {
            Content::Stream { sent, .. } => sent.clone(),
            Content::Whole(_) => Arc::default(),
        };
        // Reaching the host has its own limit; this one must not cut it short.
        let limit = self.options.idle_timeout.max(self.options.connect_timeout + Duration::from_secs(1));
        match while_moving(limit, &sent, self.pool.request(request)).await {
            Some(Ok(response)) => Ok(response),
            Some(Err(e)) => Err(classify(&server, &e)),
            None => Err(Trouble::lost(&server, format!("no answer within {} s", limit.as_secs_f32()))),
        }
    }

    /// The next piece of a body; `None` at its end.
    pub(crate) async fn next(&self, server: &Origin, body: &mut Incoming) -> Result<Option<Bytes>, Trouble> {
        let limit = self.options.idle_timeout;
        loop {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
            match timeout(limit, frame).await {
                Err(_) => return Err(Trouble::lost(server, format!("silent for {} s", limit.as_secs_f32()))),
                Ok(None) => return Ok(None),
                Ok(Some(Err(e))) => return Err(Trouble::lost(server, innermost(&e))),
                // Trailers carry nothing for us.
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// A whole small body.
    ///
    /// # Errors
    /// `Kind::Exhausted` beyond `max` bytes.
    pub(crate) async fn read(&self, server: &Origin, mut body: Incoming, max: u64) -> Result<Vec<u8>, Trouble> {
        let mut all = Vec::new();
        while let Some(data) = self.next(server, &mut body).await? {
            if all.len() as u64 + data.len() as u64 > max {
                return Err(too_long(server, max).into());
            }
            all.extend_from_slice(&data);
        }
        Ok(all)
    }

    /// As much of an error's body as is worth quoting; what cannot be read is left out.
    pub(crate) async fn read_error(&self, server: &Origin, body: Incoming) -> Vec<u8> {
        self.read(server, body, 64 * 1024).await.unwrap_or_default()
    }
}

/// The document is longer than we are willing to hold.
pub(crate) fn too_long(server: &Origin, max: u64) -> Error {
    Error::new(Kind::Exhausted, "read answer of", server).because(format!("it is longer than {max} bytes"))
}

/// Waits for `future`; `None` once neither it is ready nor `sent` has changed for `limit`.
async fn while_moving<F: Future>(limit: Duration, sent: &AtomicU64, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    loop {
        let before = sent.load(Ordering::Relaxed);
        match timeout(limit, &mut future).await {
            Ok(output) => return Some(output),
            Err(_) if sent.load(Ordering::Relaxed) != before => {}
            Err(_) => return None,
        }
    }
}

fn classify(server: &Origin, error: &legacy::Error) -> Trouble {
    let mut source = std::error::Error::source(error);
    while let Some(e) = source {
        if let Some(ConnectError(ours)) = e.downcast_ref() {
            return ours.clone().into();
        }
        if e.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            let error = Error::new(Kind::Invalid, "talk to", server)
                .because(format!("the answer is not HTTP: {e}"))
                .hint("check host and port: this may not be a registry");
            return error.into();
        }
        source = e.source();
    }
    Trouble::lost(server, innermost(error))
}

/// The message of the cause that all others only wrap.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut e = error;
    while let Some(source) = e.source() {
        e = source;
    }
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("options", &self.options).finish_non_exhaustive()
    }
}

/// An empty request with this method and address.
pub(crate) fn request(method: hyper::Method, uri: &hyper::Uri, body: Content) -> Request<Content> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri.clone();
    request
}

/// A header value made of what others sent.
pub(crate) fn header(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text)
        .map_err(|_| Error::new(Kind::Invalid, "send header", "").because("it holds bytes that may not stand there"))
}

/// A header as text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

/// Where a redirect or an upload leads.
pub(crate) fn location(response: &Response<Incoming>, from: &hyper::Uri) -> Result<hyper::Uri> {
    let Some(location) = response.headers().get(hyper::header::LOCATION) else {
        return Err(
            Error::new(Kind::Invalid, "follow answer of", url::bare(from)).because("there is no Location in it")
        );
    };
    let to = url::resolve(from, &String::from_utf8_lossy(location.as_bytes()))?;
    if Origin::of(from)?.https && !Origin::of(&to)?.https {
        return Err(Error::new(Kind::Denied, "follow answer of", url::bare(from))
            .because(format!("it leads from HTTPS to plain HTTP ({})", url::bare(&to)))
            .hint("configure the registry to give https addresses"));
    }
    Ok(to)
}
