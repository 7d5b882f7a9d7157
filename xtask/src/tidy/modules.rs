//! No cycles between the modules of a crate.
//!
//! Siblings are compared: an arrow from `a::b` to `a::c::d` counts as one from `b` to `c` below `a`, one from `a::b` to
//! `e` as one from `a` to `e` at the top. A module and what is inside of it may know each other.

use crate::metadata::{Metadata, Target};
use crate::rust::{Module, Use};
use crate::tree::{Finding, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// Arrows that are left out: crate, from, to, why.
const EXCEPTIONS: &[(&str, &str, &str, &str)] =
    &[("tare-cli", "verb", "root", "`completion` describes the command tree, of which it is a part itself")];

pub(super) fn check(metadata: &Metadata, tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata.members() {
        for target in package.targets.iter().filter(|t| is_code(t)) {
            let modules = Module::all(tree, &metadata.relative(&target.src_path));
            findings.extend(cycles(&package.name, &Module::uses(&modules)));
        }
    }
    findings
}

fn is_code(target: &Target) -> bool {
    target.kind.iter().any(|k| ["lib", "bin", "proc-macro"].contains(&k.as_str()))
}

/// Arrows between siblings: from, to, and a place where it is drawn.
type Arrows<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a Use>>;

fn cycles(name: &str, uses: &[Use]) -> Vec<Finding> {
    let mut groups: BTreeMap<&[String], Arrows<'_>> = BTreeMap::new();
    for u in uses {
        let common = u.from.iter().zip(&u.to).take_while(|(a, b)| a == b).count();
        let (Some(from), Some(to)) = (u.from.get(common), u.to.get(common)) else { continue };
        if EXCEPTIONS.iter().any(|(n, f, t, _)| *n == name && f == from && t == to) {
            continue;
        }
        groups.entry(&u.from[..common]).or_default().entry(from).or_default().entry(to).or_insert(u);
    }
    groups.values().flat_map(|arrows| cycles_among(name, arrows)).collect()
}

fn cycles_among(name: &str, arrows: &Arrows<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (from, targets) in arrows {
        for (to, place) in targets {
            if let Some(path) = way(arrows, to, from) {
                let what = format!("modules of {name} in a cycle: {from} -> {}", path.join(" -> "));
                findings.push(Finding::new(&place.file, place.line, what));
            }
        }
    }
    findings
}

/// The shortest way from one module to another.
fn way<'a>(arrows: &Arrows<'a>, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::from([from]);
    let mut ways = vec![vec![from]];
    while !ways.is_empty() {
        let mut next = Vec::new();
        for way in ways {
            let last = *way.last()?;
            if last == to {
                return Some(way);
            }
            for target in arrows.get(last).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(target) {
                    next.push([&way[..], &[target]].concat());
                }
            }
        }
        ways = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let modules = Module::all(&Tree::of(files), "src/lib.rs");
        cycles("x", &Module::uses(&modules)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_cycle_is_shown_at_each_of_its_arrows() {
        let files = [
            ("src/lib.rs", "mod a;\nmod b;\nmod c;"),
            ("src/a.rs", "use crate::b::g;"),
            ("src/b.rs", "\nuse crate::c::h;"),
            ("src/c.rs", "fn f() { crate::a::f() }"),
        ];
        assert_eq!(
            found(&files),
            [
                "src/a.rs:1: modules of x in a cycle: a -> b -> c -> a",
                "src/b.rs:2: modules of x in a cycle: b -> c -> a -> b",
                "src/c.rs:1: modules of x in a cycle: c -> a -> b -> c",
            ]
        );
    }

    #[test]
    fn parents_and_children_may_know_each_other() {
        let files = [
            ("src/lib.rs", "mod a;\nmod b;"),
            ("src/a/mod.rs", "mod inner;\nuse inner::f;\nuse crate::b::g;"),
            ("src/a/inner.rs", "use super::h;"),
            ("src/b.rs", ""),
        ];
        assert_eq!(found(&files), Vec::<String>::new());
    }
}
