use crate::arguments::CreateArgs;
use crate::context::Context;
use crate::foreground::{self, Signals};
use crate::making::{self, Made, Purpose};
use crate::state::{self, Container};
use crate::{removal, starting};
use clap::Args;
use rustix::fd::{AsFd, OwnedFd};
use tare_model::{Kind, Result};
use tare_runtime::launch::{self, Mark, Running};

/// Create and start a container, and wait for its end
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) create: CreateArgs,
    /// Return once the program runs
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Do not delete the container when its program has ended
    #[arg(long)]
    pub(crate) keep: bool,
    /// Do not become the parent of processes that lose theirs
    #[arg(long)]
    pub(crate) no_subreaper: bool,
}

pub(super) fn main(args: RunArgs, context: &Context) -> Result<u8> {
    context.protect()?;
    if args.detach {
        return run(&args, context, Purpose::Detach).map(|_| 0);
    }
    let signals = Signals::hold()?;
    if !args.no_subreaper {
        foreground::adopt_orphans()?;
    }
    let (container, running, terminal) = run(&args, context, Purpose::Foreground)?;
    launch::let_go_of_executable();
    let code = foreground::wait(&signals, running.pid, running.pidfd.as_fd(), terminal);
    if !args.keep {
        forget(context, &container)?;
    }
    code
}

/// From the bundle to the running program.
fn run(args: &RunArgs, context: &Context, purpose: Purpose) -> Result<(Container, Running, Option<OwnedFd>)> {
    let Made { container, mut launch, terminal } = making::make(context, &args.create, purpose)?;
    let undo = |e: &_| {
        let _: &tare_model::Error = e;
        making::undo(context, &container);
    };
    if let Some(listener) = starting::listener(&container.state).inspect_err(undo)? {
        launch.set_listener(listener);
    }
    terminal.iter().for_each(|master| foreground::fit(master.as_fd()));
    context.trace.point(Mark::Handover);
    let running = launch.release().inspect_err(undo)?;
    context.trace.point(Mark::Running);
    for warning in &running.warnings {
        context.log.warn(warning);
    }
    starting::started(&container).inspect_err(undo)?;
    state::unlock(&container.dir);
    context.trace.point(Mark::Poststart);
    context.show_trace();
    Ok((container, running, terminal))
}

/// Deletes what has ended, unless somebody else has done so already.
fn forget(context: &Context, container: &Container) -> Result<()> {
    match state::lock(&container.dir, &container.state.id) {
        Err(e) if e.kind() == Kind::NotFound => Ok(()),
        locked => locked.and_then(|()| removal::delete(context, container)),
    }
}
