//! Tables, `--format` and `--quiet` of everything that lists.

use crate::errors::one_line;
use crate::out::Out;
use crate::template::Template;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tare_model::Result;

/// A listing: its columns and how it looks where nothing else is asked for.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Names for templates, and headings.
    pub(crate) columns: &'static [(&'static str, &'static str)],
    /// The columns of the default table.
    pub(crate) shown: &'static [&'static str],
    /// The column that `--quiet` prints.
    pub(crate) key: &'static str,
}

/// One row: a value for each column, in the listing's order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) fields: Map<String, Value>,
    /// For `.Label "NAME"`.
    pub(crate) labels: BTreeMap<String, String>,
}

impl Row {
    /// Adds a field.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Row {
        self.fields.insert(name.to_owned(), value.into());
        self
    }
}

/// How a listing shall look.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Look<'a> {
    /// Columns under headings.
    Table,
    /// Only the key of each row.
    Quiet,
    /// `--format`.
    Format(&'a str),
}

impl<'a> Look<'a> {
    /// From the flags.
    pub(crate) fn of(format: Option<&'a str>, quiet: bool) -> Look<'a> {
        match format {
            None | Some("" | "table") => {
                if quiet {
                    Look::Quiet
                } else {
                    Look::Table
                }
            }
            Some(format) => Look::Format(format),
        }
    }
}

impl Listing {
    /// Prints rows.
    pub(crate) fn print(&self, out: &mut Out, rows: &[Row], look: Look<'_>) -> Result<()> {
        match look {
            Look::Quiet => {
                for row in rows {
                    out.line(row.fields.get(self.key).and_then(Value::as_str).unwrap_or_default())?;
                }
            }
            Look::Table => {
                let line = |get: &dyn Fn(&str) -> String| self.shown.iter().map(|c| get(c)).collect::<Vec<_>>();
                let head = line(&|name| self.heading(name).to_owned());
                let body = rows.iter().map(|row| line(&|name| cell(row.fields.get(name))));
                out.text(align(&std::iter::once(head).chain(body).collect::<Vec<_>>()))?;
            }
            Look::Format("json" | "{{json .}}" | "{{ json . }}") => {
                for row in rows {
                    out.line(Value::Object(row.fields.clone()))?;
                }
            }
            Look::Format(format) => self.formatted(out, rows, format)?,
        }
        out.finish()
    }

    fn heading(&self, name: &str) -> &'static str {
        self.columns.iter().find(|(n, _)| *n == name).map_or("", |(_, h)| h)
    }

    fn formatted(&self, out: &mut Out, rows: &[Row], format: &str) -> Result<()> {
        let (table, format) = match format.strip_prefix("table ") {
            Some(format) => (true, format.trim()),
            None => (false, format),
        };
        let template = Template::parse(format)?;
        let mut lines = Vec::new();
        if table {
            let headings: Map<String, Value> =
                self.columns.iter().map(|(n, h)| ((*n).to_owned(), Value::String((*h).to_owned()))).collect();
            // The heading of `.Label "NAME"` is the name.
            lines.push(template.render_row(&Value::Object(headings), &str::to_owned)?);
        }
        for row in rows {
            let label = |name: &str| row.labels.get(name).cloned().unwrap_or_default();
            lines.push(template.render_row(&Value::Object(row.fields.clone()), &label)?);
        }
        if table {
            let cells: Vec<Vec<String>> = lines.iter().map(|l| l.split('\t').map(str::to_owned).collect()).collect();
            return out.text(align(&cells));
        }
        lines.iter().try_for_each(|line| out.line(line))
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        // What an image says of itself does not speak to the terminal.
        Some(Value::String(s)) => one_line(s),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// Go's tabwriter as docker sets it: columns at least 10 wide, three spaces between them.
pub(crate) fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let widest = rows.iter().filter(|r| r.len() > column + 1).map(|r| r[column].chars().count()).max().unwrap_or(0);
        (widest + 3).max(10)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            if i + 1 < row.len() {
                line.push_str(&format!("{cell:<width$}", width = widths[i]));
            } else {
                line.push_str(cell);
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A text cut to a length, with an ellipsis.
pub(crate) fn shorten(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["ID".into(), "NAME".into()], vec!["0123456789".into(), "x".into()]];
        assert_eq!(align(&rows), "ID           NAME\n0123456789   x\n");
        assert_eq!(align(&[vec!["A".into(), "B".into()]]), "A         B\n");
    }

    #[test]
    fn text_is_shortened() {
        assert_eq!(shorten("abcdef", 4), "abc…");
        assert_eq!(shorten("abc", 4), "abc");
    }
}
