//! Text and actions; and the words of an action.

/// A piece of a template.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'a> {
    /// Copied as it is.
    Text(&'a str),
    /// What is between `{{` and `}}`.
    Action(&'a str),
}

/// Splits a template into text and actions; trim markers are applied, comments dropped.
pub(super) fn pieces(mut rest: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut out = Vec::new();
    let mut trim_next = false;
    loop {
        let start = rest.find("{{");
        let text = &rest[..start.unwrap_or(rest.len())];
        let text = if trim_next { text.trim_start() } else { text };
        let Some(start) = start else {
            push_text(&mut out, text);
            return Ok(out);
        };
        rest = &rest[start + 2..];
        let trim_before = rest.starts_with('-') && rest[1..].starts_with(char::is_whitespace);
        push_text(&mut out, if trim_before { text.trim_end() } else { text });
        if trim_before {
            rest = &rest[1..];
        }
        let end = action_end(rest)?;
        let action = &rest[..end];
        rest = &rest[end + 2..];
        trim_next = action.ends_with('-') && action[..action.len() - 1].ends_with(char::is_whitespace);
        let action = if trim_next { &action[..action.len() - 1] } else { action }.trim();
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            out.push(Piece::Action(action));
        }
    }
}

fn push_text<'a>(out: &mut Vec<Piece<'a>>, text: &'a str) {
    if !text.is_empty() {
        out.push(Piece::Text(text));
    }
}

/// Where `}}` ends the action; quotes and comments may contain it.
fn action_end(text: &str) -> Result<usize, String> {
    if text.trim_start().starts_with("/*") {
        let close = text.find("*/").ok_or("a comment is not closed")?;
        return text[close..].find("}}").map(|i| close + i).ok_or_else(unclosed);
    }
    let bytes = text.as_bytes();
    let mut quote = None;
    let mut i = 0;
    while i < bytes.len() {
        match (quote, bytes[i]) {
            (None, b'}') if bytes.get(i + 1) == Some(&b'}') => return Ok(i),
            (None, q @ (b'"' | b'\'' | b'`')) => quote = Some(q),
            (Some(b'"' | b'\''), b'\\') => i += 1,
            (Some(q), b) if q == b => quote = None,
            _ => {}
        }
        i += 1;
    }
    Err(if quote.is_some() { "a string is not closed".into() } else { unclosed() })
}

fn unclosed() -> String {
    "an action is not closed with }}".into()
}

/// A word of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.`
    Dot,
    /// `.Name`
    Field(String),
    /// `$` or `$name`, without the `$`.
    Variable(String),
    /// A function or keyword.
    Ident(String),
    /// A string or character constant.
    Str(String),
    /// An integer or float constant.
    Number(serde_json::Number),
    /// `|`
    Pipe,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// `,`
    Comma,
}

/// A word, and whether it follows the one before without white space.
pub(super) type Glued = (Token, bool);

/// The words of an action.
pub(super) fn tokens(action: &str) -> Result<Vec<Glued>, String> {
    let mut out = Vec::new();
    let mut rest = action;
    loop {
        let trimmed = rest.trim_start();
        let glued = trimmed.len() == rest.len() && !out.is_empty();
        rest = trimmed;
        let Some(c) = rest.chars().next() else { return Ok(out) };
        let (token, length) = token(rest, c)?;
        out.push((token, glued));
        rest = &rest[length..];
    }
}

fn token(rest: &str, c: char) -> Result<(Token, usize), String> {
    let simple = |t| Ok((t, c.len_utf8()));
    match c {
        '|' => simple(Token::Pipe),
        '(' => simple(Token::Open),
        ')' => simple(Token::Close),
        ',' => simple(Token::Comma),
        '=' => simple(Token::Assign),
        ':' if rest.starts_with(":=") => Ok((Token::Declare, 2)),
        '"' => quoted(rest).map(|(s, n)| (Token::Str(s), n)),
        '\'' => character(rest),
        '`' => {
            let end = rest[1..].find('`').ok_or("a string is not closed")?;
            Ok((Token::Str(rest[1..=end].to_owned()), end + 2))
        }
        '.' => match word(&rest[1..]) {
            "" => simple(Token::Dot),
            name => Ok((Token::Field(name.to_owned()), 1 + name.len())),
        },
        '$' => {
            let name = word(&rest[1..]);
            Ok((Token::Variable(name.to_owned()), 1 + name.len()))
        }
        c if c.is_ascii_digit() || matches!(c, '-' | '+') => number(rest),
        c if c.is_alphabetic() || c == '_' => {
            let name = word(rest);
            Ok((Token::Ident(name.to_owned()), name.len()))
        }
        c => Err(format!("unexpected {c:?} in an action")),
    }
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let end =
        text[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_').map_or(text.len(), |i| i + 1);
    let bad = || format!("bad number {:?}", &text[..end]);
    let digits = text[..end].replace('_', "");
    let digits = digits.strip_prefix('+').unwrap_or(&digits);
    let parsed = if let Some(hex) = digits.strip_prefix("0x") {
        i64::from_str_radix(hex, 16).ok().map(Into::into)
    } else {
        digits.parse::<i64>().ok().map(Into::into)
    };
    let parsed = parsed.or_else(|| digits.parse::<f64>().ok().and_then(serde_json::Number::from_f64));
    Ok((Token::Number(parsed.ok_or_else(bad)?), end))
}

/// A character constant is its number, as in Go.
fn character(text: &str) -> Result<(Token, usize), String> {
    let end = text[1..].find('\'').filter(|i| *i > 0).ok_or("a character constant is not closed")?;
    let inner = &text[1..=end];
    let c = match inner {
        "\\n" => '\n',
        "\\t" => '\t',
        "\\\\" => '\\',
        _ => {
            let mut chars = inner.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => c,
                _ => return Err(format!("bad character constant '{inner}'")),
            }
        }
    };
    Ok((Token::Number(u32::from(c).into()), end + 2))
}

fn quoted(text: &str) -> Result<(String, usize), String> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((out, i + 1)),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('x') => {
                    let digits: String = chars.by_ref().take(2).map(|(_, c)| c).collect();
                    let code = u8::from_str_radix(&digits, 16).map_err(|_| format!("bad escape \\x{digits}"))?;
                    out.push(char::from(code));
                }
                Some(c @ ('"' | '\\' | '\'')) => out.push(c),
                Some(c) => return Err(format!("unknown escape \\{c} in a string")),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err("a string is not closed".into())
}
