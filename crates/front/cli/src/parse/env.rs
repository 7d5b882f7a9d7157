//! `-e NAME[=VALUE]`, `--env-file`, `-l NAME[=VALUE]`, `--label-file`.

use super::bad;
use std::collections::BTreeMap;
use tare_model::{Error, Kind, Result};

/// Looks a name up in the caller's environment.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One `-e`. A bare name takes its value from the caller; without one it stays bare and removes the image's variable.
pub(crate) fn variable(text: &str, caller: Lookup<'_>) -> Result<String> {
    match text.split_once('=') {
        Some(("", _)) => Err(bad("--env", text, "the name is empty")),
        Some(_) => Ok(text.to_owned()),
        None if text.is_empty() => Err(bad("--env", text, "the name is empty")),
        None => Ok(caller(text).map_or_else(|| text.to_owned(), |value| format!("{text}={value}"))),
    }
}

/// The lines of an environment file: `NAME=VALUE` as it stands (no quotes, no expansion), bare names from the caller,
/// `#` comments.
pub(crate) fn file(content: &str, path: &str, caller: Lookup<'_>) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for (number, line) in lines(content) {
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (line.trim_end(), caller(line.trim_end())),
        };
        check_name(name, path, number)?;
        out.extend(value.map(|v| format!("{name}={v}")));
    }
    Ok(out)
}

/// Labels of a label file.
pub(crate) fn label_file(content: &str, path: &str) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for (number, line) in lines(content) {
        check_name(line.split('=').next().unwrap_or(line), path, number)?;
        out.push(line.to_owned());
    }
    Ok(out)
}

/// `NAME=VALUE` labels (or annotations) as a map; later ones win.
pub(crate) fn labels(flag: &str, texts: impl IntoIterator<Item = String>) -> Result<BTreeMap<String, String>> {
    texts
        .into_iter()
        .map(|text| match text.split_once('=') {
            Some(("", _)) => Err(bad(flag, &text, "the name is empty")),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None if text.is_empty() => Err(bad(flag, &text, "the name is empty")),
            None => Ok((text, String::new())),
        })
        .collect()
}

fn lines(content: &str) -> impl Iterator<Item = (usize, &str)> {
    let content = content.strip_prefix('\u{feff}').unwrap_or(content);
    content
        .lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.trim_start()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn check_name(name: &str, path: &str, line: usize) -> Result<()> {
    let why = if name.is_empty() {
        "the name is empty".to_owned()
    } else if name.contains(char::is_whitespace) {
        format!("the name {name:?} contains white space")
    } else {
        return Ok(());
    };
    Err(Error::new(Kind::Invalid, "read", format!("{path} line {line}")).because(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn bare_names_come_from_the_caller() {
        assert_eq!(variable("A=b=c", &caller).unwrap(), "A=b=c");
        assert_eq!(variable("HOME", &caller).unwrap(), "HOME=/root");
        assert_eq!(variable("NOPE", &caller).unwrap(), "NOPE");
        assert!(variable("=x", &caller).is_err());
    }

    #[test]
    fn files_are_read_as_docker_reads_them() {
        let content = "\u{feff}# c\n\n  A=1\nB=\"two words\" # kept\nHOME\nNOPE\nE=\n";
        let vars = file(content, "f", &caller).unwrap();
        assert_eq!(vars, ["A=1", "B=\"two words\" # kept", "HOME=/root", "E="]);
        let e = file("A=1\nX Y=2\n", "f.env", &caller).unwrap_err().to_string();
        assert!(e.contains("f.env line 2") && e.contains("white space"), "{e}");
    }

    #[test]
    fn labels_may_lack_a_value() {
        let all = label_file("a=1\n#x\nb", "f").unwrap();
        let map = labels("--label", all.into_iter().chain(["a=2".to_owned()])).unwrap();
        assert_eq!(map["a"], "2");
        assert_eq!(map["b"], "");
        assert!(labels("--label", ["=x".to_owned()]).is_err());
    }
}
