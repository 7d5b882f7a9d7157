use crate::context::Context;
use clap::Args;
use std::path::PathBuf;
use tare_model::{Error, Kind, Result};

/// Write a config.json to begin with
#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    /// Directory of the bundle
    #[arg(short, long, value_name = "DIRECTORY")]
    pub(crate) bundle: Option<PathBuf>,
    /// For a container that its user runs without root
    #[arg(long)]
    pub(crate) rootless: bool,
}

pub(super) fn main(args: SpecArgs, context: &Context) -> Result<u8> {
    let _ = (args, context);
    Err(Error::new(Kind::Unsupported, "spec", ""))
}
