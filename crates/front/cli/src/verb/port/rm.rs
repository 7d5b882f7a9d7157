use crate::context::Context;
use crate::parse::port;
use crate::verb::Build;
use clap::Args;
use tare_model::Result;

pub(in crate::verb) const ARGS: Build = <RmArgs as Args>::augment_args;

/// Withdraw published ports of a container
///
/// At once if it runs, and for its next starts. Connections that are established go on. A port without a host port means
/// all ways to it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare port rm web 8443:443
  tare port rm web 80
  tare port rm dns 53/udp 53/tcp")]
pub(crate) struct RmArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// What is withdrawn
    #[arg(required = true, value_name = "[IP:][HOST_PORT]:PORT[/PROTOCOL]")]
    ports: Vec<String>,
}

pub(in crate::verb) fn main(args: RmArgs, context: &Context) -> Result<u8> {
    let ports = port::parse_all(&args.ports)?;
    context.engine()?.port_remove(&args.container, &ports)?;
    Ok(0)
}
