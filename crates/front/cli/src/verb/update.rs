use super::Build;
use crate::context::Context;
use crate::errors::{each, warn};
use crate::out;
use crate::parse::limits::{LimitArgs, Swap};
use clap::Args;
use tare_model::runtime_spec::LinuxResources;
use tare_model::{Error, Kind, Result};

pub(super) const ARGS: Build = <UpdateArgs as Args>::augment_args;

/// Change limits of containers
///
/// What is not named stays as it is.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare update -m 256m --memory-swap 256m web
  tare update --cpus 1.5 --pids-limit 100 web db")]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    limits: LimitArgs,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn main(args: UpdateArgs, context: &Context) -> Result<u8> {
    let limits = args.limits.meant(Swap::Unchanged)?;
    if limits == LinuxResources::default() {
        return Err(Error::new(Kind::Invalid, "no limit is given", "").because("name at least one, such as --memory"));
    }
    let engine = context.engine()?;
    each(&context.verb, &args.containers, |name| {
        engine.update(name, &limits)?.iter().for_each(|w| warn(w));
        out::print(name)
    })
}
