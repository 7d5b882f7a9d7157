use crate::builtin;
use crate::context::Context;
use crate::errors::{code, report};
use crate::verb::Build;
use clap::Args;
use tare_engine::Engine;
use tare_model::Result;

pub(in crate::verb) const ARGS: Build = <ExistsArgs as Args>::augment_args;

/// Say by the exit code whether a network exists
///
/// 0: it does; 1: it does not; 125: that could not be found out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare network exists back || tare network create back")]
pub(crate) struct ExistsArgs {
    /// Name or id
    #[arg(value_name = "NETWORK")]
    network: String,
}

pub(in crate::verb) fn main(args: ExistsArgs, context: &Context) -> Result<u8> {
    match context.engine().and_then(|engine| exists(&engine, &args.network)) {
        Ok(true) => Ok(0),
        Ok(false) => Ok(code::FAILED),
        Err(e) => {
            report(&context.verb, &e);
            Ok(code::ENGINE)
        }
    }
}

fn exists(engine: &Engine, name: &str) -> Result<bool> {
    if builtin::named(name).is_some() { Ok(true) } else { engine.network_exists(name) }
}
