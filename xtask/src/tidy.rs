//! The checks, one file each. Each is a function from the tree, or a part of it, to findings.

mod crates;
mod dependencies;
mod documents;
mod features;
mod licences;
mod markdown;
mod modules;
mod sources;
mod words;

use crate::metadata::Metadata;
use crate::tree::{Finding, Tree};
use features::Tests;
use std::path::Path;

/// Runs all checks and prints what they find; how many findings there are. `list`: nextest's list of tests.
pub(crate) fn main(list: Option<&Path>) -> Result<usize, String> {
    let metadata = Metadata::read()?;
    let top = &metadata.workspace_root;
    let tree = Tree::read(top).map_err(|e| format!("read {}: {e}", top.display()))?;
    let mut tests = Tests::of_source(&metadata, &tree);
    if let Some(list) = list {
        let text = std::fs::read_to_string(list).map_err(|e| format!("read {}: {e}", list.display()))?;
        tests.add_list(&text);
    }
    let mut findings = crates::check(&metadata);
    findings.extend(modules::check(&metadata, &tree));
    findings.extend(sources::check(&tree));
    findings.extend(dependencies::check(&metadata, &tree));
    findings.extend(words::check(&tree, top));
    findings.extend(features::check(&tree, &tests));
    findings.extend(documents::check(&tree));
    Ok(report(findings))
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]
fn report(mut findings: Vec<Finding>) -> usize {
    findings.sort();
    findings.dedup();
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        eprintln!("tidy: {} findings", findings.len());
    }
    findings.len()
}
