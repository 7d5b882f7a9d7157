//! Dockerfile instructions that change an image's config: of `commit --change` and `import --change`.

use crate::create::DEFAULT_PATH;
use crate::signal;
use std::collections::BTreeMap;
use tare_model::image::{Empty, RunConfig};
use tare_model::{Error, Kind, Result};

const KNOWN: &str = "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR";

/// Applies one instruction, such as `ENV A=1` or `CMD ["sh"]`. `$NAME` is replaced by the config's own variables.
///
/// # Errors
/// `Kind::Invalid` for an unknown or malformed instruction.
pub fn apply_change(config: &mut RunConfig, instruction: &str) -> Result<()> {
    apply_changes(config, &[instruction])
}

/// Applies instructions in their order. An ENTRYPOINT drops the CMD there was, unless one of these sets it.
///
/// # Errors
/// As [`apply_change`]; nothing is changed then.
pub fn apply_changes<S: AsRef<str>>(config: &mut RunConfig, instructions: &[S]) -> Result<()> {
    let mut changed = config.clone();
    let mut has_cmd = false;
    for instruction in instructions {
        let text = instruction.as_ref().trim();
        let (keyword, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let keyword = keyword.to_ascii_uppercase();
        if keyword == "ENTRYPOINT" && !has_cmd {
            changed.cmd = None;
        }
        has_cmd |= keyword == "CMD";
        apply(&mut changed, &keyword, rest.trim()).map_err(|why| {
            let e = Error::new(Kind::Invalid, "apply change", format!("{text:?}")).because(why);
            e.hint(format!("an instruction of {KNOWN} with its arguments"))
        })?;
    }
    *config = changed;
    Ok(())
}

fn apply(config: &mut RunConfig, keyword: &str, rest: &str) -> Result<(), String> {
    if rest.is_empty() && KNOWN.split(", ").any(|k| k == keyword) {
        return Err(format!("{keyword} needs an argument"));
    }
    match keyword {
        "CMD" => config.cmd = Some(command(rest, config.shell.as_deref())),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest, config.shell.as_deref())),
        "ENV" => {
            for (name, value) in pairs(rest, &config.env)? {
                config.env.retain(|e| e.split('=').next() != Some(&name));
                config.env.push(format!("{name}={value}"));
            }
        }
        "LABEL" => config.labels.extend(pairs(rest, &config.env)?),
        "EXPOSE" => {
            for word in words(rest, &config.env)? {
                config.exposed_ports.extend(ports(&word)?.into_iter().map(|p| (p, Empty {})));
            }
        }
        "HEALTHCHECK" => config.healthcheck = Some(health(rest, config.shell.as_deref())?),
        "USER" => config.user = single(rest, &config.env)?,
        "WORKDIR" => config.working_dir = directory(&config.working_dir, &single(rest, &config.env)?),
        "STOPSIGNAL" => {
            let name = single(rest, &config.env)?;
            signal::parse(&name).map_err(|e| e.to_string())?;
            config.stop_signal = Some(name);
        }
        "VOLUME" => {
            let paths = match json(rest) {
                Some(list) => list,
                None => words(rest, &config.env)?,
            };
            if paths.iter().any(|p| !p.starts_with('/')) {
                return Err("a volume's path is absolute".to_owned());
            }
            config.volumes.extend(paths.into_iter().map(|p| (p, Empty {})));
        }
        "ONBUILD" => match rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase().as_str() {
            first @ ("ONBUILD" | "FROM" | "MAINTAINER") => return Err(format!("{first} cannot follow ONBUILD")),
            _ => config.on_build.push(rest.to_owned()),
        },
        other => return Err(format!("{other} cannot be applied to a finished image")),
    }
    Ok(())
}

/// JSON's list of strings, or a line for the shell.
fn command(text: &str, shell: Option<&[String]>) -> Vec<String> {
    json(text).unwrap_or_else(|| {
        let mut command = shell.map_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()], <[String]>::to_vec);
        command.push(text.to_owned());
        command
    })
}

fn json(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

/// docker's document of a probe: `NONE`, or `[--interval=30s …] CMD command`. Durations become nanoseconds.
fn health(text: &str, shell: Option<&[String]>) -> Result<serde_json::Value, String> {
    let mut probe = serde_json::Map::new();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        let (name, value) = option.split_once('=').ok_or_else(|| format!("--{option} is not --NAME=VALUE"))?;
        let (key, number) = match name {
            "interval" => ("Interval", nanoseconds(value)?),
            "timeout" => ("Timeout", nanoseconds(value)?),
            "start-period" => ("StartPeriod", nanoseconds(value)?),
            "start-interval" => ("StartInterval", nanoseconds(value)?),
            "retries" => ("Retries", value.parse::<u32>().map_err(|_| format!("{value:?} is not a number"))?.into()),
            other => {
                return Err(format!(
                    "--{other} is unknown: --interval, --timeout, --start-period, --start-interval, --retries"
                ));
            }
        };
        probe.insert(key.to_owned(), number.into());
        rest = after.trim_start();
    }
    let (form, words) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let words = words.trim();
    let test = match form.to_ascii_uppercase().as_str() {
        "NONE" if words.is_empty() && probe.is_empty() => vec!["NONE".to_owned()],
        "CMD" if !words.is_empty() => match json(words) {
            Some(list) => std::iter::once("CMD".to_owned()).chain(list).collect(),
            None if shell.is_none() => vec!["CMD-SHELL".to_owned(), words.to_owned()],
            None => std::iter::once("CMD".to_owned()).chain(command(words, shell)).collect(),
        },
        _ => return Err("expected NONE, or options and CMD with a command".to_owned()),
    };
    probe.insert("Test".to_owned(), test.into());
    Ok(probe.into())
}

/// `1h2m3.5s`, `300ms`: as Go writes durations. At least a millisecond, or 0.
fn nanoseconds(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a duration such as 30s or 1m30s");
    let mut total = 0f64;
    let mut rest = text;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() && rest != "0" {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..end].parse().map_err(|_| bad())?;
        let unit_end = rest[end..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| end + n);
        total += number
            * match &rest[end..unit_end] {
                "h" => 3600e9,
                "m" => 60e9,
                "s" => 1e9,
                "ms" => 1e6,
                "us" | "µs" => 1e3,
                "ns" => 1.0,
                _ => return Err(bad()),
            };
        rest = &rest[unit_end..];
    }
    // Whole nanoseconds of less than 292 years, so nothing is lost.
    if total > 9.2e18 || total > 0.0 && total < 1e6 { Err(bad()) } else { Ok(total.round() as u64) }
}

/// `NAME=VALUE …`, or the old form `NAME VALUE` with one value to the line's end.
fn pairs(text: &str, env: &[String]) -> Result<BTreeMap<String, String>, String> {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let pair = |word: &str| match word.split_once('=') {
        Some(("", _)) => Err("a name is empty".to_owned()),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!("{word:?} is not NAME=VALUE")),
    };
    if !first.contains('=') {
        if rest.trim().is_empty() {
            return Err(format!("{first:?} is not NAME=VALUE"));
        }
        return Ok([(first.to_owned(), single(rest.trim(), env)?)].into());
    }
    words(text, env)?.iter().map(|w| pair(w)).collect()
}

/// `80`, `80/udp`, `8000-8010/tcp`, each as `port/protocol`.
fn ports(word: &str) -> Result<Vec<String>, String> {
    let bad = || format!("{word:?} is not a port such as 80, 80/udp or 8000-8010");
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse::<u16>().ok().filter(|n| *n > 0).ok_or_else(bad);
    let (first, last) = (number(first)?, number(last)?);
    if first > last || !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(bad());
    }
    Ok((first..=last).map(|n| format!("{n}/{protocol}")).collect())
}

/// A directory relative to the one before; `.` and `..` resolved.
fn directory(before: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{before}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            p => parts.push(p),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Everything as one word.
fn single(text: &str, env: &[String]) -> Result<String, String> {
    Ok(Lexer { rest: text.chars().collect::<Vec<_>>().as_slice(), env }.words(false)?.concat())
}

/// Words at white space.
fn words(text: &str, env: &[String]) -> Result<Vec<String>, String> {
    Lexer { rest: text.chars().collect::<Vec<_>>().as_slice(), env }.words(true)
}

/// Quotes, backslashes and variables as in a Dockerfile.
struct Lexer<'a> {
    rest: &'a [char],
    env: &'a [String],
}

impl Lexer<'_> {
    fn words(mut self, split: bool) -> Result<Vec<String>, String> {
        let mut out = Vec::new();
        let mut word: Option<String> = None;
        while let Some(c) = self.take() {
            match c {
                c if c.is_whitespace() && split => out.extend(word.take()),
                '\'' => {
                    let text = word.get_or_insert_default();
                    loop {
                        match self.take() {
                            Some('\'') => break,
                            Some(c) => text.push(c),
                            None => return Err("a single quote is not closed".to_owned()),
                        }
                    }
                }
                '"' => self.quoted(word.get_or_insert_default())?,
                '\\' => word.get_or_insert_default().extend(self.take()),
                '$' => {
                    let value = self.variable()?;
                    word.get_or_insert_default().push_str(&value);
                }
                c => word.get_or_insert_default().push(c),
            }
        }
        out.extend(word);
        Ok(out)
    }

    fn take(&mut self) -> Option<char> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn quoted(&mut self, text: &mut String) -> Result<(), String> {
        loop {
            match self.take() {
                Some('"') => return Ok(()),
                Some('\\') => match self.take() {
                    Some(c @ ('"' | '\\' | '$')) => text.push(c),
                    Some(c) => text.extend(['\\', c]),
                    None => {}
                },
                Some('$') => text.push_str(&self.variable()?),
                Some(c) => text.push(c),
                None => return Err("a double quote is not closed".to_owned()),
            }
        }
    }

    /// What follows a dollar: `NAME`, `{NAME}`, `{NAME:-default}`, `{NAME:+instead}`.
    fn variable(&mut self) -> Result<String, String> {
        let braces = self.rest.first() == Some(&'{');
        if braces {
            self.take();
        }
        let is_name = |c: &&char| c.is_ascii_alphanumeric() || **c == '_';
        let name: String = self.rest.iter().take_while(is_name).collect();
        self.rest = &self.rest[name.len()..];
        if name.is_empty() {
            return if braces { Err("${ is not followed by a name".to_owned()) } else { Ok("$".to_owned()) };
        }
        let own = self.env.iter().find_map(|e| e.strip_prefix(&name)?.strip_prefix('='));
        // An image without a PATH runs with the usual one, so that is what `$PATH:/more` goes on from.
        let path = || if name == "PATH" { DEFAULT_PATH.strip_prefix("PATH=") } else { None };
        let value = own.or_else(path).unwrap_or_default();
        if !braces {
            return Ok(value.to_owned());
        }
        let end = self.rest.iter().position(|c| *c == '}').ok_or("${ is not closed")?;
        let modifier: String = self.rest[..end].iter().collect();
        self.rest = &self.rest[end + 1..];
        match (modifier.get(..2), modifier.get(2..)) {
            _ if modifier.is_empty() => Ok(value.to_owned()),
            (Some(":-"), Some(default)) => Ok(if value.is_empty() { default } else { value }.to_owned()),
            (Some(":+"), Some(instead)) => Ok(if value.is_empty() { "" } else { instead }.to_owned()),
            _ => Err(format!("${{{name}{modifier}}} is not understood")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(instructions: &[&str]) -> RunConfig {
        let mut config = RunConfig {
            env: vec!["PATH=/bin".into(), "V=1".into()],
            cmd: Some(vec!["old".into()]),
            working_dir: "/srv".into(),
            ..RunConfig::default()
        };
        apply_changes(&mut config, instructions).unwrap();
        config
    }

    fn refusal(instruction: &str) -> String {
        let mut config = RunConfig::default();
        let e = apply_change(&mut config, instruction).unwrap_err();
        assert_eq!((e.kind(), &config), (Kind::Invalid, &RunConfig::default()), "{instruction}");
        assert!(e.first_hint().unwrap().contains("WORKDIR"));
        e.to_string()
    }

    #[test]
    fn commands_are_lists_or_lines_for_the_shell() {
        assert_eq!(changed(&[r#"CMD ["a", "b c"]"#]).cmd.unwrap(), ["a", "b c"]);
        assert_eq!(changed(&["cmd echo $HOME"]).cmd.unwrap(), ["/bin/sh", "-c", "echo $HOME"]);
        assert_eq!(changed(&["ENTRYPOINT [\"/e\"]"]).cmd, None);
        let both = changed(&["CMD [\"c\"]", "ENTRYPOINT [\"/e\"]"]);
        assert_eq!((both.cmd.unwrap(), both.entrypoint.unwrap()), (vec!["c".to_owned()], vec!["/e".to_owned()]));
    }

    #[test]
    fn variables_and_labels_have_two_forms() {
        assert_eq!(
            changed(&["ENV PATH=$PATH:/opt A=\"x y\" B='$V' C=${V}2 D=${NO:-d}"]).env,
            ["V=1", "A=x y", "B=$V", "C=12", "D=d", "PATH=/bin:/opt"]
        );
        let mut bare = RunConfig::default();
        apply_change(&mut bare, "ENV PATH=$PATH:/opt").unwrap();
        assert!(bare.env[0].ends_with(":/bin:/opt"), "{:?}", bare.env);
        assert_eq!(changed(&["ENV V two  words"]).env, ["PATH=/bin", "V=two  words"]);
        let labels = changed(&[r#"LABEL "a.b"="c d" e=f\ g"#]).labels;
        assert_eq!(
            labels.into_iter().collect::<Vec<_>>(),
            [("a.b".to_owned(), "c d".to_owned()), ("e".to_owned(), "f g".to_owned())]
        );
    }

    #[test]
    fn the_rest_is_checked() {
        let c = changed(&["EXPOSE 80 53/udp 8000-8001", "VOLUME /a /b", "VOLUME [\"/c\"]", "STOPSIGNAL SIGQUIT"]);
        assert_eq!(c.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]);
        assert_eq!(c.volumes.keys().collect::<Vec<_>>(), ["/a", "/b", "/c"]);
        assert_eq!(c.stop_signal.as_deref(), Some("SIGQUIT"));
        let c = changed(&["HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD test -f /up"]);
        let probe = serde_json::json!({
            "Test": ["CMD-SHELL", "test -f /up"], "Interval": 90_000_000_000u64, "Timeout": 500_000_000, "Retries": 3
        });
        assert_eq!(c.healthcheck, Some(probe));
        let c = changed(&["HEALTHCHECK CMD [\"/probe\"]"]);
        assert_eq!(c.healthcheck.unwrap()["Test"], serde_json::json!(["CMD", "/probe"]));
        assert_eq!(changed(&["HEALTHCHECK NONE"]).healthcheck.unwrap()["Test"], serde_json::json!(["NONE"]));
        let c = changed(&["WORKDIR a/../b", "USER web:www", "ONBUILD RUN true"]);
        assert_eq!(
            (c.working_dir.as_str(), c.user.as_str(), &c.on_build[..]),
            ("/srv/b", "web:www", &["RUN true".into()][..])
        );
        for bad in [
            "",
            "RUN true",
            "FROM x",
            "CMD",
            "EXPOSE 0",
            "EXPOSE x",
            "ENV =1",
            "ENV A",
            "VOLUME a",
            "STOPSIGNAL X",
            "HEALTHCHECK",
            "HEALTHCHECK x",
            "HEALTHCHECK --interval=1 CMD x",
            "HEALTHCHECK --interval=1us CMD x",
            "HEALTHCHECK CMD",
        ] {
            refusal(bad);
        }
        assert!(refusal("ENV A=\"x").contains("double quote"), "{}", refusal("ENV A=\"x"));
        assert!(refusal("COPY a b").contains("COPY cannot be applied"));
    }
}
