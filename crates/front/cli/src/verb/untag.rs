use super::Build;
use crate::context::Context;
use crate::out::Out;
use clap::Args;
use tare_model::{Reference, Result};

pub(super) const ARGS: Build = <UntagArgs as Args>::augment_args;

/// Take names away from an image; the image stays
///
/// All of its names, or those that are given.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare untag debian:12
  tare untag 5f70bf18a086 team/debian:12 team/debian:latest")]
pub(crate) struct UntagArgs {
    /// Name or id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The names to take away
    #[arg(value_name = "NAME[:TAG]")]
    names: Vec<String>,
}

pub(super) fn main(args: UntagArgs, context: &Context) -> Result<u8> {
    let names = args.names.iter().map(|n| n.parse()).collect::<Result<Vec<Reference>>>()?;
    let mut out = Out::new();
    for name in context.engine()?.untag(&args.image, &names)? {
        out.line(format_args!("Untagged: {}", name.familiar()))?;
    }
    out.finish()?;
    Ok(0)
}
