//! Manifests: fetched, verified, and one chosen out of an index.

use crate::http;
use crate::session::{Answer, Call, Session, Whole};
use hyper::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};
use tare_model::image::{Descriptor, Index, Manifest, ManifestOrIndex, Platform};
use tare_model::{Context, Digest, Error, Kind, Reference, Result};
use tare_store::Limits;

/// What the specification asks registries to accept.
pub(crate) const MAX_MANIFEST: u64 = 4 << 20;
/// An index that lists indexes is allowed; a chain of them is a trap.
const MAX_DEPTH: usize = 3;

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A document under a manifest's address, verified.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptor: Descriptor,
    pub(crate) parsed: ManifestOrIndex,
}

/// The manifest of one image.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptor: Descriptor,
    pub(crate) manifest: Manifest,
    /// What the name itself led to: the index, or the manifest.
    pub(crate) top: Descriptor,
}

/// Follows the reference to the manifest for this platform.
pub(crate) async fn choose(session: &Session<'_>, platform: &Platform, limits: &Limits) -> Result<Chosen> {
    let mut document = fetch(session, &name(session.reference), session.reference.digest(), None, limits).await?;
    let top = document.descriptor.clone();
    for _ in 0..MAX_DEPTH {
        let index = match document.parsed {
            ManifestOrIndex::Manifest(manifest) => {
                return Ok(Chosen { bytes: document.bytes, descriptor: document.descriptor, manifest, top });
            }
            ManifestOrIndex::Index(index) => index,
        };
        let entry = index.choose(platform).ok_or_else(|| no_platform(&index, platform))?;
        limits.check_manifest(entry.size)?;
        document = fetch(session, &entry.digest.to_string(), Some(entry.digest), Some(entry), limits).await?;
    }
    Err(Error::new(Kind::Invalid, "choose platform", platform).because("indexes are nested too deeply"))
}

/// The document's descriptor, without the document if the registry tells the digest in the head of its answer.
pub(crate) async fn resolve(session: &Session<'_>) -> Result<Descriptor> {
    let name = name(session.reference);
    let mut call = Call::new("find image on", Method::HEAD, session.uri(&format!("manifests/{name}"))?);
    call.headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    let answer = session.send(&call).await?;
    if answer.response.status() == StatusCode::OK
        && let Some(found) = described(&answer)
        && session.reference.digest().is_none_or(|d| d == found.digest)
    {
        return Ok(found);
    }
    // HEAD has no body to quote and is not offered everywhere: the full request gives the full story.
    Ok(fetch(session, &name, session.reference.digest(), None, &Limits::default()).await?.descriptor)
}

fn described(answer: &Answer) -> Option<Descriptor> {
    let headers = answer.response.headers();
    let digest = http::text(headers, "docker-content-digest")?.parse().ok()?;
    let size = http::text(headers, CONTENT_LENGTH.as_str())?.parse().ok()?;
    let media_type = essence(http::text(headers, CONTENT_TYPE.as_str())?);
    Some(Descriptor::new(&media_type, digest, size))
}

/// What stands after `manifests/`: a digest counts for more than a tag.
fn name(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

async fn fetch(
    session: &Session<'_>,
    name: &str,
    digest: Option<Digest>,
    entry: Option<&Descriptor>,
    limits: &Limits,
) -> Result<Document> {
    let mut call = Call::new("find image on", Method::GET, session.uri(&format!("manifests/{name}"))?);
    call.headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    let answer = session.get(&call, limits.manifest_bytes).await;
    let Whole { headers, bytes, server, .. } = answer.map_err(|e| match e.kind() {
        // The same, with the name of the limit.
        Kind::Exhausted => limits.check_manifest(u64::MAX).err().unwrap_or(e),
        _ => e,
    })?;
    let content_type = http::text(&headers, CONTENT_TYPE.as_str()).map(essence);
    let told = http::text(&headers, "docker-content-digest");
    let bad = |kind, why: String| Error::new(kind, "read manifest from", &server).because(why);

    let found = Digest::of(&bytes);
    // What was asked for by digest must have it; for a tag the registry's own word is the only check there is.
    let expected = digest.or_else(|| told.and_then(|t| t.parse().ok()));
    if let Some(expected) = expected.filter(|e| *e != found) {
        return Err(bad(Kind::Corrupt, format!("expected {expected}, received {found}")));
    }
    if let Some(entry) = entry.filter(|e| e.size != bytes.len() as u64) {
        return Err(bad(Kind::Corrupt, format!("expected {} bytes, received {}", entry.size, bytes.len())));
    }
    if content_type.as_deref() == Some("text/html") {
        return Err(bad(Kind::Invalid, "it answered with a web page".to_owned())
            .hint("check the address: this does not seem to be a registry"));
    }
    let parsed = ManifestOrIndex::parse(&bytes).during("read manifest from", &server)?;
    let media_type = parsed.media_type(content_type.as_deref()).during("read manifest from", &server)?;
    let announced = entry.map(|e| e.media_type.as_str()).filter(|t| !t.is_empty());
    if let Some(announced) = announced.filter(|t| *t != media_type) {
        return Err(bad(Kind::Invalid, format!("announced as {announced}, it is {media_type}")));
    }
    let descriptor = Descriptor::new(&media_type, found, bytes.len() as u64);
    Ok(Document { bytes, descriptor, parsed })
}

/// A media type without its parameters.
fn essence(header: &str) -> String {
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn no_platform(index: &Index, platform: &Platform) -> Error {
    let mut there: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|d| d.platform.as_ref())
        // Attestations are listed as manifests for no platform.
        .filter(|p| p.os != "unknown")
        .map(ToString::to_string)
        .collect();
    there.dedup();
    let list = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    Error::new(Kind::NotFound, "choose platform", platform)
        .because(format!("the image is there for {list}"))
        .hint("choose one of them with --platform")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_media_type_do_not_count() {
        assert_eq!(essence("Application/JSON; charset=utf-8"), "application/json");
    }
}
