//! Source text as tokens: comments, numbers' values, characters and lifetimes are left out.

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name, a keyword or a number.
    Word(String),
    /// A string's content, escapes as they stand.
    Text(String),
    Punct(char),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    /// Counted from 1.
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(w) => Some(w),
            _ => None,
        }
    }

    pub(crate) fn is(&self, c: char) -> bool {
        self.kind == Kind::Punct(c)
    }
}

/// Splits a source file.
pub(crate) fn lex(source: &str) -> Vec<Token> {
    let mut lexer = Lexer { chars: source.chars().collect(), at: 0, line: 1, tokens: Vec::new() };
    while lexer.at < lexer.chars.len() {
        lexer.step();
    }
    lexer.tokens
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn advance(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn push(&mut self, kind: Kind, line: usize) {
        self.tokens.push(Token { kind, line });
    }

    fn step(&mut self) {
        let line = self.line;
        match (self.peek(0), self.peek(1)) {
            (Some('/'), Some('/')) => while self.peek(0).is_some_and(|c| c != '\n') && self.advance().is_some() {},
            (Some('/'), Some('*')) => self.block_comment(),
            (Some('"'), _) => self.string(0, Escapes::Yes, line),
            (Some('\''), next) => self.quote(next),
            (Some(c), _) if is_word(c) => self.word(line),
            (Some(c), _) if c.is_whitespace() => drop(self.advance()),
            (Some(c), _) => {
                self.advance();
                self.push(Kind::Punct(c), line);
            }
            (None, _) => {}
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (None, _) => return,
                _ => {
                    self.advance();
                    continue;
                }
            }
            self.at += 2;
            if depth == 0 {
                return;
            }
        }
    }

    /// A word, unless it is the prefix of a string: `r#"…"#`, `b"…"`, `c"…"`.
    fn word(&mut self, line: usize) {
        let mut word = String::new();
        while self.peek(0).is_some_and(is_word) {
            word.extend(self.advance());
        }
        let raw = word.ends_with('r') && word.len() <= 2;
        let hashes = if raw { (0..).take_while(|i| self.peek(*i) == Some('#')).count() } else { 0 };
        match self.peek(hashes) {
            Some('"') if raw => {
                self.at += hashes;
                self.string(hashes, Escapes::No, line);
            }
            Some('"') if ["b", "c"].contains(&word.as_str()) => self.string(0, Escapes::Yes, line),
            // r#name
            Some(c) if word == "r" && hashes == 1 && is_word(c) => {
                self.at += 1;
                self.word(line);
            }
            _ => self.push(Kind::Word(word), line),
        }
    }

    fn string(&mut self, hashes: usize, escapes: Escapes, line: usize) {
        self.advance();
        let mut text = String::new();
        while let Some(c) = self.advance() {
            if c == '\\' && escapes == Escapes::Yes {
                text.push(c);
                text.extend(self.advance());
            } else if c == '"' && (0..hashes).all(|i| self.peek(i) == Some('#')) {
                self.at += hashes;
                break;
            } else {
                text.push(c);
            }
        }
        self.push(Kind::Text(text), line);
    }

    /// A character or a lifetime.
    fn quote(&mut self, next: Option<char>) {
        self.advance();
        if next == Some('\\') {
            self.at += 2;
            while self.advance().is_some_and(|c| c != '\'') {}
        } else if self.peek(1) == Some('\'') {
            self.advance();
            self.advance();
        } else {
            while self.peek(0).is_some_and(is_word) {
                self.advance();
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Yes,
    No,
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        lex(source).iter().filter_map(|t| t.word().map(str::to_owned)).collect()
    }

    #[test]
    fn comments_strings_and_characters_hide_words() {
        let source = "a // unsafe\n/* unsafe /* unsafe */ unsafe */ b \"unsafe \\\" unsafe\" c r#\"unsafe \" unsafe\"# \
                      'u' '\\'' d b'x' &'unsafe e br\"unsafe\" r#type";
        assert_eq!(words(source), ["a", "b", "c", "d", "b", "e", "type"]);
    }

    #[test]
    fn lines_are_counted_in_strings_and_comments() {
        let tokens = lex("/*\n*/ \"x\ny\" z");
        assert_eq!((tokens[0].line, tokens[1].line), (2, 3));
        assert_eq!(tokens[0].kind, Kind::Text("x\ny".to_owned()));
    }
}
