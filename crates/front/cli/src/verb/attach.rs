use super::Build;
use super::run::{check_terminal, exit_code};
use crate::context::Context;
use crate::session::{Attached, Options, foreground};
use crate::terminal::{DETACH_KEYS, DetachKeys};
use clap::Args;
use tare_model::Result;

pub(super) const ARGS: Build = <AttachArgs as Args>::augment_args;

/// Take a running container to the foreground
///
/// Its output from now on is shown, input goes to it if it was made with -i. The exit code is the container's.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare attach shell
  tare attach --no-stdin web")]
pub(crate) struct AttachArgs {
    /// Do not hand standard input over
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the container: true or false
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set, hide_possible_values = true)]
    sig_proxy: bool,
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS)]
    detach_keys: String,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(super) fn main(args: AttachArgs, context: &Context) -> Result<u8> {
    let detach = DetachKeys::parse(&args.detach_keys)?;
    let engine = context.engine()?;
    let container = engine.container(&args.container)?;
    let (tty, input) = (container.request.tty, container.request.stdin && !args.no_stdin);
    check_terminal(input, tty)?;
    let mut remote = Attached::new(engine.attach(&container.id)?);
    let options = Options { input, tty, proxy_signals: args.sig_proxy && !tty, detach };
    let ended = foreground(&mut remote, options)?;
    exit_code(&engine, &container.id, ended)
}
