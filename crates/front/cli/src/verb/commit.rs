use super::Build;
use crate::context::Context;
use crate::listing::align;
use crate::out::Out;
use crate::{environment, out};
use clap::{ArgAction, Args};
use tare_engine::request::CommitRequest;
use tare_engine::{Explanation, Secret};
use tare_model::{Reference, Result, size};

pub(super) const ARGS: Build = <CommitArgs as Args>::augment_args;

/// Make an image of what a container has changed
///
/// Prints the image's id. Mounts and volumes are not part of it. With SOURCE_DATE_EPOCH in the environment the image is of that time, and
/// nothing in it is younger.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare commit web web:patched
  tare commit --explain web
  tare commit -m 'with curl' -c 'CMD [\"curl\", \"--version\"]' -c 'ENV A=1' box tools:1")]
pub(crate) struct CommitArgs {
    /// Who made it
    #[arg(short, long)]
    author: Option<String>,
    /// Dockerfile instruction to apply: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, USER, VOLUME, WORKDIR, ...
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Commit nothing: say what would enter the image and what would not, and what in it looks like a secret
    #[arg(long)]
    explain: bool,
    /// Of --explain: json, or nothing for text
    #[arg(long, value_name = "FORMAT", value_parser = ["json"], requires = "explain")]
    format: Option<String>,
    /// Message for the image's history
    #[arg(short, long)]
    message: Option<String>,
    /// Freeze the container meanwhile: true (the default) or false
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = ArgAction::Set, hide_possible_values = true, hide_default_value = true)]
    pause: bool,
    /// Do not freeze it
    #[arg(long)]
    no_pause: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

pub(super) fn main(args: CommitArgs, context: &Context) -> Result<u8> {
    let request = CommitRequest {
        reference: args.reference.as_deref().map(str::parse::<Reference>).transpose()?,
        author: args.author,
        message: args.message,
        changes: args.change,
        pause: args.pause && !args.no_pause,
        epoch: environment::source_date_epoch()?,
    };
    if args.explain {
        let explained = context.engine()?.explain_commit(&args.container, &request.changes)?;
        print(&explained, args.format.is_some())?;
        return Ok(0);
    }
    let image = context.engine_with_settings()?.commit(&args.container, &request)?;
    out::print(image.id)?;
    Ok(0)
}

fn print(explained: &Explanation, json: bool) -> Result<()> {
    let mut out = Out::new();
    if json {
        out.line(serde_json::json!(explained))?;
        return out.finish();
    }
    let files = explained.entries.iter().filter(|e| e.size > 0).count();
    out.line(format_args!(
        "Would enter the layer: {} paths, {files} files with {} of content",
        explained.entries.len(),
        size::decimal(explained.bytes)
    ))?;
    let rows = explained.entries.iter().map(|e| {
        let size = if e.size > 0 { size::decimal(e.size) } else { String::new() };
        vec![format!("  {}", e.kind), size, e.path.clone()]
    });
    out.text(align(&rows.collect::<Vec<_>>()))?;
    out.line("\nStays out:")?;
    let rows = explained.left_out.iter().map(|l| vec![format!("  {}", l.path), l.why.clone()]);
    out.text(align(&rows.collect::<Vec<_>>()))?;
    match explained.secrets.as_slice() {
        [] => out.line("\nNothing looks like a secret.")?,
        secrets => {
            out.line("\nLooks like a secret (whoever gets the image gets it):")?;
            let row = |s: &Secret| vec![format!("  {}", s.place), s.what.clone()];
            out.text(align(&secrets.iter().map(row).collect::<Vec<_>>()))?;
        }
    }
    out.finish()?;
    out::note("Nothing was committed: --explain only explains.");
    Ok(())
}
