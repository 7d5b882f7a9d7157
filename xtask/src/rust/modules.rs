//! One target of a crate: its modules, from the root file on.

use super::scan::{Reference, Test, scan};
use crate::tree::{Tree, clean, directory};
use std::collections::BTreeMap;

/// A module, inline ones included.
#[derive(Debug, Clone, Default)]
pub(crate) struct Module {
    /// Names from the root on; empty for the root.
    pub(crate) path: Vec<String>,
    /// The file that it stands in, relative to the top.
    pub(crate) file: String,
    pub(crate) test_only: bool,
    /// Names from the root on.
    pub(crate) tests: Vec<Test>,
    references: Vec<Reference>,
}

/// One module needs another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) from: Vec<String>,
    pub(crate) to: Vec<String>,
    pub(crate) file: String,
    pub(crate) line: usize,
}

impl Module {
    /// Reads the modules of a target, whose root file is `root`; files that are missing are left out.
    pub(crate) fn all(tree: &Tree, root: &str) -> Vec<Module> {
        let mut out = Vec::new();
        read(tree, root, Vec::new(), directory(root), false, &mut out);
        out
    }

    /// What the modules need of each other, outside of tests.
    pub(crate) fn uses(modules: &[Module]) -> Vec<Use> {
        let resolver = Resolver::new(modules);
        let mut out = Vec::new();
        for module in modules.iter().filter(|m| !m.test_only) {
            for r in module.references.iter().filter(|r| !r.test_only) {
                let from = [&module.path[..], &r.within[..]].concat();
                if let Some(to) = resolver.module_of(&from, r) {
                    out.push(Use { from, to, file: module.file.clone(), line: r.line });
                }
            }
        }
        out
    }
}

/// `dir`: where the files of its children are looked for.
fn read(tree: &Tree, file: &str, path: Vec<String>, dir: &str, test_only: bool, out: &mut Vec<Module>) {
    let Some(source) = tree.file(file) else { return };
    let scan = scan(&source.text);
    let absolute = |inner: &[String]| [&path[..], inner].concat();
    for inner in &scan.inline {
        out.push(Module { path: absolute(inner), file: file.to_owned(), test_only, ..Module::default() });
    }
    for child in &scan.declared {
        let (name, around) = child.path.split_last().expect("a declared module has a name");
        let base = format!("{dir}{}", around.iter().map(|m| format!("{m}/")).collect::<String>());
        let candidates = match &child.file {
            Some(given) => vec![format!("{}{given}", directory(file))],
            None => vec![format!("{base}{name}.rs"), format!("{base}{name}/mod.rs")],
        };
        let found = candidates.iter().filter_map(|c| clean(c)).find(|c| tree.file(c).is_some());
        if let Some(found) = found {
            let below = if child.file.is_some() { directory(&found).to_owned() } else { format!("{base}{name}/") };
            read(tree, &found, absolute(&child.path), &below, test_only || child.test_only, out);
        }
    }
    let tests = scan.tests.iter().map(|t| Test { path: absolute(&t.path), ignored: t.ignored }).collect();
    out.push(Module { path, file: file.to_owned(), test_only, tests, references: scan.references });
}

/// Finds the module in which a name is defined, through `use` declarations.
struct Resolver {
    /// Modules by path, with the names that they import.
    imports: BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>>,
}

impl Resolver {
    fn new(modules: &[Module]) -> Resolver {
        let mut imports: BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>> =
            modules.iter().map(|m| (m.path.clone(), BTreeMap::new())).collect();
        for module in modules {
            for r in module.references.iter().filter(|r| !r.test_only) {
                let at = [&module.path[..], &r.within[..]].concat();
                let target = absolute(&at, &r.path, |p| imports.contains_key(p));
                if let (Some(name), Some(target)) = (&r.name, target) {
                    imports.entry(at).or_default().insert(name.clone(), target);
                }
            }
        }
        Resolver { imports }
    }

    fn module_of(&self, from: &[String], reference: &Reference) -> Option<Vec<String>> {
        let mut target = absolute(from, &reference.path, |p| self.imports.contains_key(p))?;
        // A name that is imported where it is looked for lives elsewhere; a few rounds reach any re-export.
        for _ in 0..8 {
            let depth = (0..=target.len()).rev().find(|n| self.imports.contains_key(&target[..*n]))?;
            let module = target[..depth].to_vec();
            let Some(name) = target.get(depth) else { return Some(module) };
            match self.imports[&module].get(name) {
                Some(elsewhere) if *elsewhere != target => target = elsewhere.clone(),
                _ => return Some(module),
            }
        }
        None
    }
}

/// A path from the root on; none for one of another crate.
fn absolute(from: &[String], path: &[String], is_module: impl Fn(&[String]) -> bool) -> Option<Vec<String>> {
    let mut base = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => from.to_vec(),
        first => {
            let child = [from, &[first.to_owned()]].concat();
            return is_module(&child).then(|| [from, path].concat());
        }
    };
    for word in path {
        match word.as_str() {
            "crate" | "self" => {}
            "super" => drop(base.pop()?),
            name => base.push(name.to_owned()),
        }
    }
    Some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(files: &[(&str, &str)]) -> Vec<String> {
        let modules = Module::all(&Tree::of(files), "src/lib.rs");
        Module::uses(&modules)
            .iter()
            .map(|u| format!("{} -> {} {}:{}", u.from.join("::"), u.to.join("::"), u.file, u.line))
            .collect()
    }

    #[test]
    fn names_are_followed_to_where_they_are_defined() {
        let files = [
            ("src/lib.rs", "mod a;\nmod b;\npub use b::deep::Thing;"),
            ("src/a.rs", "use crate::Thing;\nuse std::fmt;"),
            ("src/b/mod.rs", "pub mod deep;"),
            ("src/b/deep.rs", "fn f() { super::g(); crate::a::h(); }"),
        ];
        let found = uses(&files);
        assert!(found.contains(&"a -> b::deep src/a.rs:1".to_owned()), "{found:?}");
        assert!(found.contains(&"b::deep -> a src/b/deep.rs:1".to_owned()), "{found:?}");
    }

    #[test]
    fn tests_do_not_count_as_uses_but_are_listed() {
        let files = [
            ("src/lib.rs", "mod a;\n#[cfg(test)]\nmod tests;"),
            ("src/a.rs", "#[cfg(test)]\nmod tests { use crate::tests::x; #[test] fn works() {} }"),
            ("src/tests.rs", "use crate::a;\nmod more;"),
            ("src/tests/more.rs", "#[test] fn too() {}"),
        ];
        assert_eq!(uses(&files), Vec::<String>::new());
        let modules = Module::all(&Tree::of(&files), "src/lib.rs");
        let tests: Vec<String> = modules.iter().flat_map(|m| &m.tests).map(|t| t.path.join("::")).collect();
        assert_eq!(tests, ["a::tests::works", "tests::more::too"]);
    }
}
