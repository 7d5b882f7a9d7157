use super::{Build, create};
use crate::container_args::ContainerArgs;
use crate::context::Context;
use crate::errors::{self, code, warn};
use crate::out;
use crate::pulling::{self, Had};
use crate::session::{Attached, Ended, Options, foreground};
use crate::terminal::{self, DETACH_KEYS, DetachKeys};
use crate::tracing::TraceArgs;
use clap::Args;
use tare_engine::{Attach, Engine, Mark, Started};
use tare_model::{Error, Kind, Result};

pub(super) const ARGS: Build = <RunArgs as Args>::augment_args;

/// Run a command in a new container
///
/// The image is pulled if it is not here. In the foreground the container's output is shown and its exit code is tare's
/// own; 125 means that tare failed, 126 that the command cannot be executed, 127 that it does not exist.
#[derive(Debug, Args)]
#[command(
    override_usage = "tare run [OPTIONS] IMAGE [COMMAND [ARGUMENT...]]\n       tare run [OPTIONS] --rootfs DIRECTORY COMMAND [ARGUMENT...]",
    after_help = "Examples:
  tare run hello
  tare run -it --rm debian bash
  tare run -d --name web -p 127.0.0.1:8080:80 -v ./site:/var/www:ro IMAGE
  tare run --rm -m 64m --cpus 0.5 --pids-limit 20 debian sh -c 'ulimit -a; cat /proc/self/cgroup'
  tare run --rm --mount type=bind,src=/srv/data,dst=/data,create debian ls /data
  tare run --plan debian true
  tare run --rm --trace-setup debian true"
)]
pub(crate) struct RunArgs {
    /// Return once it runs, and print its id
    #[arg(short, long)]
    detach: bool,
    /// Print what would be done, as JSON, and do nothing
    #[arg(long)]
    plan: bool,
    /// Pass signals on to the container: true or false
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set, hide_possible_values = true)]
    sig_proxy: bool,
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS)]
    detach_keys: String,
    #[command(flatten)]
    trace: TraceArgs,
    #[command(flatten)]
    container: ContainerArgs,
}

pub(super) fn main(args: RunArgs, context: &Context) -> Result<u8> {
    let options = SessionOptions {
        input: args.container.interactive,
        tty: args.container.tty,
        proxy_signals: args.sig_proxy,
        detach: DetachKeys::parse(&args.detach_keys)?,
    };
    if !args.detach && !args.plan {
        check_terminal(options.input, options.tty)?;
    }
    let request = create::request(&args.container)?;
    let engine = context.engine_with_settings()?;
    let (policy, quiet) = (args.container.pull, args.container.quiet);
    if pulling::have_image(&engine, context, &request.source, policy, quiet)? == Had::Refused {
        return Ok(code::ENGINE);
    }
    context.trace.point(Mark::Image);
    if args.plan {
        let plan = engine.plan(&request)?;
        let text = serde_json::to_string_pretty(&plan).map_err(|e| Error::new(Kind::System, "print", "").because(e))?;
        out::print(text)?;
        return Ok(0);
    }
    let cidfile = create::CidFile::reserve(args.container.cidfile.as_deref())?;
    let started = engine.run(&request, if args.detach { Attach::No } else { attach() })?;
    args.trace.show(context);
    cidfile.write(&started.id)?;
    started.warnings.iter().for_each(|w| warn(w));
    if args.detach {
        out::print(&started.id)?;
        return Ok(0);
    }
    hold(&engine, context, started, options)
}

/// Attached from the start, with the caller's terminal size.
pub(super) fn attach() -> Attach {
    terminal::size().map_or(Attach::Yes, |(rows, columns)| Attach::Sized { rows, columns })
}

/// How the foreground is held, as typed.
pub(super) struct SessionOptions {
    pub(super) input: bool,
    pub(super) tty: bool,
    pub(super) proxy_signals: bool,
    pub(super) detach: DetachKeys,
}

/// A pseudo-terminal that is fed by something other than a terminal hangs or garbles; docker refuses it as well.
pub(super) fn check_terminal(input: bool, tty: bool) -> Result<()> {
    if input && tty && !terminal::stdin_is_terminal() {
        return Err(Error::new(Kind::Invalid, "the input is not a terminal", "")
            .because("-t and -i need one together")
            .hint("leave -t out to pipe data in"));
    }
    Ok(())
}

/// Holds a started container in the foreground; the exit code is the container's.
pub(super) fn hold(engine: &Engine, context: &Context, started: Started, options: SessionOptions) -> Result<u8> {
    let Some(attachment) = started.attachment else {
        return Err(Error::new(Kind::State, "attach to", &started.name).because("the engine gave no attachment"));
    };
    let tty = options.tty;
    let options = Options {
        input: options.input,
        tty,
        // With a terminal, keys are input; what is left are signals for the client.
        proxy_signals: options.proxy_signals && !tty,
        detach: options.detach,
    };
    let ended = match foreground(&mut Attached::new(attachment), options) {
        Err(e) if out::is_broken_pipe(&e) => {
            out::note(format_args!(
                "tare: {}: standard output was closed; container {} goes on running",
                context.verb, started.name
            ));
            return Ok(code::PIPE);
        }
        other => other?,
    };
    exit_code(engine, &started.id, ended)
}

/// The exit code that a session's end means.
pub(super) fn exit_code(engine: &Engine, id: &str, ended: Ended) -> Result<u8> {
    Ok(match ended {
        Ended::Exit(code) => byte(code),
        Ended::Detached => 0,
        Ended::Signal(signal) => code::SIGNAL.saturating_add(byte(signal)),
        Ended::Lost => byte(lost(engine, id)?),
    })
}

/// The supervisor has gone without a word: what whoever found it gone has recorded is what is known.
fn lost(engine: &Engine, id: &str) -> Result<i32> {
    const KILLED: i32 = 137;
    // Its connection closes a moment before its lock, by which it counts as alive.
    for _ in 0..100 {
        match engine.container(id) {
            Ok(container) => {
                if let Some(exit) = container.exit {
                    exit.reason.iter().for_each(|reason| errors::warn(reason));
                    return Ok(exit.code);
                }
            }
            Err(e) if e.kind() == Kind::NotFound => {
                errors::warn("supervisor lost");
                return Ok(KILLED);
            }
            Err(e) => return Err(e),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Err(Error::new(Kind::State, "follow", id).because("its supervisor went away"))
}

/// An exit code of a process is 0 to 255.
pub(super) fn byte(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}
