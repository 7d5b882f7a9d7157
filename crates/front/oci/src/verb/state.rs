use crate::context::Context;
use crate::out;
use crate::state::Container;
use clap::Args;
use tare_model::{Error, Kind, Result};

/// Print the state of a container as JSON
#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: StateArgs, context: &Context) -> Result<u8> {
    let container = Container::load(context, &args.id)?;
    let document = container.document(container.status()?);
    let text = serde_json::to_string_pretty(&document)
        .map_err(|e| Error::new(Kind::Corrupt, "print state", &args.id).because(e))?;
    out::line(text)?;
    Ok(0)
}
