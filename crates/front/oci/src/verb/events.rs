use crate::context::Context;
use clap::Args;
use tare_model::{Error, Kind, Result};

/// Print statistics and out-of-memory events of a container
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Time between two lines of statistics, such as 500ms or 5s
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub(crate) interval: String,
    /// Print one line of statistics and end
    #[arg(long)]
    pub(crate) stats: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: EventsArgs, context: &Context) -> Result<u8> {
    let _ = (args, context);
    Err(Error::new(Kind::Unsupported, "events", ""))
}
