use crate::context::Context;
use crate::out::Out;
use crate::parse::port;
use crate::verb::Build;
use clap::Args;
use serde_json::Value;
use tare_engine::Engine;
use tare_engine::request::Transport;
use tare_model::{Error, Kind, Result};

pub(in crate::verb) const ARGS: Build = <ExplainArgs as Args>::augment_args;

/// Say who can reach a published port, and which rule decides
///
/// From outside, from this host, from containers of the same and of other networks; rules of others are looked at as well.
/// A number that is no container's name is a port of this host.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare port explain web
  tare port explain web 80
  tare port explain 8080
  tare port explain --format json web")]
pub(crate) struct ExplainArgs {
    /// json
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,
    /// Name or id of a container, or a port of this host
    #[arg(value_name = "CONTAINER|PORT[/PROTOCOL]")]
    what: String,
    /// Only this port of the container
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

pub(in crate::verb) fn main(args: ExplainArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    let inside = args.port.as_deref().map(port::inside).transpose()?;
    let (container, inside) = match (engine.container(&args.what), inside) {
        (Ok(container), inside) => (container.id, inside),
        (Err(e), None) if e.kind() == Kind::NotFound => {
            let Ok(wanted) = port::inside(&args.what) else { return Err(e) };
            let (container, inside) = publisher(&engine, wanted)?;
            (container, Some(inside))
        }
        (Err(e), _) => return Err(e),
    };
    let explanations = engine.port_explain(&container, inside)?;
    let mut out = Out::new();
    if args.format.is_some() {
        let all = serde_json::to_value(&explanations).map_err(|e| Error::new(Kind::System, "print", "").because(e))?;
        out.line(Value::to_string(&all))?;
    } else {
        for (i, explanation) in explanations.iter().enumerate() {
            if i > 0 {
                out.line("")?;
            }
            out.line(explanation.to_string().trim_end())?;
        }
    }
    out.finish()?;
    Ok(0)
}

/// Who has published a port of this host, and which of its own ports that is.
fn publisher(engine: &Engine, (number, transport): (u16, Transport)) -> Result<(String, (u16, Transport))> {
    let published = engine.containers(false)?.into_iter().find_map(|c| {
        let port = c.ports.iter().find(|p| p.host_port == number && p.transport == transport)?;
        Some((c.id.clone(), (port.container_port, port.transport)))
    });
    published.ok_or_else(|| {
        Error::new(Kind::NotFound, "find port", format!("{number}/{transport}"))
            .because("no container has published it on this host")
            .hint("tare ps shows published ports; ss -ltnp who else listens")
    })
}
