//! What cargo knows of the workspace, as far as the checks ask.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// The platform whose dependencies count.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// `cargo metadata --format-version 1`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    pub(crate) workspace_root: PathBuf,
    pub(crate) resolve: Option<Resolve>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) manifest_path: String,
    #[serde(default)]
    pub(crate) dependencies: Vec<Dependency>,
    #[serde(default)]
    pub(crate) targets: Vec<Target>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// None for a normal one; `dev`, `build`.
    pub(crate) kind: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
    pub(crate) src_path: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) dependencies: Vec<String>,
}

impl Metadata {
    /// Asks cargo: without the network, if what is needed is there.
    pub(crate) fn read() -> Result<Metadata, String> {
        Metadata::ask(&["--offline"]).or_else(|_| Metadata::ask(&[]))
    }

    #[expect(clippy::disallowed_methods, reason = "cargo says where it is; nobody else can describe the workspace")]
    fn ask(more: &[&str]) -> Result<Metadata, String> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut command = Command::new(cargo);
        command.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", PLATFORM]).args(more);
        let out = command.output().map_err(|e| format!("start cargo: {e}"))?;
        if !out.status.success() {
            return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&out.stderr).trim()));
        }
        serde_json::from_slice(&out.stdout).map_err(|e| format!("read cargo metadata: {e}"))
    }

    /// The packages of this workspace.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|p| self.workspace_members.contains(&p.id))
    }

    /// A path of cargo's relative to the top.
    pub(crate) fn relative(&self, path: &str) -> String {
        let top = format!("{}/", self.workspace_root.display());
        path.strip_prefix(&top).unwrap_or(path).to_owned()
    }

    /// For each package, the names of those that depend on it.
    pub(crate) fn dependents(&self) -> BTreeMap<&str, Vec<&str>> {
        let name = |id: &str| self.packages.iter().find(|p| p.id == id).map(|p| p.name.as_str());
        let mut out: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for node in self.resolve.iter().flat_map(|r| &r.nodes) {
            for dependency in &node.dependencies {
                out.entry(dependency).or_default().extend(name(&node.id));
            }
        }
        out
    }
}
