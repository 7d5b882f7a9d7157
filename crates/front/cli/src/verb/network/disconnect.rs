use crate::context::Context;
use crate::verb::Build;
use clap::Args;
use tare_engine::Force;
use tare_model::Result;

pub(in crate::verb) const ARGS: Build = <DisconnectArgs as Args>::augment_args;

/// Take a container from a network
///
/// Of a running container the interface goes at once, and with it what was published on that network.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare network disconnect back web
  tare network disconnect -f back web")]
pub(crate) struct DisconnectArgs {
    /// Also where its supervisor does not answer
    #[arg(short, long)]
    force: bool,
    /// Name or id
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(in crate::verb) fn main(args: DisconnectArgs, context: &Context) -> Result<u8> {
    let force = if args.force { Force::Yes } else { Force::No };
    context.engine()?.network_disconnect(&args.network, &args.container, force)?;
    Ok(0)
}
