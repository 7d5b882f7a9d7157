use super::Build;
use crate::context::Context;
use crate::verb::save::Target;
use crate::{environment, out};
use clap::Args;
use std::path::PathBuf;
use tare_model::Result;

pub(super) const ARGS: Build = <ExportArgs as Args>::augment_args;

/// Write a container's whole filesystem as a tar archive
///
/// Sorted, without names of users: the same files give the same bytes. With SOURCE_DATE_EPOCH in the environment nothing in it is younger.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare export -o web.tar web
  tare export web | tar t")]
pub(crate) struct ExportArgs {
    /// File to write; standard output if missing
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(super) fn main(args: ExportArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    let mut target = Target::open(args.output.as_deref())?;
    engine.export(&args.container, environment::source_date_epoch()?, &mut target).map_err(out::relabel_pipe)?;
    target.commit()?;
    Ok(0)
}
