use crate::context::Context;
use crate::errors::{code, report};
use crate::verb::Build;
use clap::Args;
use tare_model::{Kind, Result};

pub(in crate::verb) const ARGS: Build = <ExistsArgs as Args>::augment_args;

/// Say by the exit code whether an image is here
///
/// 0: it is; 1: it is not; 125: that could not be found out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare image exists debian:12 || tare pull debian:12")]
pub(crate) struct ExistsArgs {
    /// Name or id
    #[arg(value_name = "IMAGE")]
    image: String,
}

pub(in crate::verb) fn main(args: ExistsArgs, context: &Context) -> Result<u8> {
    match context.engine().and_then(|engine| engine.store().image(&args.image)) {
        Ok(_) => Ok(0),
        Err(e) if e.kind() == Kind::NotFound => Ok(code::FAILED),
        Err(e) => {
            report(&context.verb, &e);
            Ok(code::ENGINE)
        }
    }
}
