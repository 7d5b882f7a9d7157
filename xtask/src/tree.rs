//! The files of the checkout, and what is said about them.

use std::fmt;
use std::path::Path;

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
    /// Directories, binary files, links.
    others: Vec<String>,
}

impl Tree {
    /// Reads the checkout. What git and builds keep is left out.
    pub(crate) fn read(top: &Path) -> std::io::Result<Tree> {
        let mut tree = Tree::default();
        tree.read_dir(top, "")?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    fn read_dir(&mut self, dir: &Path, prefix: &str) -> std::io::Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if [".git", "target"].contains(&name.as_str()) {
                continue;
            }
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.read_dir(&entry.path(), &format!("{path}/"))?;
                self.others.push(path);
            } else if kind.is_file() {
                match String::from_utf8(std::fs::read(entry.path())?) {
                    Ok(text) => self.files.push(File { path, text }),
                    Err(_) => self.others.push(path),
                }
            } else {
                self.others.push(path);
            }
        }
        Ok(())
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
