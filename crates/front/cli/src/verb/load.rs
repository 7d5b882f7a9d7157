use super::Build;
use crate::context::Context;
use crate::keeping::KeepingArgs;
use crate::out::Out;
use crate::progress::ProgressArgs;
use clap::Args;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use tare_model::image::Platform;
use tare_model::{Context as _, Error, Kind, Result};
use tare_store::{Image, Progress, Store};

pub(super) const ARGS: Build = <LoadArgs as Args>::augment_args;

/// Read images from an archive or an OCI layout
///
/// OCI archives and docker's, plain or compressed; or a directory with an OCI layout.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare load -i debian.tar
  tare load -i layout-directory
  zcat app.tar.gz | tare load")]
pub(crate) struct LoadArgs {
    /// File or directory to read; standard input if missing
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Of images for several platforms, the one for this, as linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    #[command(flatten)]
    keeping: KeepingArgs,
    #[command(flatten)]
    progress: ProgressArgs,
}

pub(super) fn main(args: LoadArgs, context: &Context) -> Result<u8> {
    let platform = args.platform.as_deref().map(str::parse::<Platform>).transpose()?;
    let engine = context.engine_keeping(args.keeping.keep_blobs)?;
    let progress = &args.progress.for_archives();
    let images = match args.input.as_deref() {
        Some(path) => from_path(engine.store(), path, platform.as_ref(), progress)?,
        None => {
            refuse_terminal("tare load -i FILE")?;
            engine.store().load_for(platform.as_ref(), &mut std::io::stdin(), progress)?
        }
    };
    let mut out = Out::new();
    for image in images {
        match image.names.as_slice() {
            [] => out.line(format_args!("Loaded image ID: {}", image.id))?,
            names => names.iter().try_for_each(|n| out.line(format_args!("Loaded image: {}", n.familiar())))?,
        }
    }
    out.finish()?;
    Ok(0)
}

fn from_path(store: &Store, path: &Path, platform: Option<&Platform>, progress: &dyn Progress) -> Result<Vec<Image>> {
    let mut file = File::open(path).during("open", path.display())?;
    if file.metadata().during("look at", path.display())?.is_dir() {
        return store.load_layout(platform, file.as_fd(), progress);
    }
    store.load_for(platform, &mut file, progress)
}

/// Nobody types an archive.
pub(super) fn refuse_terminal(hint: &str) -> Result<()> {
    if crate::terminal::stdin_is_terminal() {
        return Err(Error::new(Kind::Invalid, "read the archive", "")
            .because("standard input is a terminal")
            .hint(format_args!("name a file: {hint}")));
    }
    Ok(())
}
