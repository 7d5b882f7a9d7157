//! One file: which modules it declares, which tests it has, what it imports and refers to.

use super::lex::{Kind, Token, lex};

/// `mod name;`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    /// Inline modules around it, then its own name.
    pub(super) path: Vec<String>,
    /// `#[path = "…"]`
    pub(super) file: Option<String>,
    pub(super) test_only: bool,
}

/// `#[test] fn name()`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Test {
    /// Inline modules around it, then its own name.
    pub(crate) path: Vec<String>,
    pub(crate) ignored: bool,
}

/// A path that begins with `crate`, `super` or `self`, or one that a `use` imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// Inline modules around it.
    pub(super) within: Vec<String>,
    pub(super) path: Vec<String>,
    /// The name by which a `use` makes it known here.
    pub(super) name: Option<String>,
    pub(super) line: usize,
    pub(super) test_only: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Scan {
    pub(super) declared: Vec<Declared>,
    pub(super) inline: Vec<Vec<String>>,
    pub(super) tests: Vec<Test>,
    pub(super) references: Vec<Reference>,
}

struct Inline {
    name: String,
    depth: usize,
    test_only: bool,
}

/// Reads one file.
pub(super) fn scan(source: &str) -> Scan {
    let tokens = lex(source);
    let mut scanner = Scanner { tokens: &tokens, at: 0, depth: 0, inline: Vec::new(), out: Scan::default() };
    scanner.run();
    scanner.out
}

struct Scanner<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    inline: Vec<Inline>,
    out: Scan,
}

impl<'a> Scanner<'a> {
    fn word(&self, at: usize) -> Option<&'a str> {
        self.tokens.get(at)?.word()
    }

    fn is(&self, at: usize, c: char) -> bool {
        self.tokens.get(at).is_some_and(|t| t.is(c))
    }

    fn within(&self) -> Vec<String> {
        self.inline.iter().map(|m| m.name.clone()).collect()
    }

    fn test_only(&self) -> bool {
        self.inline.iter().any(|m| m.test_only)
    }

    fn run(&mut self) {
        let mut attributes: Vec<&'a [Token]> = Vec::new();
        while self.at < self.tokens.len() {
            if self.is(self.at, '#') {
                attributes.extend(self.attribute());
                continue;
            }
            match self.word(self.at) {
                // What stands between an attribute and its item.
                Some("pub" | "async" | "unsafe" | "const" | "extern") => {
                    self.skip_qualifier();
                    continue;
                }
                Some("fn") => self.function(&attributes),
                Some("mod") => self.module(&attributes),
                Some("use") => self.import(),
                Some("crate" | "super" | "self") => self.reference(),
                _ => self.other(),
            }
            attributes.clear();
        }
    }

    /// `pub`, `pub(crate)`, `unsafe`, …
    fn skip_qualifier(&mut self) {
        let restricted = self.word(self.at) == Some("pub") && self.is(self.at + 1, '(');
        let inner = matches!(self.word(self.at + 2), Some("crate" | "super" | "self" | "in"));
        self.at += 1;
        if restricted && inner {
            while self.at < self.tokens.len() && !self.is(self.at, ')') {
                self.at += 1;
            }
            self.at += 1;
        }
    }

    fn other(&mut self) {
        if self.is(self.at, '{') {
            self.depth += 1;
        } else if self.is(self.at, '}') {
            self.depth = self.depth.saturating_sub(1);
            if self.inline.last().is_some_and(|m| m.depth == self.depth) {
                self.inline.pop();
            }
        }
        self.at += 1;
    }

    /// The tokens between the brackets; none for an inner attribute.
    fn attribute(&mut self) -> Option<&'a [Token]> {
        let inner = self.is(self.at + 1, '!');
        let open = self.at + 1 + usize::from(inner);
        if !self.is(open, '[') {
            self.at += 1;
            return None;
        }
        let mut depth = 0;
        for i in open..self.tokens.len() {
            if self.is(i, '[') {
                depth += 1;
            } else if self.is(i, ']') {
                depth -= 1;
                if depth == 0 {
                    self.at = i + 1;
                    return (!inner).then(|| &self.tokens[open + 1..i]);
                }
            }
        }
        self.at = self.tokens.len();
        None
    }

    fn function(&mut self, attributes: &[&[Token]]) {
        if let Some(name) = self.word(self.at + 1)
            && attributes.iter().any(|a| a.len() == 1 && a[0].word() == Some("test"))
        {
            let ignored = attributes.iter().any(|a| a.first().and_then(Token::word) == Some("ignore"));
            self.out.tests.push(Test { path: [self.within(), vec![name.to_owned()]].concat(), ignored });
        }
        self.at += 2;
    }

    fn module(&mut self, attributes: &[&[Token]]) {
        let Some(name) = self.word(self.at + 1) else {
            self.at += 1;
            return;
        };
        let test_only = self.test_only() || attributes.iter().any(|a| is_test_only(a));
        let path = [self.within(), vec![name.to_owned()]].concat();
        if self.is(self.at + 2, '{') {
            self.inline.push(Inline { name: name.to_owned(), depth: self.depth, test_only });
            self.out.inline.push(path);
            self.at += 2;
        } else {
            self.out.declared.push(Declared { path, file: attributes.iter().find_map(|a| path_of(a)), test_only });
            self.at += 3;
        }
    }

    fn import(&mut self) {
        self.at += 1;
        self.use_tree(&[], Import::Yes);
    }

    fn reference(&mut self) {
        let after_path = self.at > 0 && self.is(self.at - 1, ':');
        if after_path || !(self.is(self.at + 1, ':') && self.is(self.at + 2, ':')) {
            self.at += 1;
            return;
        }
        self.use_tree(&[], Import::No);
    }

    /// `a::b`, `a::{b, c as d}`, `a::*`; leaves off behind it.
    fn use_tree(&mut self, prefix: &[String], import: Import) {
        let mut path = prefix.to_vec();
        let line = self.tokens.get(self.at).map_or(0, |t| t.line);
        loop {
            if self.is(self.at, '{') {
                self.at += 1;
                while self.at < self.tokens.len() && !self.is(self.at, '}') {
                    let before = self.at;
                    self.use_tree(&path, import);
                    if self.is(self.at, ',') || self.at == before {
                        self.at += 1;
                    }
                }
                self.at += 1;
                return;
            }
            let Some(word) = self.word(self.at) else {
                // `*`, or the `<` of generics.
                self.at += usize::from(self.is(self.at, '*'));
                break;
            };
            self.at += 1;
            if word != "self" || path.is_empty() {
                path.push(word.to_owned());
            }
            let goes_on = self.is(self.at, ':') && self.is(self.at + 1, ':');
            let in_group = import == Import::Yes || self.is(self.at + 2, '{') || self.word(self.at + 2).is_some();
            if !goes_on || !in_group {
                break;
            }
            self.at += 2;
        }
        let mut name = path.last().cloned();
        if import == Import::Yes && self.word(self.at) == Some("as") {
            name = self.word(self.at + 1).map(str::to_owned);
            self.at += 2;
        }
        let name = name.filter(|_| import == Import::Yes);
        let (within, test_only) = (self.within(), self.test_only());
        self.out.references.push(Reference { within, path, name, line, test_only });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Import {
    Yes,
    No,
}

/// `cfg(test)`, `cfg(all(test, …))`
fn is_test_only(attribute: &[Token]) -> bool {
    let words: Vec<&str> = attribute.iter().filter_map(Token::word).collect();
    words.first() == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not") && !words.contains(&"any")
}

fn path_of(attribute: &[Token]) -> Option<String> {
    match attribute {
        [name, equals, Token { kind: Kind::Text(text), .. }] if name.word() == Some("path") && equals.is('=') => {
            Some(text.clone())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(scan: &Scan) -> Vec<String> {
        scan.references.iter().map(|r| r.path.join("::")).collect()
    }

    #[test]
    fn imports_and_paths_are_found() {
        let s = scan(
            "use crate::{a::{self, B}, c::D as E};\npub(crate) use x::Y;\nfn f() { crate::g::h::<u8>(); super::i(); }",
        );
        assert_eq!(paths(&s), ["crate::a", "crate::a::B", "crate::c::D", "x::Y", "crate::g::h", "super::i"]);
        let names: Vec<_> = s.references.iter().map(|r| r.name.as_deref()).collect();
        assert_eq!(names, [Some("a"), Some("B"), Some("E"), Some("Y"), None, None]);
        assert_eq!(s.references[3].line, 2);
    }

    #[test]
    fn tests_are_found_where_they_stand() {
        let s = scan(
            "#[cfg(test)]\nmod tests {\n use super::*;\n #[test]\n fn a() { if x { y } }\n mod more {\n #[test]\n \
             #[ignore = \"why\"]\n pub(crate) fn b() {}\n }\n fn no() {}\n}\n#[test]\nfn c() {}",
        );
        let found: Vec<_> = s.tests.iter().map(|t| (t.path.join("::"), t.ignored)).collect();
        let expected = [("tests::a", false), ("tests::more::b", true), ("c", false)];
        assert_eq!(found, expected.map(|(n, i)| (n.to_owned(), i)));
        assert!(s.references[0].test_only);
    }

    #[test]
    fn modules_are_declared() {
        let s = scan("mod a;\n#[cfg(test)]\n#[path = \"b_tests.rs\"]\nmod b;\npub(crate) mod c { mod d; }");
        let found: Vec<_> = s.declared.iter().map(|d| (d.path.join("::"), d.file.clone(), d.test_only)).collect();
        let b = ("b".to_owned(), Some("b_tests.rs".to_owned()), true);
        assert_eq!(found, [("a".to_owned(), None, false), b, ("c::d".to_owned(), None, false)]);
    }
}
