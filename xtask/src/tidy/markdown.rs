//! As much of Markdown as the checks need: tables, links, headings; nothing inside of code.

/// A row of a table, below its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) line: usize,
    pub(super) header: Vec<String>,
    pub(super) cells: Vec<String>,
}

impl Row {
    /// The cell in the column of that name.
    pub(super) fn cell(&self, column: &str) -> Option<&str> {
        let at = self.header.iter().position(|h| h == column)?;
        self.cells.get(at).map(String::as_str)
    }
}

/// Lines outside of fenced code, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut out = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            out.push((i + 1, line));
        }
    }
    out
}

/// The rows of all tables.
pub(super) fn rows(text: &str) -> Vec<Row> {
    let lines = prose(text);
    let mut out = Vec::new();
    let mut header: Option<Vec<String>> = None;
    for (i, (line, content)) in lines.iter().enumerate() {
        if !content.starts_with('|') {
            header = None;
            continue;
        }
        let rule = |text: &str| text.starts_with('|') && text.chars().all(|c| "|-: ".contains(c));
        match &header {
            None if lines.get(i + 1).is_some_and(|(_, next)| rule(next)) => header = Some(cells(content)),
            Some(names) if !rule(content) => {
                out.push(Row { line: *line, header: names.clone(), cells: cells(content) });
            }
            _ => {}
        }
    }
    out
}

fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|');
    let line = line.strip_suffix('|').unwrap_or(line);
    line.replace("\\|", "\u{1}").split('|').map(|c| c.trim().replace('\u{1}', "|")).collect()
}

/// What stands in backquotes on a line.
pub(super) fn code(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Targets of links, `[text](target)`, with their lines.
pub(super) fn links(text: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    for (line, content) in prose(text) {
        let plain: String = content.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for rest in plain.split("](").skip(1) {
            if let Some((target, _)) = rest.split_once(')') {
                out.push((line, target.trim().to_owned()));
            }
        }
    }
    out
}

/// The names by which headings can be linked to, as the usual renderers make them.
pub(super) fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).into_iter().filter(|(_, l)| l.starts_with('#'));
    headings.map(|(_, l)| slug(l.trim_start_matches('#').trim())).collect()
}

fn slug(heading: &str) -> String {
    let keep = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    heading.chars().filter_map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A *title*, first\n\n| a | state |\n|---|:--|\n| x \\| y | works |\n\n```\n| no | table |\n\
                        |---|---|\n| n | n |\n[no](link)\n```\nSee [b](b.md#c) and `[not](this)`.\n";

    #[test]
    fn tables_are_read() {
        let rows = rows(TEXT);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].line, rows[0].cell("state"), rows[0].cell("a")), (5, Some("works"), Some("x | y")));
        assert_eq!(rows[0].cell("none"), None);
    }

    #[test]
    fn links_and_headings_are_found_outside_of_code() {
        assert_eq!(links(TEXT), [(13, "b.md#c".to_owned())]);
        assert_eq!(anchors(TEXT), ["a-title-first"]);
        assert_eq!(code("a `b` c `d`").collect::<Vec<_>>(), ["b", "d"]);
    }
}
