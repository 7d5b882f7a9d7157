//! docs/features.md: what is said to work is shown by a test that exists and runs.
//!
//! A test is named as `cargo nextest list --message-format oneline` prints it: the binary's id and the test's path, with
//! a space between them, as in `tare-tests::e2e limits::memory` or `tare-format tar::tests::truncated`. What runs in the virtual
//! machine is named by its script: `tests/vm/cases/limits.sh`. Other documents may name tests in the same way.

use super::markdown::{self, Row};
use crate::metadata::{Metadata, Target};
use crate::rust::Module;
use crate::tree::{Finding, Tree};
use std::collections::BTreeMap;

const FEATURES: &str = "docs/features.md";
const STATES: [&str; 3] = ["works", "not yet", "will not"];
/// Documents in which everything that looks like a test is one.
const PROMISES: [&str; 3] = [FEATURES, "SPECIFICATION.md", "SECURITY.md"];

/// The tests of the workspace: id, and whether it is ignored.
#[derive(Debug, Clone, Default)]
pub(super) struct Tests(BTreeMap<String, bool>);

impl Tests {
    /// Reads them from the sources of all targets.
    pub(super) fn of_source(metadata: &Metadata, tree: &Tree) -> Tests {
        let mut tests = BTreeMap::new();
        for package in metadata.members() {
            for target in &package.targets {
                let Some(binary) = binary_id(&package.name, target) else { continue };
                for test in Module::all(tree, &metadata.relative(&target.src_path)).iter().flat_map(|m| &m.tests) {
                    tests.insert(format!("{binary} {}", test.path.join("::")), test.ignored);
                }
            }
        }
        Tests(tests)
    }

    /// Adds those of nextest's list, in either of its forms for people.
    pub(super) fn add_list(&mut self, text: &str) {
        let mut binary = "";
        for line in text.lines() {
            match line.strip_prefix("    ") {
                Some(name) if !name.starts_with(' ') => {
                    self.0.entry(format!("{binary} {name}")).or_insert(false);
                }
                None if line.ends_with(':') => binary = line.trim_end_matches(':'),
                None if line.split(' ').count() == 2 => {
                    self.0.entry(line.to_owned()).or_insert(false);
                }
                _ => {}
            }
        }
    }

    /// What is wrong with a test's name, if something is.
    fn problem(&self, id: &str) -> Option<String> {
        match self.0.get(id) {
            Some(false) => None,
            Some(true) => Some(format!("test `{id}` is ignored")),
            None => Some(format!("test `{id}` does not exist")),
        }
    }
}

/// As nextest names a target's binary.
fn binary_id(package: &str, target: &Target) -> Option<String> {
    match target.kind.first()?.as_str() {
        "lib" | "proc-macro" => Some(package.to_owned()),
        "test" => Some(format!("{package}::{}", target.name)),
        kind @ ("bin" | "example" | "bench") => Some(format!("{package}::{kind}/{}", target.name)),
        _ => None,
    }
}

pub(super) fn check(tree: &Tree, tests: &Tests) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in PROMISES {
        let Some(file) = tree.file(path) else {
            findings.push(Finding::new(path, 0, "the document is missing"));
            continue;
        };
        for (number, line) in file.lines() {
            let named = markdown::code(line).filter(|c| is_test(c));
            findings.extend(named.filter_map(|id| problem(tree, tests, id)).map(|w| Finding::new(path, number, w)));
        }
        if path == FEATURES {
            findings.extend(markdown::rows(&file.text).iter().filter_map(check_row));
        }
    }
    findings
}

/// Whether something in backquotes names a test.
fn is_test(code: &str) -> bool {
    let two_words = code.split_once(' ').is_some_and(|(binary, name)| {
        let is_binary = binary == "xtask::bin/xtask" || binary.starts_with("tare-") || binary.starts_with("tare::");
        is_binary && name.contains("::") && !name.contains(' ')
    });
    two_words || (code.starts_with("tests/vm/") && code.ends_with(".sh"))
}

fn problem(tree: &Tree, tests: &Tests, id: &str) -> Option<String> {
    if id.starts_with("tests/vm/") {
        return tree.file(id).is_none().then(|| format!("script `{id}` does not exist"));
    }
    tests.problem(id)
}

fn check_row(row: &Row) -> Option<Finding> {
    let state = row.cell("state")?;
    let proof = row.cell("test or reason").unwrap_or_default();
    let what = if !STATES.contains(&state) {
        format!("state {state:?} is none of {}", STATES.join(", "))
    } else if state == "works" && !markdown::code(proof).any(is_test) {
        "works, and no test is named".to_owned()
    } else if state == "will not" && proof.is_empty() {
        "will not, and no reason is given".to_owned()
    } else {
        return None;
    };
    Some(Finding::new(FEATURES, row.line, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "| feature | state | test or reason |\n|---|---|---|\n";

    fn found(row: &str) -> Vec<String> {
        let files = [
            (FEATURES, &*format!("{HEAD}{row}\n")),
            ("SPECIFICATION.md", ""),
            ("SECURITY.md", ""),
            ("tests/vm/cases/v2.sh", ""),
        ];
        let mut tests = Tests::default();
        tests.add_list("tare-tests::e2e:\n    run::a\ntare-store tests::b\n");
        tests.0.insert("tare-store tests::ignored".to_owned(), true);
        check(&Tree::of(&files), &tests).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_works_has_a_test() {
        for good in [
            "| a | works | `tare-tests::e2e run::a` |",
            "| a | works | `tare-store tests::b`, `tests/vm/cases/v2.sh` |",
            "| a | not yet | |",
            "| a | will not | needs Windows |",
        ] {
            assert_eq!(found(good), Vec::<String>::new(), "{good}");
        }
        for (bad, what) in [
            ("| a | works | |", "works, and no test is named"),
            ("| a | works | `tare-tests::e2e run::z` |", "test `tare-tests::e2e run::z` does not exist"),
            ("| a | works | `tare-store tests::ignored` |", "test `tare-store tests::ignored` is ignored"),
            ("| a | works | `tests/vm/cases/v1.sh` |", "script `tests/vm/cases/v1.sh` does not exist"),
            ("| a | will not | |", "will not, and no reason is given"),
            ("| a | perhaps | |", "state \"perhaps\" is none of works, not yet, will not"),
        ] {
            assert_eq!(found(bad), [format!("docs/features.md:3: {what}")], "{bad}");
        }
    }

    #[test]
    fn binaries_are_named_as_nextest_does() {
        let target =
            |kind: &str| Target { name: "e2e".to_owned(), kind: vec![kind.to_owned()], src_path: String::new() };
        assert_eq!(binary_id("p", &target("lib")).unwrap(), "p");
        assert_eq!(binary_id("p", &target("test")).unwrap(), "p::e2e");
        assert_eq!(binary_id("p", &target("bin")).unwrap(), "p::bin/e2e");
        assert_eq!(binary_id("p", &target("custom-build")), None);
    }
}
