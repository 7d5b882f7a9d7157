//! The functions of a template: Go's and docker's.

use super::print;
use serde_json::Value;
use std::cmp::Ordering;

/// Their names, for messages.
pub(super) const NAMES: [&str; 25] = [
    "and", "or", "not", "len", "index", "slice", "print", "printf", "println", "eq", "ne", "lt", "le", "gt", "ge",
    "html", "urlquery", "json", "join", "split", "lower", "upper", "title", "pad", "truncate",
];

/// Whether there is such a function.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Go's truth: neither zero nor empty.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Calls a function.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = Value::String;
    match (name, arguments) {
        ("not", [v]) => Ok((!truth(v)).into()),
        ("len", [v]) => length(v),
        ("index", [v, keys @ ..]) => keys.iter().try_fold(v.clone(), |v, key| index(&v, key)),
        ("slice", [v, bounds @ ..]) => slice(v, bounds),
        ("print", _) => Ok(text(join_print(arguments))),
        ("println", _) => {
            let words: Vec<String> = arguments.iter().map(print::plain).collect();
            Ok(text(words.join(" ") + "\n"))
        }
        ("printf", [Value::String(format), rest @ ..]) => Ok(text(print::printf(format, rest))),
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            for other in others {
                if equal(first, other)? {
                    return Ok(true.into());
                }
            }
            Ok(false.into())
        }
        ("ne", [a, b]) => Ok((!equal(a, b)?).into()),
        ("lt", [a, b]) => Ok((order(a, b)? == Ordering::Less).into()),
        ("le", [a, b]) => Ok((order(a, b)? != Ordering::Greater).into()),
        ("gt", [a, b]) => Ok((order(a, b)? == Ordering::Greater).into()),
        ("ge", [a, b]) => Ok((order(a, b)? != Ordering::Less).into()),
        ("html", _) => Ok(text(html(&join_print(arguments)))),
        ("urlquery", _) => Ok(text(url_query(&join_print(arguments)))),
        ("json", [v]) => serde_json::to_string(v).map(text).map_err(|e| e.to_string()),
        ("join", [Value::Array(list), Value::String(separator)]) => {
            Ok(text(list.iter().map(print::plain).collect::<Vec<_>>().join(separator)))
        }
        ("join", [Value::Null, Value::String(_)]) => Ok(text(String::new())),
        ("split", [Value::String(s), Value::String(separator)]) => {
            Ok(s.split(separator.as_str()).map(|p| Value::String(p.into())).collect())
        }
        ("lower", [Value::String(s)]) => Ok(text(s.to_lowercase())),
        ("upper", [Value::String(s)]) => Ok(text(s.to_uppercase())),
        ("title", [Value::String(s)]) => Ok(text(title(s))),
        ("pad", [Value::String(s), before, after]) => pad(s, before, after),
        ("truncate", [Value::String(s), n]) => Ok(text(s.chars().take(number(n)?).collect())),
        _ => {
            let kinds: Vec<&str> = arguments.iter().map(print::kind).collect();
            let given = if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") };
            Err(format!("{name} cannot be called with {given}"))
        }
    }
}

fn length(value: &Value) -> Result<Value, String> {
    Ok(match value {
        Value::String(s) => s.len(),
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        Value::Null => 0,
        other => return Err(format!("len of {}", print::kind(other))),
    }
    .into())
}

/// A key that a map of strings lacks is the empty string, as in Go.
fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::Object(map), Value::String(key)) => Ok(map.get(key).cloned().unwrap_or_else(|| {
            if map.values().all(Value::is_string) { Value::String(String::new()) } else { Value::Null }
        })),
        (Value::Array(list), key) => {
            let i = number(key)?;
            list.get(i).cloned().ok_or_else(|| format!("index {i} is out of range: the list has {}", list.len()))
        }
        (Value::String(s), key) => {
            let i = number(key)?;
            s.as_bytes().get(i).map(|b| Value::from(*b)).ok_or_else(|| format!("index {i} is out of range"))
        }
        (Value::Null, _) => Ok(Value::Null),
        (other, _) => Err(format!("index of {}", print::kind(other))),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let bounds = bounds.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    let length = match value {
        Value::String(s) => s.len(),
        Value::Array(list) => list.len(),
        other => return Err(format!("slice of {}", print::kind(other))),
    };
    let (from, to) = match bounds[..] {
        [] => (0, length),
        [from] => (from, length),
        [from, to] => (from, to),
        _ => return Err("slice takes at most two bounds".into()),
    };
    let out = || format!("slice {from}:{to} is out of range: the length is {length}");
    match value {
        Value::String(s) => s.get(from..to).map(|s| Value::String(s.into())).ok_or_else(out),
        Value::Array(list) => list.get(from..to).map(|l| Value::Array(l.to_vec())).ok_or_else(out),
        _ => Err(out()),
    }
}

fn number(value: &Value) -> Result<usize, String> {
    value
        .as_u64()
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| format!("{} stands where a number is expected", print::plain(value)))
}

/// Go's Sprint: a space between operands when neither is a string.
fn join_print(arguments: &[Value]) -> String {
    let mut out = String::new();
    for (i, value) in arguments.iter().enumerate() {
        if i > 0 && !value.is_string() && !arguments[i - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&print::plain(value));
    }
    out
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => Ok(x.as_f64() == y.as_f64()),
        _ if std::mem::discriminant(a) == std::mem::discriminant(b) => Ok(a == b),
        (Value::Null, _) | (_, Value::Null) => Ok(false),
        _ => Err(incomparable(a, b)),
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => Ok(x.cmp(&y)),
            _ => x.as_f64().partial_cmp(&y.as_f64()).ok_or_else(|| incomparable(a, b)),
        },
        (Value::String(x), Value::String(y)) => Ok(x.cmp(y)),
        _ => Err(incomparable(a, b)),
    }
}

fn incomparable(a: &Value, b: &Value) -> String {
    format!("cannot compare {} with {}", print::kind(a), print::kind(b))
}

fn title(text: &str) -> String {
    let mut begin = true;
    text.chars()
        .flat_map(|c| {
            let upper = begin && c.is_alphabetic();
            begin = !c.is_alphanumeric() && c != '_' && c != '\'';
            if upper { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect()
}

fn pad(text: &str, before: &Value, after: &Value) -> Result<Value, String> {
    let spaces = |n: &Value| Ok::<_, String>(" ".repeat(number(n)?.min(4096)));
    if text.is_empty() {
        return Ok(Value::String(String::new()));
    }
    Ok(Value::String(format!("{}{text}{}", spaces(before)?, spaces(after)?)))
}

fn html(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '<' => "&lt;".into(),
            '>' => "&gt;".into(),
            '&' => "&amp;".into(),
            '"' => "&#34;".into(),
            '\'' => "&#39;".into(),
            c => c.to_string(),
        })
        .collect()
}

fn url_query(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b' ' => "+".into(),
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}
