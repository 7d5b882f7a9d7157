use super::Build;
use crate::context::Context;
use crate::errors::each;
use crate::out::Out;
use clap::Args;
use tare_model::{Kind, Result};

pub(super) const ARGS: Build = <RmiArgs as Args>::augment_args;

/// Remove images
///
/// A name among several is only taken away; the last name, or an id, removes the image.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare rmi debian:12
  tare rmi -f $(tare images -q --filter dangling=true)")]
pub(crate) struct RmiArgs {
    /// Also with several names, or used by containers; names that do not exist are no failure
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(super) fn main(args: RmiArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    each(&context.verb, &args.images, |name| {
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
