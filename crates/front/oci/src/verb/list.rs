use crate::context::Context;
use crate::out;
use crate::state::{Container, check_id};
use clap::Args;
use std::fmt::Write;
use tare_model::{Context as _, Error, Kind, Result};

/// List the containers below the root directory
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: String,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

pub(super) fn main(args: ListArgs, context: &Context) -> Result<u8> {
    let json = match args.format.as_str() {
        "json" => true,
        "table" => false,
        other => {
            return Err(Error::new(Kind::Invalid, "list", "")
                .because(format!("invalid format option {other:?}: table and json are")));
        }
    };
    let documents = documents(context)?;
    let text = |document: &serde_json::Value, key: &str| match &document[key] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if args.quiet {
        return out::text(documents.iter().map(|d| text(d, "id") + "\n").collect::<String>()).map(|()| 0);
    }
    if json {
        return out::line(serde_json::Value::Array(documents)).map(|()| 0);
    }
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let mut rows = vec![header];
    rows.extend(documents.iter().map(|d| ["id", "pid", "status", "bundle", "created", "owner"].map(|k| text(d, k))));
    out::text(table(&rows)).map(|()| 0)
}

/// The state of each container, by id. One that is removed meanwhile, or is only being made, is none.
fn documents(context: &Context) -> Result<Vec<serde_json::Value>> {
    let entries = match std::fs::read_dir(&context.root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("list", context.root.display(), e)),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.during("list", context.root.display())?;
        ids.extend(entry.file_name().into_string().ok().filter(|id| check_id(id).is_ok()));
    }
    ids.sort();
    let mut documents = Vec::new();
    for id in ids {
        match Container::load(context, &id) {
            Ok(container) => documents.push(container.document(container.status()?)),
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::State) => {}
            Err(e) => context.log.warn(&e.to_string()),
        }
    }
    Ok(documents)
}

/// Columns of at least twelve characters, three apart, as callers that split them expect.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count() + 3).max().unwrap_or(0).max(12);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    for row in rows {
        for (i, cell) in row.iter().enumerate() {
            let width = if i + 1 == N { 0 } else { widths[i] };
            let _ = write!(out, "{cell:width$}");
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let text = table(&[row("ID", "PID"), row("a-longer-name", "7")]);
        assert_eq!(text, "ID              PID\na-longer-name   7\n");
        assert_eq!(table(&[row("ID", "PID")]), "ID          PID\n");
    }
}
