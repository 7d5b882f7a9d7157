use crate::context::Context;
use crate::errors::code;
use crate::out::{self, Out};
use crate::progress::Reporter;
use crate::template::Template;
use crate::verb::Build;
use clap::Args;
use serde_json::{Value, json};
use tare_model::{Error, Kind, Result, size};
use tare_store::{Progress, Silent, Verified};

pub(in crate::verb) const ARGS: Build = <VerifyArgs as Args>::augment_args;

/// Prove every byte of images on disk
///
/// Reads blobs, manifests, configurations and unpacked layers, and compares them with their digests; a layer that is a tree of files
/// is compared file by file with the archive that it came as. What is damaged is named with what mends it, and set aside:
/// containers that run keep it, nothing new stands on it, and the next pull brings it anew. The exit code is then 1.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare image verify debian:12
  tare image verify --all
  tare image verify --all --report-only --format json")]
pub(crate) struct VerifyArgs {
    /// All images
    #[arg(short, long, conflicts_with = "images")]
    all: bool,
    /// json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Say nothing on the way
    #[arg(short, long)]
    quiet: bool,
    /// Leave what is damaged where it is
    #[arg(long)]
    report_only: bool,
    /// Names or ids
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

pub(in crate::verb) fn main(args: VerifyArgs, context: &Context) -> Result<u8> {
    if !args.all && args.images.is_empty() {
        return Err(Error::new(Kind::Invalid, "verify", "images")
            .because("none is named")
            .hint("tare image verify --all"));
    }
    let engine = context.engine()?;
    let reporter = Reporter::for_archives();
    let progress: &dyn Progress = if args.quiet { &Silent } else { &reporter };
    let verified = engine.verify_images(&args.images, !args.report_only, progress)?;
    match args.format.as_deref() {
        None | Some("") => plain(&verified)?,
        Some("json") => out::print(document(&verified))?,
        Some(format) => out::print(Template::parse(format)?.render(&document(&verified))?)?,
    }
    Ok(if verified.damages.is_empty() { 0 } else { code::FAILED })
}

fn plain(verified: &Verified) -> Result<()> {
    let mut out = Out::new();
    for damage in &verified.damages {
        out.line(format_args!("{}: {}: {}", damage.object, damage.problem, damage.mend))?;
    }
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let end = match verified.damages.len() {
        0 => "whole".to_owned(),
        n => format!("{n} damaged"),
    };
    out.line(format_args!(
        "{}, {}, {}, {} read: {end}",
        count(verified.images, "image"),
        count(verified.layers, "layer"),
        count(verified.blobs, "blob"),
        size::decimal(verified.bytes)
    ))?;
    out.finish()
}

fn document(verified: &Verified) -> Value {
    let damages: Vec<Value> = verified
        .damages
        .iter()
        .map(|d| json!({ "Object": d.object, "Problem": d.problem, "Mend": d.mend, "Images": d.images }))
        .collect();
    json!({
        "Images": verified.images,
        "Layers": verified.layers,
        "Blobs": verified.blobs,
        "Bytes": verified.bytes,
        "Whole": verified.damages.is_empty(),
        "Damages": damages,
    })
}
