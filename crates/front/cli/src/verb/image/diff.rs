use crate::context::Context;
use crate::out::Out;
use crate::verb::Build;
use clap::Args;
use tare_model::Result;

pub(in crate::verb) const ARGS: Build = <DiffArgs as Args>::augment_args;

/// List what is different in another image: A added, C changed, D deleted
///
/// Every file of both images is looked at, whatever their layers: by attributes, size and time. With one image, what its topmost layer does.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare image diff app:1 app:2
  tare image diff app:2
  tare image diff --format json app:1 app:2")]
pub(crate) struct DiffArgs {
    /// json, or nothing for lines
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,
    /// The image before, or the only one
    #[arg(value_name = "IMAGE")]
    first: String,
    /// The image after
    #[arg(value_name = "IMAGE")]
    second: Option<String>,
}

pub(in crate::verb) fn main(args: DiffArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    let first = engine.image(&args.first)?.diff_ids();
    let (before, after) = match &args.second {
        Some(second) => (first, engine.image(second)?.diff_ids()),
        None => (first.split_last().map(|(_, below)| below.to_vec()).unwrap_or_default(), first),
    };
    let changes = engine.image_diff(&before, &after)?;
    let mut out = Out::new();
    if args.format.is_some() {
        out.line(serde_json::json!(changes))?;
    } else {
        changes.iter().try_for_each(|c| out.line(format_args!("{} {}", c.kind, c.path)))?;
    }
    out.finish()?;
    Ok(0)
}
