use crate::context::Context;
use crate::state::{Container, Status};
use clap::Args;
use tare_model::{Error, Kind, Result};

/// Let a frozen container go on
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: ResumeArgs, context: &Context) -> Result<u8> {
    let container = Container::load_locked(context, &args.id)?;
    if container.status()? != Status::Paused {
        return Err(Error::new(Kind::State, "resume", &args.id).because("container not paused"));
    }
    container.group()?.thaw().map(|()| 0)
}
