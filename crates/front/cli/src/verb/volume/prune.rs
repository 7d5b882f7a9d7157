use crate::context::Context;
use crate::out::{self, Out};
use crate::verb::Build;
use clap::Args;
use std::io::Write;
use tare_model::{Error, Kind, Result};

pub(in crate::verb) const ARGS: Build = <PruneArgs as Args>::augment_args;

/// Remove volumes that no container uses
///
/// Anonymous ones, unless told otherwise.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare volume prune -f
  tare volume prune -af")]
pub(crate) struct PruneArgs {
    /// Named ones too
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub(in crate::verb) fn main(args: PruneArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    if !args.force {
        let which = if args.all { "all" } else { "all anonymous" };
        confirm(&format!("This removes {which} volumes that no container uses, and what they hold."))?;
    }
    let removed = engine.volume_prune(args.all)?;
    let mut out = Out::new();
    removed.iter().try_for_each(|name| out.line(name))?;
    out.finish()?;
    Ok(0)
}

/// Asks on standard error; anything but yes is no.
fn confirm(question: &str) -> Result<()> {
    drop(write!(std::io::stderr(), "{question} Go on? [y/N] "));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    out::note("");
    Err(Error::new(Kind::Cancelled, "prune", "").because("nothing was removed").hint("-f does not ask"))
}
