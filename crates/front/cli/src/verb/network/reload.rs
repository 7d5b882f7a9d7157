use crate::context::Context;
use crate::errors::warn;
use crate::out;
use crate::verb::Build;
use clap::Args;
use tare_model::{Error, Kind, Result};

pub(in crate::verb) const ARGS: Build = <ReloadArgs as Args>::augment_args;

/// Restore what others took from the networks of running containers
///
/// Bridges, firewall rules and published ports. Supervisors notice by themselves when rules are flushed; this is for what
/// they cannot notice. All containers that run, if none is named.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare network reload
  tare network reload web")]
pub(crate) struct ReloadArgs {
    /// All containers that run
    #[arg(short, long)]
    all: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(in crate::verb) fn main(args: ReloadArgs, context: &Context) -> Result<u8> {
    if args.all && !args.containers.is_empty() {
        return Err(Error::new(Kind::Invalid, "invalid", "--all").because("containers are named as well"));
    }
    let missing = context.engine()?.network_reload(&args.containers)?;
    if missing > 0 {
        warn(&format!("{missing} things were missing and are there again"));
    }
    args.containers.iter().try_for_each(out::print)?;
    Ok(0)
}
