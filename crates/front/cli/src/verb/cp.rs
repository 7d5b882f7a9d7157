use super::Build;
use crate::context::Context;
use clap::Args;
use tare_model::{Error, Kind, Result};

pub(super) const ARGS: Build = <CpArgs as Args>::augment_args;

/// Copy files between a container and the host
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare cp web:/etc/hosts .")]
pub(crate) struct CpArgs {}
pub(super) fn main(_: CpArgs, _: &Context) -> Result<u8> {
    Err(Error::new(Kind::Unsupported, "cp", ""))
}
