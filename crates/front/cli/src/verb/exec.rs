use super::run::{byte, check_terminal};
use super::{Build, create};
use crate::context::Context;
use crate::errors::{code, warn};
use crate::meant;
use crate::session::{Ended, Executed, Options, foreground};
use crate::terminal::{self, DETACH_KEYS, DetachKeys};
use crate::tracing::TraceArgs;
use clap::Args;
use std::path::PathBuf;
use tare_engine::request::ExecRequest;
use tare_model::{Error, Kind, Result};

pub(super) const ARGS: Build = <ExecArgs as Args>::augment_args;

/// Run a further command in a running container
///
/// The exit code is the command's; 126 and 127 as with run.
#[derive(Debug, Args)]
#[command(
    override_usage = "tare exec [OPTIONS] CONTAINER COMMAND [ARGUMENT...]",
    after_help = "Examples:
  tare exec -it web bash
  tare exec -u nobody -w /tmp -e A=1 web env
  tar c . | tare exec -i web tar x -C /srv"
)]
pub(crate) struct ExecArgs {
    /// Return once it runs
    #[arg(short, long)]
    detach: bool,
    /// Hand standard input over
    #[arg(short, long)]
    interactive: bool,
    /// Give it a pseudo-terminal
    #[arg(short, long)]
    tty: bool,
    /// Environment variable; a bare NAME takes the caller's value
    #[arg(short, long, value_name = "NAME[=VALUE]", allow_hyphen_values = true)]
    env: Vec<String>,
    /// File of environment variables, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// User and group, names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIRECTORY")]
    workdir: Option<String>,
    /// With all capabilities
    #[arg(long)]
    privileged: bool,
    /// Keys that leave the command running
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS)]
    detach_keys: String,
    #[command(flatten)]
    trace: TraceArgs,
    /// Container, command and its arguments
    #[arg(value_name = "CONTAINER COMMAND [ARGUMENT...]", trailing_var_arg = true, hide = true, required = true)]
    words: Vec<String>,
}

pub(super) fn main(args: ExecArgs, context: &Context) -> Result<u8> {
    let detach = DetachKeys::parse(&args.detach_keys)?;
    let (container, request) = request(&args)?;
    if !args.detach {
        check_terminal(args.interactive, args.tty)?;
    }
    let engine = context.engine()?;
    let session = engine.exec(&container, &request)?;
    args.trace.show(context);
    session.warnings.iter().for_each(|w| warn(w));
    if args.detach {
        return Ok(0);
    }
    let options = Options { input: args.interactive, tty: args.tty, proxy_signals: false, detach };
    Ok(match foreground(&mut Executed::new(session)?, options)? {
        Ended::Exit(code) => byte(code),
        Ended::Detached => 0,
        Ended::Signal(signal) => code::SIGNAL.saturating_add(byte(signal)),
        Ended::Lost => code::FAILED,
    })
}

fn request(args: &ExecArgs) -> Result<(String, ExecRequest)> {
    let (container, command) = args.words.split_first().expect("clap requires it");
    if command.is_empty() {
        return Err(Error::new(Kind::Invalid, "the command is missing", "").because("expected CONTAINER COMMAND"));
    }
    let env = create::with_caller(|caller| meant::environment(&args.env_file, &args.env, caller))?;
    let request = ExecRequest {
        command: command.to_vec(),
        // A bare name that the caller lacks has nothing to add to a process.
        env: env.into_iter().filter(|e| e.contains('=')).collect(),
        user: args.user.clone(),
        workdir: args.workdir.clone(),
        tty: args.tty,
        size: terminal::size().filter(|_| !args.detach),
        stdin: args.interactive,
        privileged: args.privileged,
        detach: args.detach,
    };
    Ok((container.clone(), request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        exec: ExecArgs,
    }

    #[test]
    fn flags_end_at_the_container() {
        let line = Line::parse_from("exec -it -u 5 -e A=1 -e NOPE_XYZ c ls -l --help".split(' '));
        let (container, r) = request(&line.exec).unwrap();
        assert_eq!(
            (container.as_str(), r.command.as_slice()),
            ("c", ["ls", "-l", "--help"].map(String::from).as_slice())
        );
        assert_eq!(
            (r.user.as_deref(), r.env.as_slice(), r.tty, r.stdin),
            (Some("5"), ["A=1".to_owned()].as_slice(), true, true)
        );
        let line = Line::parse_from(["exec", "c"]);
        assert!(request(&line.exec).is_err());
    }
}
