//! From a reference to an image in the store.

use crate::client::Client;
use crate::download::download;
use crate::layers::{Setting, have_layers};
use crate::manifest::{self, Chosen};
use crate::session::{Access, Session};
use tare_model::image::{Compression, Descriptor, ImageConfig, Manifest, Platform, media};
use tare_model::{Context, Digest, Error, Kind, Reference, Result};
use tare_store::{Image, ImageLayer, Lease, NewImage, Progress, Store};

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Which image of an index; the host's own platform if not given. If given, an image without an index must fit, too.
    pub platform: Option<Platform>,
}

/// Fetches an image: what the store has already is not fetched again. Durable when it returns.
///
/// # Errors
/// `Kind::NotFound` (no such image; no such platform, with those there are), `Kind::Denied`, `Kind::Unavailable`, each
/// with a hint; `Kind::Corrupt` where content contradicts its digest, size or description; what the store gives.
pub fn pull(
    client: &Client,
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Image> {
    fetch(client, store, reference, options, progress).during("pull", reference)
}

fn fetch(
    client: &Client,
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Image> {
    let session = Session::new(&client.http, reference, Access::Pull, &[])?;
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let limits = store.limits();
    let chosen = client.run(manifest::choose(&session, &platform, limits))?;
    check_kind(&chosen.manifest)?;
    limits.check_layers(chosen.manifest.layers.iter().map(|l| l.size))?;

    store.leased(|lease| fetch_under(lease, client, &session, &chosen, (reference, &platform), options, progress))
}

/// The rest, under a lease: `wanted` is what was asked for.
fn fetch_under(
    lease: &Lease,
    client: &Client,
    session: &Session<'_>,
    chosen: &Chosen,
    wanted: (&Reference, &Platform),
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Image> {
    let (store, (reference, platform)) = (lease.store(), wanted);
    let config_bytes = config(client, session, lease, &chosen.manifest.config)?;
    let config: ImageConfig = serde_json::from_slice(&config_bytes)
        .map_err(|e| Error::new(Kind::Invalid, "read image config", chosen.manifest.config.digest).because(e))?;
    if options.platform.is_some() && !config.architecture.is_empty() && !config.platform().runs_on(platform) {
        return Err(Error::new(Kind::NotFound, "choose platform", platform)
            .because(format!("the image is there for {} only", config.platform()))
            .hint("leave out --platform, or choose another image"));
    }
    let layers = pair_layers(&chosen.manifest, &config)?;
    lease.hold(&layers.iter().flat_map(|l| [l.blob.digest, l.diff_id]).collect::<Vec<_>>())?;

    let limits = &store.limits().layer;
    have_layers(Setting { client, session, lease, layers: &layers, limits, progress })?;
    let Chosen { bytes, descriptor, top, .. } = chosen;
    store.put_image(
        lease,
        &NewImage {
            manifest: bytes,
            media_type: &descriptor.media_type,
            config: &config_bytes,
            layers: &layers,
            names: &names(reference, top.digest),
        },
    )
}

/// The tag (docker leaves it out if there is a digest as well), and the digest that the registry has it under.
fn names(reference: &Reference, top: Digest) -> Vec<Reference> {
    let by_digest = reference.with_digest(top);
    if reference.digest().is_some() { vec![by_digest] } else { vec![reference.clone(), by_digest] }
}

/// Refuses what is no container image before anything of it is fetched.
fn check_kind(manifest: &Manifest) -> Result<()> {
    let kind = manifest.config.media_type.as_str();
    if !matches!(kind, media::CONFIG | media::DOCKER_CONFIG) {
        return Err(Error::new(Kind::Unsupported, "read manifest", "")
            .because(format!("it describes {kind:?}, not a container image")));
    }
    let known =
        |l: &Descriptor| Compression::of_media_type(&l.media_type).during("use layer", l.digest.short()).map(drop);
    manifest.layers.iter().try_for_each(known)
}

/// Layer descriptors with the diff IDs that the config promises for them.
fn pair_layers(manifest: &Manifest, config: &ImageConfig) -> Result<Vec<ImageLayer>> {
    let (blobs, diff_ids) = (&manifest.layers, &config.rootfs.diff_ids);
    if blobs.len() != diff_ids.len() {
        return Err(Error::new(Kind::Corrupt, "read image config", manifest.config.digest).because(format!(
            "it lists {} layers, the manifest {}",
            diff_ids.len(),
            blobs.len()
        )));
    }
    let pair = |(blob, diff_id): (&Descriptor, &Digest)| ImageLayer { diff_id: *diff_id, blob: blob.clone() };
    Ok(blobs.iter().zip(diff_ids).map(pair).collect())
}

fn config(client: &Client, session: &Session<'_>, lease: &Lease, blob: &Descriptor) -> Result<Vec<u8>> {
    lease.store().limits().check_config(blob.size)?;
    lease.hold(&[blob.digest])?;
    // Verified; one that is damaged here is fetched anew.
    if let Ok(bytes) = lease.store().read_blob(&blob.digest, blob.size) {
        return Ok(bytes);
    }
    let mut bytes = Vec::new();
    client.run(download(session, blob, 0, &mut |data| {
        bytes.extend_from_slice(&data);
        Ok(())
    }))?;
    let found = Digest::of(&bytes);
    if found != blob.digest {
        return Err(Error::new(Kind::Corrupt, "fetch image config", blob.digest).because(format!("received {found}")));
    }
    Ok(bytes)
}
