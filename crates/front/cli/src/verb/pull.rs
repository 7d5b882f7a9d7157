use super::Build;
use crate::context::Context;
use crate::keeping::KeepingArgs;
use crate::progress::ProgressArgs;
use crate::{environment, out};
use clap::Args;
use std::path::PathBuf;
use tare_model::image::Platform;
use tare_model::{Reference, Result};
use tare_registry::{Client, Credentials, Options, Proxies, PullOptions};

pub(super) const ARGS: Build = <PullArgs as Args>::augment_args;

/// Get an image from a registry
///
/// Credentials are those of docker's config.json ($DOCKER_CONFIG or ~/.docker), or podman's ($REGISTRY_AUTH_FILE).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare pull debian
  tare pull 127.0.0.1:5000/team/app:2
  tare pull --platform linux/arm64 debian:12")]
pub(crate) struct PullArgs {
    /// Platform to choose from an index, as linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    #[command(flatten)]
    keeping: KeepingArgs,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

pub(super) fn main(args: PullArgs, context: &Context) -> Result<u8> {
    let reference: Reference = args.name.parse()?;
    let platform = args.platform.as_deref().map(str::parse::<Platform>).transpose()?;
    let engine = context.engine_keeping(args.keeping.keep_blobs)?;
    let client = client()?;
    let progress = &args.progress.for_transfers();
    let options = PullOptions { platform };
    let image = tare_registry::pull(&client, engine.store(), &reference, &options, progress)?;
    if !args.progress.is_quiet() {
        out::note(format_args!("Digest: {}", image.manifest.digest));
    }
    out::print(&reference)?;
    Ok(0)
}

/// A client with the caller's credentials and proxies.
pub(super) fn client() -> Result<Client> {
    let credentials = match credentials_file() {
        Some(path) => Credentials::load(&path)?,
        None => Credentials::default(),
    };
    let lower_or_upper = |name: &str| {
        environment::non_empty(&name.to_ascii_lowercase())
            .or_else(|| environment::non_empty(&name.to_ascii_uppercase()))
    };
    let proxies = Proxies {
        http: lower_or_upper("http_proxy"),
        https: lower_or_upper("https_proxy"),
        none: lower_or_upper("no_proxy").unwrap_or_default(),
    };
    let mut options = Options { credentials, proxies, ..Options::default() };
    // What OpenSSL and Go read as well: a host behind an inspecting proxy has its authority there.
    if let Some(path) = environment::non_empty("SSL_CERT_FILE") {
        options.ca_bundles.insert(0, PathBuf::from(path));
    }
    Client::new(options)
}

fn credentials_file() -> Option<PathBuf> {
    if let Some(file) = environment::non_empty("REGISTRY_AUTH_FILE") {
        return Some(file.into());
    }
    let dir = environment::non_empty("DOCKER_CONFIG").map(PathBuf::from);
    let dir = dir.or_else(|| Some(environment::places().home?.join(".docker")))?;
    Some(dir.join("config.json"))
}
