use crate::context::Context;
use crate::out;
use crate::verb::Build;
use clap::Args;
use tare_model::Result;

pub(in crate::verb) const ARGS: Build = <AttachArgs as Args>::augment_args;

/// Give a running container's network namespace a name, as `ip netns` has them
///
/// Prints the name. It goes with the container's end, or with detach-netns.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare network attach-netns web blue
  ip netns exec $(tare network attach-netns web) ss -ltn")]
pub(crate) struct AttachArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The namespace's name; the container's if missing
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

pub(in crate::verb) fn main(args: AttachArgs, context: &Context) -> Result<u8> {
    let path = context.engine()?.netns_attach(&args.container, args.name.as_deref())?;
    out::print(path.file_name().unwrap_or_default().to_string_lossy())?;
    Ok(0)
}
