use super::Build;
use super::pull::client;
use crate::context::Context;
use crate::out;
use crate::progress::ProgressArgs;
use clap::Args;
use tare_model::{Reference, Result};

pub(super) const ARGS: Build = <PushArgs as Args>::augment_args;

/// Send an image to a registry
///
/// The name says which one; `tare tag` gives an image the name.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare tag app 127.0.0.1:5000/team/app:2 && tare push 127.0.0.1:5000/team/app:2")]
pub(crate) struct PushArgs {
    #[command(flatten)]
    progress: ProgressArgs,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

pub(super) fn main(args: PushArgs, context: &Context) -> Result<u8> {
    let reference: Reference = args.name.parse()?;
    let engine = context.engine()?;
    let image = engine.store().image(&args.name)?;
    let client = client()?;
    let progress = &args.progress.for_transfers();
    let sent = tare_registry::push(&client, engine.store(), &image, &reference, progress)?;
    if sent.digest != image.manifest.digest {
        out::note(format_args!(
            "tare: its layers were compressed again, so its digest there is not {}",
            image.manifest.digest
        ));
    }
    out::print(format_args!("{reference}: digest: {} size: {}", sent.digest, sent.size))?;
    Ok(0)
}
