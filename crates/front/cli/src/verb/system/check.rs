use crate::context::Context;
use crate::errors::code;
use crate::out::{self, Out};
use crate::template::Template;
use crate::verb::Build;
use clap::Args;
use serde_json::{Value, json};
use tare_model::Result;
use tare_store::Finding;

pub(in crate::verb) const ARGS: Build = <CheckArgs as Args>::augment_args;

/// Look for whatever is not as it should be
///
/// The database, rows against files in both directions, descriptions of containers, permissions, what processes that were killed have
/// left. One line for each finding: what, what is wrong, what mends it. The exit code is 1 if something is lost, at least here.
/// Content is not read: `tare image verify --all` does that.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare system check
  tare system check --repair
  tare system check --format json")]
pub(crate) struct CheckArgs {
    /// Put right what can be put right without losing anything; a lost or damaged state.db is made anew
    #[arg(long)]
    repair: bool,
    /// json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

pub(in crate::verb) fn main(args: CheckArgs, context: &Context) -> Result<u8> {
    let engine = context.engine()?;
    let done = if args.repair { engine.repair()? } else { Vec::new() };
    let findings = engine.check()?;
    match args.format.as_deref() {
        None | Some("") => plain(&done, &findings)?,
        Some("json") => out::print(document(&done, &findings))?,
        Some(format) => out::print(Template::parse(format)?.render(&document(&done, &findings))?)?,
    }
    Ok(if findings.iter().any(Finding::is_loss) { code::FAILED } else { 0 })
}

fn plain(done: &[String], findings: &[Finding]) -> Result<()> {
    let mut out = Out::new();
    done.iter().try_for_each(|line| out.line(format_args!("repaired: {line}")))?;
    for f in findings {
        out.line(format_args!("{}: {}: {}", f.object, f.problem, f.mend))?;
    }
    if findings.is_empty() {
        out.line("everything is as it should be")?;
    }
    out.finish()
}

fn document(done: &[String], findings: &[Finding]) -> Value {
    let findings: Vec<Value> = findings
        .iter()
        .map(|f| {
            let class = match (f.collectable, f.repairable) {
                (true, _) => "unreferenced",
                (_, true) => "repairable",
                _ => "lost",
            };
            json!({ "Object": f.object, "Problem": f.problem, "Class": class, "Mend": f.mend })
        })
        .collect();
    json!({ "Repaired": done, "Findings": findings })
}
