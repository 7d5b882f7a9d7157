use crate::context::Context;
use crate::signal;
use crate::state::Container;
use clap::Args;
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tare_kernel::process::pidfd_signal;
use tare_model::{Error, Kind, Result};

const SIGKILL: i32 = 9;

/// Send a signal to the first process of a container
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// Signal every process of the container
    #[arg(short, long)]
    pub(crate) all: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Name, with or without SIG, or number
    #[arg(value_name = "SIGNAL", default_value = "SIGTERM", allow_negative_numbers = true)]
    pub(crate) signal: String,
}

pub(super) fn main(args: KillArgs, context: &Context) -> Result<u8> {
    let container = Container::load(context, &args.id)?;
    let signal = signal::parse(&args.signal)?;
    if args.all {
        return kill_all(&container, signal).map(|()| 0);
    }
    let not_running = || Error::new(Kind::State, "kill", &args.id).because("container not running");
    let process = container.process().ok_or_else(not_running)?;
    match pidfd_signal(process.as_fd(), signal) {
        Ok(()) => {}
        Err(e) if Errno::from_io_error(&e) == Some(Errno::SRCH) => return Err(not_running()),
        Err(e) => return Err(Error::io("kill", &args.id, e)),
    }
    // On v1 a frozen process does not die before it is thawed.
    if signal == SIGKILL && container.is_frozen()? {
        container.group()?.thaw()?;
    }
    Ok(0)
}

/// Also after the first process's end: without a PID namespace of its own a container can have others left.
fn kill_all(container: &Container, signal: i32) -> Result<()> {
    let group = match container.group() {
        Ok(group) => group,
        Err(e) if e.kind() == Kind::NotFound => {
            return Err(Error::new(Kind::State, "kill", &container.state.id).because("container not running"));
        }
        Err(e) => return Err(e),
    };
    if signal == SIGKILL {
        return group.kill_all();
    }
    // Nobody may fork away from the signal.
    let was_frozen = group.is_frozen()?;
    if !was_frozen {
        group.freeze()?;
    }
    let sent = group.processes()?.into_iter().try_for_each(|pid| {
        let Some(pid) = Pid::from_raw(pid) else { return Ok(()) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => match pidfd_signal(fd.as_fd(), signal) {
                Err(e) if Errno::from_io_error(&e) != Some(Errno::SRCH) => {
                    Err(Error::io("kill", pid.as_raw_nonzero(), e))
                }
                _ => Ok(()),
            },
            Err(Errno::SRCH) => Ok(()),
            Err(e) => Err(Error::io("kill", pid.as_raw_nonzero(), e)),
        }
    });
    if !was_frozen {
        group.thaw()?;
    }
    sent
}
