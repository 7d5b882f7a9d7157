//! The synchronous face: what fronts and the engine call.

use crate::http::{self, Http};
use crate::manifest;
use crate::options::Options;
use crate::session::{Access, Call, Session, Whole};
use hyper::Method;
use serde::Deserialize;
use tare_model::image::Descriptor;
use tare_model::{Context, Error, Kind, Reference, Result};
use tokio::runtime::{Builder, Runtime};

const MAX_TAGS: u64 = 16 << 20;

/// Connections, tokens and trust for all registries; used from any number of threads. Owns one background thread, so a
/// process that will clone must not hold one. Not to be used inside of another asynchronous runtime.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    pub(crate) http: Http,
}

impl Client {
    /// A client; nothing is connected yet.
    ///
    /// # Errors
    /// `Kind::Invalid` for malformed options; what starting a thread gives.
    pub fn new(options: Options) -> Result<Client> {
        // One worker moves bytes between sockets and the callers' threads, which do all other work.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .thread_name("registry")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|e| Error::io("start thread", "registry", e))?;
        Ok(Client { runtime, http: Http::new(options)? })
    }

    /// Runs an exchange on the caller's thread.
    pub(crate) fn run<F: Future>(&self, exchange: F) -> F::Output {
        self.runtime.block_on(exchange)
    }
}

/// What the reference points at now: digest, size and type of an index or a manifest.
///
/// # Errors
/// `Kind::NotFound`, `Kind::Denied`, `Kind::Unavailable`, each with a hint; `Kind::Corrupt` for a wrong digest.
pub fn resolve(client: &Client, reference: &Reference) -> Result<Descriptor> {
    let session = Session::new(&client.http, reference, Access::Pull, &[])?;
    client.run(manifest::resolve(&session)).during("resolve", reference)
}

/// All tags of the reference's repository, as the registry sorts them.
///
/// # Errors
/// As [`resolve`].
pub fn tags(client: &Client, reference: &Reference) -> Result<Vec<String>> {
    let session = Session::new(&client.http, reference, Access::Pull, &[])?;
    client.run(list_tags(&session)).during("list tags of", reference.name())
}

#[derive(Deserialize)]
struct TagList {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

async fn list_tags(session: &Session<'_>) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let mut size = 0;
    let mut page = Some(session.uri("tags/list")?);
    while let Some(uri) = page {
        let call = Call::new("list tags on", Method::GET, uri);
        let Whole { headers, bytes, uri, server } = session.get(&call, manifest::MAX_MANIFEST).await?;
        page = match http::text(&headers, "link").and_then(next_page) {
            Some(next) => Some(crate::url::resolve(&uri, next)?),
            None => None,
        };
        size += bytes.len() as u64;
        if size > MAX_TAGS {
            return Err(http::too_long(&server, MAX_TAGS));
        }
        let list: TagList = serde_json::from_slice(&bytes)
            .map_err(|e| Error::new(Kind::Invalid, "read tags from", &server).because(e))?;
        let tags = list.tags.unwrap_or_default();
        // A page without tags that promises more would go on for ever.
        if tags.is_empty() {
            break;
        }
        all.extend(tags);
    }
    Ok(all)
}

/// The target of `<TARGET>; rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    link.contains("rel=\"next\"").then(|| link.split_once('<')?.1.split_once('>')).flatten().map(|(target, _)| target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_in_the_link() {
        assert_eq!(next_page("</v2/a/tags/list?n=2&last=b>; rel=\"next\""), Some("/v2/a/tags/list?n=2&last=b"));
        assert_eq!(next_page("</x>; rel=\"prev\""), None);
    }
}
