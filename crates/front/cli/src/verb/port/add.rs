use crate::context::Context;
use crate::out::Out;
use crate::parse::port;
use crate::verb::Build;
use clap::Args;
use tare_engine::request::PortRequest;
use tare_model::Result;

pub(in crate::verb) const ARGS: Build = <AddArgs as Args>::augment_args;

/// Publish more ports of a container
///
/// At once if it runs, and whenever it is started again. Connections go on. Ports are written as with -p of `run`; where the
/// host's port was chosen, it is printed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare port add web 8443:443
  tare port add web 127.0.0.1:9000:9000 53:53/udp
  tare port add web 90")]
pub(crate) struct AddArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// What is published
    #[arg(required = true, value_name = "[IP:][HOST_PORT]:PORT[/PROTOCOL]")]
    ports: Vec<String>,
}

pub(in crate::verb) fn main(args: AddArgs, context: &Context) -> Result<u8> {
    let ports = port::parse_all(&args.ports)?;
    let added = context.engine_with_settings()?.port_add(&args.container, &ports)?;
    let chosen = |p: &PortRequest| p.host_ports.is_none_or(|(first, last)| first != last);
    if !ports.iter().any(chosen) {
        return Ok(0);
    }
    let mut out = Out::new();
    super::lines(&added).iter().try_for_each(|line| out.line(line))?;
    out.finish()?;
    Ok(0)
}
