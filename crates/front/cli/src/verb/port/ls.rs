use crate::context::Context;
use crate::out::Out;
use crate::parse::port;
use crate::published;
use crate::verb::Build;
use clap::Args;
use tare_model::{Error, Kind, Result};

pub(in crate::verb) const ARGS: Build = <LsArgs as Args>::augment_args;

/// List published ports
///
/// `tare port CONTAINER [PORT]` is the same.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare port web
  tare port web 80
  tare port ls dns 53/udp")]
pub(crate) struct LsArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Only where this port of the container is reached
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

pub(in crate::verb) fn main(args: LsArgs, context: &Context) -> Result<u8> {
    let wanted = args.port.as_deref().map(port::inside).transpose()?;
    let container = context.engine()?.container(&args.container)?;
    let mut out = Out::new();
    let Some((number, transport)) = wanted else {
        super::lines(&container.ports).iter().try_for_each(|line| out.line(line))?;
        out.finish()?;
        return Ok(0);
    };
    let fits = |p: &&tare_engine::view::Port| (p.container_port, p.transport) == (number, transport);
    let mut places: Vec<String> = Vec::new();
    for port in container.ports.iter().filter(fits) {
        places.extend(published::hosts(port).into_iter().map(|ip| published::place(ip, port.host_port)));
    }
    if places.is_empty() {
        return Err(Error::new(Kind::NotFound, "find port", format!("{number}/{transport}"))
            .because(format!("it is not published by {}", container.name))
            .hint(format!("tare port add {} {number}", container.name)));
    }
    places.iter().try_for_each(|place| out.line(place))?;
    out.finish()?;
    Ok(0)
}
