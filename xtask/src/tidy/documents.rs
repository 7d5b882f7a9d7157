//! Documents: decision records in order, and links that lead somewhere.

use super::markdown;
use crate::tree::{File, Finding, Tree, clean, directory};

const RECORDS: &str = "docs/adr/";
const INDEX: &str = "docs/adr/README.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = check_records(tree);
    for file in tree.markdown() {
        findings.extend(check_links(tree, file));
    }
    for file in &tree.files {
        findings.extend(check_mentions(tree, file));
    }
    findings
}

/// `docs/adr/0001-layers.md`: numbered without gaps, titled with the number, linked from the index.
fn check_records(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let index = tree.file(INDEX).map(|f| markdown::links(&f.text)).unwrap_or_default();
    let records = tree.markdown().filter(|f| f.path.starts_with(RECORDS) && f.path != INDEX);
    for (i, file) in records.enumerate() {
        let name = file.path.trim_start_matches(RECORDS);
        let number = i + 1;
        if !name.starts_with(&format!("{number:04}-")) {
            findings.push(Finding::new(&file.path, 0, format!("number {number:04} is missing before this, or taken")));
        }
        let own = name.split('-').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or_default();
        if !file.text.starts_with(&format!("# {own}. ")) {
            findings.push(Finding::new(&file.path, 1, format!("the title does not begin with \"# {own}. \"")));
        }
        if !index.iter().any(|(_, target)| target == name) {
            findings.push(Finding::new(INDEX, 0, format!("{name} is not linked")));
        }
    }
    findings
}

fn check_links(tree: &Tree, file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, target) in markdown::links(&file.text) {
        if target.contains(':') {
            continue;
        }
        let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let found = match path {
            "" => Some(file.path.clone()),
            path => clean(&format!("{}{path}", directory(&file.path))).filter(|p| tree.has(p)),
        };
        let Some(found) = found else {
            findings.push(Finding::new(&file.path, line, format!("the link to {target} leads nowhere")));
            continue;
        };
        let linked = tree.file(&found).filter(|f| f.is_markdown() && !anchor.is_empty());
        if linked.is_some_and(|f| !markdown::anchors(&f.text).iter().any(|a| a == anchor)) {
            findings.push(Finding::new(&file.path, line, format!("{found} has no heading #{anchor}")));
        }
    }
    findings
}

/// `docs/….md` anywhere, in comments above all.
fn check_mentions(tree: &Tree, file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    // The checks' own tests name documents that do not exist; Markdown has links for this.
    if file.path.starts_with("xtask/") || file.is_markdown() {
        return findings;
    }
    for (line, text) in file.lines() {
        for (i, _) in text.match_indices("docs/") {
            let before = text[..i].chars().next_back();
            let path: String = text[i..].chars().take_while(|c| c.is_alphanumeric() || "/-_.".contains(*c)).collect();
            let whole = before.is_none_or(|c| !c.is_alphanumeric() && !"/-_.".contains(c));
            if whole && path.ends_with(".md") && !tree.has(&path) {
                findings.push(Finding::new(&file.path, line, format!("there is no {path}")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn records_are_numbered_and_linked() {
        let files =
            [(INDEX, "[one](0001-a.md)"), ("docs/adr/0001-a.md", "# 1. A\n"), ("docs/adr/0003-c.md", "# 2. C\n")];
        assert_eq!(
            found(&files),
            [
                "docs/adr/0003-c.md:1: number 0002 is missing before this, or taken",
                "docs/adr/0003-c.md:1: the title does not begin with \"# 3. \"",
                "docs/adr/README.md:1: 0003-c.md is not linked",
            ]
        );
    }

    #[test]
    fn links_lead_somewhere() {
        let files = [
            ("README.md", "# Top\n[a](docs/a.md#two) [b](docs/b.md)\n[c](#top) [d](#none) [e](docs) [f](mailto:x)"),
            ("docs/a.md", "## One\n[up](../README.md) [out](../../x.md)"),
            ("src/a.rs", "// see docs/a.md and docs/none.md, not other-docs/none.md"),
        ];
        assert_eq!(
            found(&files),
            [
                "README.md:2: docs/a.md has no heading #two",
                "README.md:2: the link to docs/b.md leads nowhere",
                "README.md:3: README.md has no heading #none",
                "docs/a.md:2: the link to ../../x.md leads nowhere",
                "src/a.rs:1: there is no docs/none.md",
            ]
        );
    }
}
