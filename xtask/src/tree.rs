//! The files of the checkout, and what is said about them.

use std::fmt;
use std::path::Path;
use std::process::Command;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    /// `line` counts from 1; 0 stands for the whole file.
    pub(crate) fn new(path: impl Into<String>, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: path.into(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line.max(1), self.what)
    }
}

/// A text file.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Relative to the top, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(crate) fn is_markdown(&self) -> bool {
        self.path.ends_with(".md")
    }

    /// The lines with their numbers.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(i, line)| (i + 1, line))
    }
}

/// All text files, sorted by path, and the paths of everything else.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
    /// Binary files, links.
    others: Vec<String>,
}

impl Tree {
    /// Reads the checkout: what git has or would take, so that results and scratch files do not count.
    pub(crate) fn read(top: &Path) -> std::io::Result<Tree> {
        let mut tree = Tree::default();
        for path in listed(top)? {
            let place = top.join(&path);
            match std::fs::symlink_metadata(&place) {
                Ok(meta) if meta.is_file() => match String::from_utf8(std::fs::read(place)?) {
                    Ok(text) => tree.files.push(File { path, text }),
                    Err(_) => tree.others.push(path),
                },
                Ok(_) => tree.others.push(path),
                // Removed, and git has not been told.
                Err(_) => {}
            }
        }
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Tree {
        let file = |(path, text): &(&str, &str)| File { path: (*path).to_owned(), text: (*text).to_owned() };
        Tree { files: files.iter().map(file).collect(), ..Tree::default() }
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|f| f.path == path)
    }

    /// Whether a path, which may be a directory, is in the tree.
    pub(crate) fn has(&self, path: &str) -> bool {
        let dir = format!("{path}/");
        path.is_empty()
            || self.file(path).is_some()
            || self.others.iter().any(|p| p == path)
            || self.files.iter().any(|f| f.path.starts_with(&dir))
    }

    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|f| f.is_rust())
    }

    pub(crate) fn markdown(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|f| f.is_markdown())
    }
}

/// The files of a checkout.
#[expect(clippy::disallowed_methods, reason = "git knows what belongs to the tree")]
fn listed(top: &Path) -> std::io::Result<Vec<String>> {
    let mut git = Command::new("git");
    git.arg("-C").arg(top).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let out = git.output()?;
    if !out.status.success() {
        return Err(std::io::Error::other(String::from_utf8_lossy(&out.stderr).trim().to_owned()));
    }
    let text = String::from_utf8_lossy(&out.stdout);
    Ok(text.split('\0').filter(|p| !p.is_empty()).map(str::to_owned).collect())
}

/// `a/b/../c` as `a/c`; nothing if it leaves the top.
pub(crate) fn clean(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The directory of a file's path, with a slash at its end; empty at the top.
pub(crate) fn directory(path: &str) -> &str {
    path.rfind('/').map_or("", |i| &path[..=i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_stay_inside() {
        assert_eq!(clean("docs/adr/../guide/./a.md").unwrap(), "docs/guide/a.md");
        assert_eq!(clean("docs/../../x"), None);
        assert_eq!((directory("a/b/c.rs"), directory("c.rs")), ("a/b/", ""));
    }

    #[test]
    fn directories_are_found_by_what_is_in_them() {
        let tree = Tree::of(&[("docs/adr/a.md", "")]);
        assert!(tree.has("docs/adr") && tree.has("docs/adr/a.md") && !tree.has("docs/ad"));
    }
}
