use crate::context::Context;
use crate::state::{Container, Status};
use clap::Args;
use tare_model::{Error, Kind, Result};

/// Freeze every process of a container
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: PauseArgs, context: &Context) -> Result<u8> {
    let container = Container::load_locked(context, &args.id)?;
    match container.status()? {
        Status::Created | Status::Running => {}
        Status::Paused => return Err(state(&args.id, "container not running: it is paused already")),
        _ => return Err(state(&args.id, "container not running")),
    }
    container.group()?.freeze().map(|()| 0)
}

fn state(id: &str, why: &str) -> Error {
    Error::new(Kind::State, "pause", id).because(why)
}
