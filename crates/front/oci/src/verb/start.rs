use crate::context::Context;
use crate::starting;
use crate::state::Container;
use clap::Args;
use tare_model::Result;
use tare_runtime::launch::Mark;

/// Let the program of a created container run
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: StartArgs, context: &Context) -> Result<u8> {
    context.trace.point(Mark::Arguments);
    let container = Container::load_locked(context, &args.id)?;
    context.trace.point(Mark::Container);
    starting::start(context, &container)?;
    context.show_trace();
    Ok(0)
}
