//! Small C programs that do inside a container what no tool of the image does.

use crate::busybox::Tree;
use crate::process::{Running, command};
use std::path::Path;

/// Compiles a C program into a static one.
///
/// # Panics
/// If gcc(1) refuses it.
pub fn compile(source: &str, to: &Path) {
    let file = to.with_extension("c");
    std::fs::write(&file, source).unwrap();
    let mut gcc = command("gcc");
    gcc.args(["-static", "-O1", "-Wall", "-Wno-unused-result", "-o"]).arg(to).arg(&file);
    let out = Running::start(&mut gcc, None).wait();
    assert_eq!(out.code, 0, "{}", out.stderr);
    std::fs::remove_file(file).unwrap();
}

impl Tree {
    /// Adds a static program made of this C source.
    ///
    /// # Panics
    /// If gcc(1) refuses it.
    pub fn compiled(&self, path: &str, source: &str) -> &Tree {
        compile(source, &self.path(path));
        self
    }
}
