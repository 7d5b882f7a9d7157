use super::Build;
use crate::context::Context;
use crate::progress::Reporter;
use crate::verb::load::refuse_terminal;
use crate::{environment, out};
use clap::Args;
use std::fs::File;
use std::io::Read;
use tare_model::image::{ImageConfig, Platform};
use tare_model::{Context as _, Error, Kind, Reference, Result};
use tare_store::archive::Import;

pub(super) const ARGS: Build = <ImportArgs as Args>::augment_args;

/// Make an image of a root filesystem's tar archive
///
/// Plain or compressed. Prints the image's id. The same files give the same layer, however they were packed. With SOURCE_DATE_EPOCH in the
/// environment the image is of that time, and nothing in it is younger.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare import rootfs.tar.gz debian:mine
  debootstrap --variant=minbase trixie root && tar c -C root . | tare import - debian:mine
  tare import -c 'CMD [\"/bin/bash\"]' rootfs.tar box")]
pub(crate) struct ImportArgs {
    /// Dockerfile instruction to apply: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, USER, VOLUME, WORKDIR, ...
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Message for the image's history
    #[arg(short, long)]
    message: Option<String>,
    /// Platform that the files are for, as linux/arm64; this host's if missing
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Archive; - is standard input
    #[arg(value_name = "FILE")]
    file: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

pub(super) fn main(args: ImportArgs, context: &Context) -> Result<u8> {
    let mut config = ImageConfig::default();
    tare_engine::apply_changes(&mut config.config, &args.change)?;
    if let Some(platform) = args.platform.as_deref().map(str::parse::<Platform>).transpose()? {
        (config.os, config.architecture, config.variant) = (platform.os, platform.architecture, platform.variant);
    }
    let name = args.reference.as_deref().map(str::parse::<Reference>).transpose()?;
    let import = Import { name, config, message: args.message, epoch: environment::source_date_epoch()? };
    let engine = context.engine_with_settings()?;
    let mut archive = open(&args.file)?;
    let image = engine.store().import(&mut archive, import, &Reporter::for_archives())?;
    out::print(image.id)?;
    Ok(0)
}

fn open(file: &str) -> Result<Box<dyn Read + Send>> {
    if file == "-" {
        refuse_terminal("tare import FILE")?;
        return Ok(Box::new(std::io::stdin()));
    }
    if file.starts_with("http://") || file.starts_with("https://") {
        return Err(Error::new(Kind::Unsupported, "import", file)
            .because("tare fetches nothing but images")
            .hint(format_args!("curl -L {file} | tare import -")));
    }
    Ok(Box::new(File::open(file).during("open", file)?))
}
