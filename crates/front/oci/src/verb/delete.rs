use crate::context::Context;
use crate::removal;
use crate::state::{self, Container, Status};
use clap::Args;
use tare_model::{Context as _, Error, Kind, Result};

/// Remove what is left of a container
///
/// A container that was created and not started is removed, too.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Kill what still runs; no failure if there is no such container
    #[arg(short, long)]
    pub(crate) force: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: DeleteArgs, context: &Context) -> Result<u8> {
    match delete(&args, context) {
        Err(e) if args.force && e.kind() == Kind::NotFound => Ok(0),
        result => result.map(|()| 0),
    }
}

fn delete(args: &DeleteArgs, context: &Context) -> Result<()> {
    let dir = state::open_dir(context, &args.id)?;
    // A `create` that is still at work is waited for: it ends with a whole container or with none.
    state::lock(&dir, &args.id)?;
    let copy = dir.try_clone().during("open", &args.id)?;
    let container = match Container::in_dir(copy, &args.id) {
        Ok(container) => container,
        // Left by a `create` that was killed before there was anything but the directory, and perhaps empty groups.
        Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Corrupt) => {
            removal::remove_begun(context, &dir, &args.id);
            return removal::remove_directory(context, &dir, &args.id);
        }
        Err(e) => return Err(e),
    };
    if !args.force {
        let status = container.status()?;
        if matches!(status, Status::Running | Status::Paused) {
            return Err(Error::new(Kind::State, "delete", &args.id).because(format!(
                "cannot delete container {} that is not stopped: {}",
                args.id,
                status.word()
            )));
        }
    }
    removal::delete(context, &container)
}
