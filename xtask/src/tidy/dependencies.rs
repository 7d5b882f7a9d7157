//! Dependencies: their licences, one version of each, and a reason for each in docs/dependencies.md.

use super::licences;
use super::markdown;
use crate::metadata::Metadata;
use crate::tree::{Finding, Tree};
use std::collections::BTreeMap;

const LIST: &str = "docs/dependencies.md";

/// Crates that come in two versions, and why that cannot be helped.
const DUPLICATES: &[(&str, &str)] =
    &[("getrandom", "ring, which needs 0.2, and tempfile, which needs 0.4; the latter in tests only")];

pub(super) fn check(metadata: &Metadata, tree: &Tree) -> Vec<Finding> {
    let mut findings = check_licences(metadata);
    findings.extend(check_versions(metadata));
    let direct = direct(metadata);
    let text = tree.file(LIST).map(|f| f.text.as_str()).unwrap_or_default();
    findings.extend(check_list(&direct, text));
    findings
}

fn check_licences(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let what = match &package.license {
            Some(licence) if licences::accepted(licence) => continue,
            Some(licence) => format!("{} {}: licence {licence} is not accepted", package.name, package.version),
            None => format!("{} {}: no licence is named", package.name, package.version),
        };
        findings.push(Finding::new("Cargo.lock", 0, what));
    }
    findings
}

fn check_versions(metadata: &Metadata) -> Vec<Finding> {
    let dependents = metadata.dependents();
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for package in &metadata.packages {
        let users = dependents.get(package.id.as_str()).map(|d| d.join(", ")).unwrap_or_default();
        versions.entry(&package.name).or_default().push(format!("{} (for {users})", package.version));
    }
    let mut findings = Vec::new();
    for (name, versions) in &versions {
        let excused = DUPLICATES.iter().any(|(n, _)| n == name);
        if versions.len() > 1 && !excused {
            findings.push(Finding::new(
                "Cargo.lock",
                0,
                format!("{name} comes in versions {}", versions.join(" and ")),
            ));
        }
    }
    for (name, _) in DUPLICATES {
        if versions.get(name).is_none_or(|v| v.len() < 2) {
            let what = format!("{name} has one version now and needs no exception any more");
            findings.push(Finding::new("xtask/src/tidy/dependencies.rs", 0, what));
        }
    }
    findings
}

/// Crates from elsewhere that a crate of ours names, with the manifest of one that does.
fn direct(metadata: &Metadata) -> BTreeMap<String, String> {
    let ours: Vec<&str> = metadata.members().map(|p| p.name.as_str()).collect();
    let mut out = BTreeMap::new();
    for package in metadata.members() {
        for dependency in package.dependencies.iter().filter(|d| !ours.contains(&d.name.as_str())) {
            out.entry(dependency.name.clone()).or_insert_with(|| metadata.relative(&package.manifest_path));
        }
    }
    out
}

fn check_list(direct: &BTreeMap<String, String>, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut listed = Vec::new();
    for row in markdown::rows(text).iter().filter(|r| r.header.first().is_some_and(|h| h == "crate")) {
        let Some(cell) = row.cells.first() else { continue };
        let name = cell.split_whitespace().next().unwrap_or_default().trim_matches('`').to_owned();
        let direct_or_explained = direct.contains_key(&name) || cell.contains("(through ");
        if !direct_or_explained {
            findings.push(Finding::new(LIST, row.line, format!("{name} is no dependency any more")));
        }
        if row.cells.iter().any(String::is_empty) {
            findings.push(Finding::new(LIST, row.line, format!("the row of {name} has an empty cell")));
        }
        listed.push(name);
    }
    for (name, manifest) in direct {
        if !listed.contains(name) {
            findings.push(Finding::new(manifest, 0, format!("{name} has no row in {LIST}")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Package;
    use std::path::PathBuf;

    fn metadata(packages: &[(&str, &str, &str)]) -> Metadata {
        let package = |(name, version, licence): &(&str, &str, &str)| Package {
            id: format!("{name}@{version}"),
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            license: Some((*licence).to_owned()),
            manifest_path: String::new(),
            dependencies: Vec::new(),
            targets: Vec::new(),
        };
        Metadata {
            packages: packages.iter().map(package).collect(),
            workspace_members: Vec::new(),
            workspace_root: PathBuf::new(),
            resolve: None,
        }
    }

    fn texts(findings: Vec<Finding>) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn licences_and_versions_are_checked() {
        let m = metadata(&[("a", "1.0.0", "GPL-3.0"), ("b", "1.0.0", "MIT"), ("b", "2.0.0", "MIT")]);
        assert_eq!(texts(check_licences(&m)), ["Cargo.lock:1: a 1.0.0: licence GPL-3.0 is not accepted"]);
        assert_eq!(texts(check_versions(&m))[0], "Cargo.lock:1: b comes in versions 1.0.0 (for ) and 2.0.0 (for )");
    }

    #[test]
    fn every_dependency_has_a_reason() {
        let direct = BTreeMap::from([("serde".to_owned(), "Cargo.toml".to_owned())]);
        let list = "| crate | reason |\n|---|---|\n| old | x |\n| ring (through rustls) | y |\n";
        assert_eq!(
            texts(check_list(&direct, list)),
            [
                "docs/dependencies.md:3: old is no dependency any more",
                "Cargo.toml:1: serde has no row in docs/dependencies.md"
            ]
        );
        let list = "| crate | reason |\n|---|---|\n| serde | |\n";
        assert_eq!(texts(check_list(&direct, list)), ["docs/dependencies.md:3: the row of serde has an empty cell"]);
    }
}
