use super::Build;
use crate::context::Context;
use crate::listing::align;
use crate::out::Out;
use clap::Args;
use tare_model::Result;

pub(super) const ARGS: Build = <TopArgs as Args>::augment_args;

/// List the processes of a container, as the host sees them
#[derive(Debug, Args)]
#[command(
    override_usage = "tare top CONTAINER [COLUMN...]",
    after_help = "Examples:
  tare top web
  tare top web -o pid,user,args"
)]
pub(crate) struct TopArgs {
    /// Container, and which columns, as ps(1) names them
    #[arg(value_name = "CONTAINER [COLUMN...]", trailing_var_arg = true, required = true)]
    words: Vec<String>,
}

pub(super) fn main(args: TopArgs, context: &Context) -> Result<u8> {
    let (container, columns) = args.words.split_first().expect("clap requires it");
    let top = context.engine()?.top(container, columns)?;
    let rows: Vec<Vec<String>> = std::iter::once(top.titles).chain(top.rows).collect();
    let mut out = Out::new();
    out.text(align(&rows))?;
    out.finish()?;
    Ok(0)
}
