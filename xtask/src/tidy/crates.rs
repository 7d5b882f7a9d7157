//! Arrows between crates go down only: docs/adr/0001-layers.md.

use crate::metadata::{Metadata, Package};
use crate::tree::Finding;

/// For each crate, the crates of this workspace that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    // foundation
    ("tare-kernel", &[]),
    ("tare-model", &[]),
    // mechanisms: they do not know each other, with two exceptions
    ("tare-format", &["tare-model"]),
    ("tare-runtime", &["tare-kernel", "tare-model"]),
    ("tare-network", &["tare-kernel", "tare-model"]),
    ("tare-store", &["tare-format", "tare-kernel", "tare-model"]),
    ("tare-registry", &["tare-model", "tare-store"]),
    // the engine pulls nothing: it does not know the registry
    ("tare-engine", &["tare-format", "tare-kernel", "tare-model", "tare-network", "tare-runtime", "tare-store"]),
    // fronts: the command line pulls and pushes, and so brings registry and store together
    ("tare-cli", &["tare-engine", "tare-kernel", "tare-model", "tare-registry", "tare-store"]),
    // the OCI runtime: the runtime stands by itself, without engine and store
    ("tare-oci", &["tare-kernel", "tare-model", "tare-runtime"]),
    ("tare", &["tare-cli", "tare-engine", "tare-kernel", "tare-model", "tare-oci"]),
    // outside of the product
    ("tare-tests", &["tare-kernel", "tare-model", "tare-network"]),
    ("xtask", &[]),
];

/// Heavy dependencies, and the crates that carry each: so that nothing else has to be built with it.
const OWNED: &[(&str, &[&str])] = &[
    ("clap", &["tare-cli", "tare-oci"]),
    ("clap_complete", &["tare-cli"]),
    ("hyper", &["tare-registry"]),
    ("hyper-util", &["tare-registry"]),
    ("rusqlite", &["tare-store"]),
    ("tokio", &["tare-registry"]),
    ("tokio-rustls", &["tare-registry"]),
];

pub(super) fn check(metadata: &Metadata) -> Vec<Finding> {
    metadata.members().flat_map(|package| check_package(&metadata.relative(&package.manifest_path), package)).collect()
}

fn check_package(manifest: &str, package: &Package) -> Vec<Finding> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
        let what = format!("{} has no place in the table of xtask/src/tidy/crates.rs", package.name);
        return vec![Finding::new(manifest, 0, what)];
    };
    let mut findings = Vec::new();
    for dependency in &package.dependencies {
        let name = dependency.name.as_str();
        let is_ours = ARROWS.iter().any(|(n, _)| *n == name);
        if is_ours && !allowed.contains(&name) {
            let what = format!("{} must not depend on {name}: arrows go down only", package.name);
            findings.push(Finding::new(manifest, 0, what));
        }
        let owner = OWNED.iter().find(|(n, owners)| *n == name && !owners.contains(&package.name.as_str()));
        if let (Some((_, owners)), None) = (owner, &dependency.kind) {
            let what = format!("only {} may depend on {name}", owners.join(" and "));
            findings.push(Finding::new(manifest, 0, what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    fn findings(name: &str, dependencies: &[&str]) -> Vec<String> {
        let dependency = |n: &&str| Dependency { name: (*n).to_owned(), kind: None };
        let package = Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: String::new(),
            license: None,
            manifest_path: String::new(),
            dependencies: dependencies.iter().map(dependency).collect(),
            targets: Vec::new(),
        };
        check_package("Cargo.toml", &package).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn arrows_go_down() {
        assert_eq!(findings("tare-store", &["tare-format", "rusqlite", "serde"]), Vec::<String>::new());
        let up = findings("tare-runtime", &["tare-store"]);
        assert_eq!(up, ["Cargo.toml:1: tare-runtime must not depend on tare-store: arrows go down only"]);
        assert_eq!(findings("tare-engine", &["tokio"]), ["Cargo.toml:1: only tare-registry may depend on tokio"]);
        assert!(findings("tare-extra", &[])[0].contains("no place in the table"));
    }

    #[test]
    fn the_table_itself_has_no_upward_arrow() {
        for (i, (name, allowed)) in ARROWS.iter().enumerate() {
            for below in *allowed {
                let at = ARROWS.iter().position(|(n, _)| n == below);
                assert!(at.is_some_and(|at| at < i), "{name} -> {below}");
            }
        }
    }
}
