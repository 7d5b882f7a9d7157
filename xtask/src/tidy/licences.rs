//! Licence expressions (SPDX) against those that the project accepts.

/// Licences that ask for no more than to be named.
const ACCEPTED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    // Of webpki-roots: the certificates are data.
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    // Of SQLite's kind: dedicated to the public.
    "Unlicense",
    // Of tables of the Unicode consortium, compiled into procedural macros.
    "Unicode-3.0",
    "Zlib",
];

/// Exceptions that only allow more.
const EXCEPTIONS: &[&str] = &["LLVM-exception"];

/// Whether one can use something under this expression with accepted licences only.
pub(super) fn accepted(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, at: 0 };
    let result = parser.any();
    result && parser.at == words.len()
}

struct Parser<'a> {
    words: &'a [&'a str],
    at: usize,
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        let found = self.words.get(self.at) == Some(&word);
        self.at += usize::from(found);
        found
    }

    fn any(&mut self) -> bool {
        let mut result = self.all();
        while self.take("OR") {
            result |= self.all();
        }
        result
    }

    fn all(&mut self) -> bool {
        let mut result = self.one();
        while self.take("AND") {
            result &= self.one();
        }
        result
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let result = self.any();
            return self.take(")") && result;
        }
        let Some(name) = self.words.get(self.at) else { return false };
        self.at += 1;
        let exception = if self.take("WITH") {
            self.at += 1;
            self.words.get(self.at - 1)
        } else {
            None
        };
        ACCEPTED.contains(name) && exception.is_none_or(|e| EXCEPTIONS.contains(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_understood() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
            "MIT OR Apache-2.0 OR LGPL-2.1-or-later",
        ] {
            assert!(accepted(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-2.0", "", "(MIT", "MIT)", "MIT MIT", "MIT WITH something"] {
            assert!(!accepted(bad), "{bad}");
        }
    }
}
