//! Rules about single source files.

use crate::rust::lex;
use crate::tree::{File, Finding, Tree};

/// Where unsafe code may stand: docs/adr/0005-unsafe-in-one-crate.md.
const UNSAFE: &str = "crates/foundation/kernel/";

const LONGEST: usize = 800;
/// Files that may be longer, and why.
const LONG: &[(&str, &str)] =
    &[("crates/foundation/model/src/runtime_spec.rs", "a table: the OCI specification's fields, one a line")];

/// Lines of documentation at the top of a library, at least.
const LIBRARY_TEXT: usize = 3;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<Finding> = tree.rust().flat_map(check_file).collect();
    for (path, _) in LONG {
        if tree.file(path).is_none_or(|f| f.lines().count() <= LONGEST) {
            findings.push(Finding::new("xtask/src/tidy/sources.rs", 0, format!("{path} needs no exception any more")));
        }
    }
    findings
}

fn check_file(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !file.path.starts_with(UNSAFE) {
        for token in lex(&file.text) {
            if matches!(token.word(), Some("unsafe" | "unsafe_code")) {
                findings.push(Finding::new(&file.path, token.line, format!("unsafe code belongs into {UNSAFE}")));
            }
        }
    }
    let lines = file.lines().count();
    if lines > LONGEST && !LONG.iter().any(|(path, _)| *path == file.path) {
        let what = format!("{lines} lines, and {LONGEST} are the most: ask which two questions it answers, and split");
        findings.push(Finding::new(&file.path, LONGEST + 1, what));
    }
    let documented = file.text.lines().take_while(|l| l.starts_with("//!")).filter(|l| l.len() > 4).count();
    if file.path.ends_with("/src/lib.rs") && documented < LIBRARY_TEXT {
        let what = "the crate does not say what it owns, what it refuses and what always holds (`//!`)";
        findings.push(Finding::new(&file.path, 0, what));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        check_file(&file).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unsafe_code_has_one_home() {
        let text = "//! A.\n// unsafe\nfn f() { unsafe { g() } }";
        assert_eq!(found("crates/foundation/kernel/src/a.rs", text), Vec::<String>::new());
        let elsewhere = found("crates/engine/src/a.rs", text);
        assert_eq!(elsewhere, ["crates/engine/src/a.rs:3: unsafe code belongs into crates/foundation/kernel/"]);
    }

    #[test]
    fn long_files_are_split() {
        let text = format!("//! A.\n{}", "\n".repeat(LONGEST));
        assert!(found("crates/x/src/a.rs", &text)[0].contains("801 lines"));
    }

    #[test]
    fn a_library_opens_with_a_paragraph() {
        assert!(found("crates/x/src/lib.rs", "//! Short.\nmod a;")[0].contains("what it owns"));
        assert_eq!(found("crates/x/src/lib.rs", "//! One.\n//!\n//! Two.\n//! Three.\n"), Vec::<String>::new());
    }
}
