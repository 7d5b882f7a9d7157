use super::Build;
use super::run::{SessionOptions, attach, check_terminal, hold};
use crate::context::Context;
use crate::errors::{each, warn};
use crate::out;
use crate::terminal::{DETACH_KEYS, DetachKeys};
use crate::tracing::TraceArgs;
use clap::Args;
use tare_engine::Attach;
use tare_model::{Error, Kind, Result};

pub(super) const ARGS: Build = <StartArgs as Args>::augment_args;

/// Start containers that do not run
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare start web db
  tare start -ai shell")]
pub(crate) struct StartArgs {
    /// Show its output and wait for its end
    #[arg(short, long)]
    attach: bool,
    /// Hand standard input over
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS)]
    detach_keys: String,
    #[command(flatten)]
    trace: TraceArgs,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn main(args: StartArgs, context: &Context) -> Result<u8> {
    let engine = context.engine_with_settings()?;
    if !args.attach && !args.interactive {
        let code = each(&context.verb, &args.containers, |name| {
            engine.start(name, Attach::No)?.warnings.iter().for_each(|w| warn(w));
            out::print(name)
        });
        args.trace.show(context);
        return code;
    }
    let [name] = args.containers.as_slice() else {
        return Err(Error::new(Kind::Invalid, "attach to several containers", "").because("there is one terminal"));
    };
    let detach = DetachKeys::parse(&args.detach_keys)?;
    let request = engine.container(name)?.request;
    let input = args.interactive && request.stdin;
    check_terminal(input, request.tty)?;
    let started = engine.start(name, attach())?;
    args.trace.show(context);
    started.warnings.iter().for_each(|w| warn(w));
    hold(&engine, context, started, SessionOptions { input, tty: request.tty, proxy_signals: true, detach })
}
