use crate::builtin;
use crate::context::Context;
use crate::errors::each;
use crate::out;
use crate::verb::Build;
use clap::Args;
use tare_engine::NetworkRemoval;
use tare_model::{Error, Kind, Result};

pub(in crate::verb) const ARGS: Build = <RmArgs as Args>::augment_args;

/// Remove networks that no container is on
///
/// The default network stays.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare network rm back
  tare network rm -f back front
  tare network rm --with-containers test")]
pub(crate) struct RmArgs {
    /// Names that do not exist are no failure
    #[arg(short, long)]
    force: bool,
    /// Remove the containers on them first, by force
    #[arg(long)]
    with_containers: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

pub(in crate::verb) fn main(args: RmArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    let removal = if args.with_containers { NetworkRemoval::WithContainers } else { NetworkRemoval::IfUnused };
    let remove = |name: &str| match builtin::named(name) {
        Some(_) => {
            Err(Error::new(Kind::Invalid, "remove network", name).because("it is a mode of containers, no network"))
        }
        None => engine.network_remove(name, removal),
    };
    each(&context.verb, &args.networks, |name| match remove(name) {
        Err(e) if args.force && e.kind() == Kind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(()) => out::print(name),
    })
}
