use crate::context::Context;
use crate::errors::each;
use crate::listing::{Listing, Look, Row};
use crate::out::Out;
use crate::verb::Build;
use clap::Args;
use tare_engine::MountedImage;
use tare_model::Result;

pub(in crate::verb) const ARGS: Build = <MountArgs as Args>::augment_args;

/// Show an image's files at a path of the host, read-only
///
/// Prints the path. It stays until `tare image unmount` or the next boot, and keeps the image from being removed. Without an image,
/// lists what is mounted.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare image mount debian:12
  ls $(tare image mount debian:12)/etc
  tare image mount")]
pub(crate) struct MountArgs {
    /// All images
    #[arg(short, long, conflicts_with = "images")]
    all: bool,
    /// Of the list: table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names or ids
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

const LISTING: Listing = Listing {
    columns: &[("ID", "IMAGE ID"), ("Names", "NAMES"), ("Path", "PATH")],
    shown: &["ID", "Names", "Path"],
    key: "ID",
};

pub(in crate::verb) fn main(args: MountArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    if !args.all && args.images.is_empty() {
        let rows: Vec<Row> = engine.mounted_images()?.iter().map(row).collect();
        LISTING.print(&mut Out::new(), &rows, Look::of(args.format.as_deref(), false))?;
        return Ok(0);
    }
    let images = match args.all {
        true => engine.store().images()?.iter().map(|i| i.id.to_string()).collect(),
        false => args.images,
    };
    each(&context.verb, &images, |name| {
        let path = engine.mount_image_at_host(name)?.path;
        crate::out::print(path.display())
    })
}

fn row(mounted: &MountedImage) -> Row {
    Row::default()
        .with("ID", mounted.id.short())
        .with("Names", mounted.names.join(", "))
        .with("Path", mounted.path.display().to_string())
}
