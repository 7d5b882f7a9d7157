use super::Build;
use crate::context::Context;
use crate::errors::each;
use crate::out::Out;
use clap::Args;
use tare_model::image::Platform;
use tare_model::{Error, Kind, Result};
use tare_store::Image;

pub(super) const ARGS: Build = <RmiArgs as Args>::augment_args;

/// Remove images
///
/// A name among several is only taken away; the last name, or an id, removes the image, and with it the layers that no other image or
/// container has. Images made from it keep theirs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare rmi debian:12
  tare rmi -f $(tare images -q --filter dangling=true)")]
pub(crate) struct RmiArgs {
    /// Also with several names, or used by containers; names that do not exist are no failure
    #[arg(short, long)]
    force: bool,
    /// Keep parents without a name: there are none, as no image needs another one
    #[arg(long)]
    no_prune: bool,
    /// Only if it is for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(super) fn main(args: RmiArgs, context: &Context) -> Result<u8> {
    let platform = args.platform.as_deref().map(str::parse::<Platform>).transpose()?;
    let engine = context.engine()?;
    each(&context.verb, &args.images, |name| {
        if let Some(platform) = &platform {
            is_for(&engine.image(name)?, platform)?;
        }
        let removed = match engine.remove_image(name, args.force) {
            Err(e) if args.force && e.kind() == Kind::NotFound => return Ok(()),
            other => other?,
        };
        let mut out = Out::new();
        removed.untagged.iter().try_for_each(|n| out.line(format_args!("Untagged: {}", n.familiar())))?;
        removed.deleted.iter().try_for_each(|d| out.line(format_args!("Deleted: {d}")))?;
        out.finish()
    })
}

/// Refuses an image that is for another platform than the one asked for.
pub(super) fn is_for(image: &Image, wanted: &Platform) -> Result<()> {
    let is = image.config.platform();
    if is.runs_on(wanted) {
        return Ok(());
    }
    Err(Error::new(Kind::NotFound, "choose platform", wanted)
        .because(format!("image {} is here for {is} only", image.id.short())))
}
