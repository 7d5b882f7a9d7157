//! Values as Go prints them, and `printf`.

use serde_json::Value;
use std::fmt::Write;

/// What a value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The value of an action: `%v`, with `<no value>` for nothing.
pub(super) fn value(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        other => plain(other),
    }
}

/// Go's `%v`.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) => s.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", plain(v))).collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[derive(Default)]
struct Verb {
    minus: bool,
    zero: bool,
    plus: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

/// Go's `fmt.Sprintf`, for the verbs that make sense for JSON values.
pub(super) fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => verb.minus = true,
                '0' => verb.zero = true,
                '+' => verb.plus = true,
                '#' => verb.sharp = true,
                ' ' => {}
                _ => break,
            }
            chars.next();
        }
        verb.width = digits(&mut chars).unwrap_or(0);
        if chars.next_if_eq(&'.').is_some() {
            verb.precision = Some(digits(&mut chars).unwrap_or(0));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(letter) => match arguments.next() {
                None => write_all(&mut out, format_args!("%!{letter}(MISSING)")),
                Some(value) => out.push_str(&verb.pad(&verb.text(letter, value), value)),
            },
        }
    }
    let extra: Vec<String> = arguments.map(|v| format!("{}={}", go_type(v), plain(v))).collect();
    if !extra.is_empty() {
        write_all(&mut out, format_args!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn write_all(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string cannot fail");
}

/// No one needs columns wider than this, and a width is not a way to use up memory.
const WIDEST: usize = 4096;

fn digits(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<usize> {
    let mut n = None;
    while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
        n = Some((n.unwrap_or(0) * 10 + d as usize).min(WIDEST));
        chars.next();
    }
    n
}

impl Verb {
    fn text(&self, letter: char, value: &Value) -> String {
        let wrong = || format!("%!{letter}({}={})", go_type(value), plain(value));
        match (letter, value) {
            ('v', Value::Number(_)) => self.sign(plain(value)),
            ('v', _) => plain(value),
            ('s', Value::Number(_) | Value::Bool(_)) => wrong(),
            ('s', _) => match self.precision {
                Some(p) => plain(value).chars().take(p).collect(),
                None => plain(value),
            },
            ('q', Value::String(s)) => format!("{s:?}"),
            ('q', Value::Array(list)) => {
                format!("[{}]", list.iter().map(|v| format!("{:?}", plain(v))).collect::<Vec<_>>().join(" "))
            }
            ('d', Value::Number(n)) if !n.is_f64() => self.sign(n.to_string()),
            ('x' | 'X' | 'o' | 'b', Value::Number(n)) if n.is_i64() || n.is_u64() => self.based(letter, n),
            ('x', Value::String(s)) => s.bytes().map(|b| format!("{b:02x}")).collect(),
            ('X', Value::String(s)) => s.bytes().map(|b| format!("{b:02X}")).collect(),
            ('c', Value::Number(n)) => {
                let code = n.as_u64().and_then(|n| u32::try_from(n).ok()).and_then(char::from_u32);
                code.unwrap_or('\u{fffd}').to_string()
            }
            ('f' | 'F', Value::Number(n)) if n.is_f64() => {
                self.sign(format!("{:.*}", self.precision.unwrap_or(6), n.as_f64().unwrap_or(0.0)))
            }
            ('g', Value::Number(n)) if n.is_f64() => self.sign(n.to_string()),
            ('e', Value::Number(n)) if n.is_f64() => self.sign(format!("{:e}", n.as_f64().unwrap_or(0.0))),
            ('t', Value::Bool(b)) => b.to_string(),
            ('T', _) => go_type(value).into(),
            _ => wrong(),
        }
    }

    fn sign(&self, text: String) -> String {
        if self.plus && !text.starts_with('-') { format!("+{text}") } else { text }
    }

    fn based(&self, letter: char, n: &serde_json::Number) -> String {
        let signed = n.as_i64();
        let size = signed.map_or_else(|| n.as_u64().unwrap_or(0), i64::unsigned_abs);
        let digits = match (letter, self.sharp) {
            ('x', false) => format!("{size:x}"),
            ('x', true) => format!("{size:#x}"),
            ('X', false) => format!("{size:X}"),
            ('X', true) => format!("0X{size:X}"),
            ('o', _) => format!("{size:o}"),
            _ => format!("{size:b}"),
        };
        if signed.is_some_and(|s| s < 0) { format!("-{digits}") } else { self.sign(digits) }
    }

    fn pad(&self, text: &str, value: &Value) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        let fill = |c: char| std::iter::repeat_n(c, missing).collect::<String>();
        if self.minus {
            format!("{text}{}", fill(' '))
        } else if self.zero && value.is_number() {
            let (sign, digits) = match text.strip_prefix(['-', '+']) {
                Some(digits) => (&text[..1], digits),
                None => ("", text),
            };
            format!("{sign}{}{digits}", fill('0'))
        } else {
            format!("{}{text}", fill(' '))
        }
    }
}
