use crate::context::Context;
use crate::out;
use crate::state::Container;
use clap::Args;
use tare_model::{Error, Kind, Result};

/// List the processes of a container
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: String,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Options for ps(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    pub(crate) options: Vec<String>,
}

pub(super) fn main(args: PsArgs, context: &Context) -> Result<u8> {
    let container = Container::load(context, &args.id)?;
    let pids = match container.group() {
        Ok(group) => group.processes()?,
        // Without a group of its own, or after its end, its first process is all that is known of it.
        Err(e) if e.kind() == Kind::NotFound => container.process().map(|_| container.state.pid).into_iter().collect(),
        Err(e) => return Err(e),
    };
    match args.format.as_str() {
        "json" if pids.is_empty() => out::line("null")?,
        "json" => out::line(serde_json::Value::from(pids))?,
        "table" => table(&args.options, &pids)?,
        other => {
            return Err(Error::new(Kind::Invalid, "list processes", format!("--format {other}"))
                .because("invalid format option")
                .hint("table or json"));
        }
    }
    Ok(0)
}

/// The lines of ps(1) about these processes, below its heading.
fn table(options: &[String], pids: &[i32]) -> Result<()> {
    let fail = |why: String| Error::new(Kind::System, "list processes", "").because(why);
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { &default } else { options };
    #[expect(clippy::disallowed_methods, reason = "runc's `ps` passes its options on to ps(1), whose columns are many")]
    let output =
        std::process::Command::new("ps").args(options).stdin(std::process::Stdio::null()).output().map_err(|e| {
            Error::io("run", "ps", e).hint("install ps(1), in Debian's package procps; `--format json` does without it")
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let words = format!("{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
        return Err(fail(words.trim_end().to_owned()));
    }
    let mut lines = text.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading
        .split_whitespace()
        .position(|word| word == "PID")
        .ok_or_else(|| fail("ps(1) prints no column PID".to_owned()).hint("let the options ask for it: -o pid,…"))?;
    let of_container = |line: &&str| {
        line.split_whitespace().nth(column).and_then(|w| w.parse().ok()).is_some_and(|pid: i32| pids.contains(&pid))
    };
    out::line(heading)?;
    lines.filter(of_container).try_for_each(out::line)
}
