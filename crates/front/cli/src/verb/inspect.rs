use super::Build;
use super::ps::bytes_below;
use crate::builtin;
use crate::context::Context;
use crate::errors::report;
use crate::inspected;
use crate::out::Out;
use crate::template::Template;
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::path::Path;
use tare_engine::Engine;
use tare_model::{Error, Kind, Result};

pub(super) const ARGS: Build = <AnythingArgs as Args>::augment_args;
pub(super) const CONTAINER: Build = <ContainersArgs as Args>::augment_args;
pub(super) const IMAGE: Build = <ImagesArgs as Args>::augment_args;
pub(super) const NETWORK: Build = <NetworksArgs as Args>::augment_args;
pub(super) const VOLUME: Build = <VolumesArgs as Args>::augment_args;

/// Print all that is known of containers, images, volumes or networks, as JSON
///
/// A name is looked for among containers, then images, volumes and networks. The documents are docker's.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare inspect web
  tare inspect --format '{{.State.Pid}} {{.NetworkSettings.IPAddress}}' web
  tare inspect --type volume data")]
pub(crate) struct AnythingArgs {
    /// What the names name
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<What>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Print all that is known of containers, as JSON
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare container inspect --format '{{json .Mounts}}' web")]
pub(crate) struct ContainersArgs {
    #[command(flatten)]
    common: CommonArgs,
}

/// Print all that is known of images, as JSON
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare image inspect --format '{{json .RootFS.Layers}}' debian")]
pub(crate) struct ImagesArgs {
    #[command(flatten)]
    common: CommonArgs,
}

/// Print all that is known of volumes, as JSON
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare volume inspect --format '{{.Mountpoint}}' data")]
pub(crate) struct VolumesArgs {
    #[command(flatten)]
    common: CommonArgs,
}

/// Print all that is known of networks, as JSON
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare network inspect back
  tare network inspect --format '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{println}}{{end}}' bridge")]
pub(crate) struct NetworksArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Whatever else docker would tell; this is all
    #[arg(short, long, hide = true)]
    verbose: bool,
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Also what containers' filesystems take
    #[arg(short, long)]
    size: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// What a name may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Container,
    Image,
    Volume,
    Network,
}

pub(super) fn main(args: AnythingArgs, context: &Context) -> Result<u8> {
    print(&args.common, args.kind, context)
}

pub(super) fn container(args: ContainersArgs, context: &Context) -> Result<u8> {
    print(&args.common, Some(What::Container), context)
}

pub(super) fn image(args: ImagesArgs, context: &Context) -> Result<u8> {
    print(&args.common, Some(What::Image), context)
}

pub(super) fn volume(args: VolumesArgs, context: &Context) -> Result<u8> {
    print(&args.common, Some(What::Volume), context)
}

pub(super) fn network(args: NetworksArgs, context: &Context) -> Result<u8> {
    print(&args.common, Some(What::Network), context)
}

/// What was found is printed, what was not is reported after it, as docker does.
fn print(args: &CommonArgs, kind: Option<What>, context: &Context) -> Result<u8> {
    let template = match args.format.as_deref() {
        None | Some("" | "json") => None,
        Some(format) => Some(Template::parse(format)?),
    };
    let engine = context.engine()?;
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for name in &args.names {
        match document(&engine, name, kind, args.size) {
            Ok(document) => found.push(document),
            Err(error) => errors.push(error),
        }
    }
    let mut out = Out::new();
    match template {
        Some(template) => found.iter().try_for_each(|d| out.line(template.render(d)?))?,
        None if args.format.is_some() => out.line(Value::Array(found))?,
        None => {
            let text = serde_json::to_string_pretty(&found);
            out.line(text.map_err(|e| Error::new(Kind::System, "print", "").because(e))?)?;
        }
    }
    out.finish()?;
    Ok(errors.iter().map(|e| report(&context.verb, e)).max().unwrap_or(0))
}

fn document(engine: &Engine, name: &str, kind: Option<What>, size: bool) -> Result<Value> {
    let candidates: &[What] = match &kind {
        Some(kind) => std::slice::from_ref(kind),
        None => &[What::Container, What::Image, What::Volume, What::Network],
    };
    for what in candidates {
        let found = match what {
            What::Container => engine.container(name).map(|c| {
                let mut document = inspected::container(&c);
                if size {
                    let own = c.upper.as_deref().map_or(0, |dir| bytes_below(Path::new(dir)));
                    document["SizeRw"] = own.into();
                    let image = c.image_id.and_then(|id| engine.store().image(&id.to_string()).ok());
                    document["SizeRootFs"] = (own + image.map_or(0, |i| i.size)).into();
                }
                document
            }),
            What::Image => engine.image(name).map(|i| inspected::image(&i)),
            What::Volume => engine.volume(name).map(|v| inspected::volume(&v)),
            What::Network => network_document(engine, name),
        };
        match found {
            // A name that cannot be an image's may still be a volume's.
            Err(e) if kind.is_none() && matches!(e.kind(), Kind::NotFound | Kind::Invalid) => {}
            other => return other,
        }
    }
    Err(Error::new(Kind::NotFound, "find", name)
        .because("there is no container, image, volume or network of that name"))
}

/// Of a network, or of what docker lists as one.
fn network_document(engine: &Engine, name: &str) -> Result<Value> {
    match builtin::named(name) {
        Some(builtin) => Ok(builtin.document(&engine.containers(false)?)),
        None => engine.network(name).map(|n| inspected::network::network(&n)),
    }
}
