use super::Build;
use crate::context::Context;
use crate::errors::each;
use crate::out;
use clap::Args;
use tare_engine::RemoveOptions;
use tare_model::{Kind, Result};

pub(super) const ARGS: Build = <RmArgs as Args>::augment_args;

/// Remove containers
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare rm web
  tare rm -fv web db
  tare rm $(tare ps -aq)")]
pub(crate) struct RmArgs {
    /// Kill those that run; names that do not exist are no failure
    #[arg(short, long)]
    force: bool,
    /// Also remove their anonymous volumes
    #[arg(short, long)]
    volumes: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn main(args: RmArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    if args.force && args.containers.len() > 1 {
        // All are told to end before the first is waited for. Who does not run needs no telling.
        for name in &args.containers {
            let _ = engine.kill(name, "KILL");
        }
    }
    each(&context.verb, &args.containers, |name| {
        match engine.remove(name, RemoveOptions { force: args.force, volumes: args.volumes }) {
            Err(e) if args.force && e.kind() == Kind::NotFound => Ok(()),
            Err(e) => Err(e),
            Ok(()) => out::print(name),
        }
    })
}
