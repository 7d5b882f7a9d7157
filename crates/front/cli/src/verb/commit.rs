use super::Build;
use crate::context::Context;
use crate::out;
use clap::{ArgAction, Args};
use tare_engine::request::CommitRequest;
use tare_model::{Reference, Result};

pub(super) const ARGS: Build = <CommitArgs as Args>::augment_args;

/// Make an image of what a container has changed
///
/// Prints the image's id. Mounts and volumes are not part of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare commit web web:patched
  tare commit -m 'with curl' -c 'CMD [\"curl\", \"--version\"]' -c 'ENV A=1' box tools:1")]
pub(crate) struct CommitArgs {
    /// Who made it
    #[arg(short, long)]
    author: Option<String>,
    /// Dockerfile instruction to apply: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, ...
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
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
    };
    let image = context.engine_with_settings()?.commit(&args.container, &request)?;
    out::print(image.id)?;
    Ok(0)
}
