use crate::context::Context;
use crate::errors::each;
use crate::verb::Build;
use clap::Args;
use tare_model::{Error, Kind, Result};

pub(in crate::verb) const ARGS: Build = <UnmountArgs as Args>::augment_args;

/// Take away what `tare image mount` has mounted
///
/// Prints the ids.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare image unmount debian:12
  tare image unmount --all")]
pub(crate) struct UnmountArgs {
    /// All that is mounted
    #[arg(short, long, conflicts_with = "images")]
    all: bool,
    /// Also while somebody has a file open: it goes when they are done
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

pub(in crate::verb) fn main(args: UnmountArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    let images = match args.all {
        true => engine.mounted_images()?.iter().map(|m| m.id.to_string()).collect(),
        false if args.images.is_empty() => {
            return Err(Error::new(Kind::Invalid, "unmount", "")
                .because("no image is named")
                .hint("name one, or --all"));
        }
        false => args.images,
    };
    each(&context.verb, &images, |name| crate::out::print(engine.unmount_image(name, args.force)?))
}
