//! A bundle: its directory, its configuration, and what can be known to be wrong with it before anything is made.

use std::path::{Path, PathBuf};
use tare_model::runtime_spec::{Hook, Hooks, Linux, Process, Spec};
use tare_model::{Context, Error, Kind, Result};

/// A bundle whose configuration makes sense as far as can be told.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Absolute.
    pub(crate) directory: PathBuf,
    /// config.json as it was read.
    pub(crate) text: Vec<u8>,
    /// The same, understood.
    pub(crate) spec: Spec,
    /// Absolute.
    pub(crate) rootfs: PathBuf,
}

/// Newest minor version of the specification's major version 1 that is understood.
const NEWEST_MINOR: u32 = 3;

impl Bundle {
    /// Reads and checks a bundle.
    ///
    /// # Errors
    /// `Kind::NotFound` without a config.json; `Kind::Invalid` with the field that is wrong.
    pub(crate) fn read(directory: &Path) -> Result<Bundle> {
        let directory = std::fs::canonicalize(directory).during("open bundle", directory.display())?;
        let config = directory.join("config.json");
        let text = std::fs::read(&config).during("read", config.display())?;
        let spec: Spec = serde_json::from_slice(&text).map_err(|e| malformed(&config, &text, &e))?;
        check(&spec).map_err(|e| e.during("read", config.display()))?;
        let root = spec.root.as_ref().map_or("", |r| &r.path);
        let rootfs = directory.join(root);
        let rootfs = std::fs::canonicalize(&rootfs)
            .map_err(|e| Error::io("open root.path", rootfs.display(), e).during("read", config.display()))?;
        Ok(Bundle { directory, text, spec, rootfs })
    }
}

fn malformed(config: &Path, text: &[u8], error: &serde_json::Error) -> Error {
    let field = field_at(text, error.line(), error.column());
    let why = if field.is_empty() { error.to_string() } else { format!("{field}: {error}") };
    Error::new(Kind::Invalid, "read", config.display()).because(why)
}

/// Something that is wrong with a field.
fn wrong(field: impl std::fmt::Display, why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Invalid, "use field", field).because(why)
}

fn check(spec: &Spec) -> Result<()> {
    check_version(&spec.oci_version)?;
    let root = spec.root.as_ref().ok_or_else(|| wrong("root", "it is missing"))?;
    if root.path.is_empty() {
        return Err(wrong("root.path", "it is empty"));
    }
    let process = spec.process.as_ref().ok_or_else(|| wrong("process", "it is missing"))?;
    check_process("process", process)?;
    for (i, mount) in spec.mounts.iter().enumerate() {
        if mount.destination.is_empty() || mount.destination.contains('\0') {
            return Err(wrong(
                format_args!("mounts[{i}].destination"),
                format_args!("{:?} is no path", mount.destination),
            ));
        }
    }
    if let Some(hooks) = &spec.hooks {
        check_hooks(hooks)?;
    }
    let linux = spec.linux.as_ref().ok_or_else(|| wrong("linux", "it is missing"))?;
    check_linux(linux)
}

/// Semantic versioning: an older minor version is contained in a newer one.
fn check_version(version: &str) -> Result<()> {
    let unknown = |why: &str| wrong("ociVersion", format_args!("{version:?} {why}"));
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<u32> = numbers.split('.').map_while(|p| p.parse().ok()).collect();
    let [major, minor, _] = parts[..] else {
        return Err(unknown("is no version of the form 1.2.3"));
    };
    if numbers.split('.').count() != 3 {
        return Err(unknown("is no version of the form 1.2.3"));
    }
    if major != 1 || minor > NEWEST_MINOR {
        return Err(unknown("is not supported: 1.0.0 to 1.3 are"));
    }
    Ok(())
}

/// Checks a process object, of a configuration or of `exec`'s file. `field`: where it stands.
pub(crate) fn check_process(field: &str, process: &Process) -> Result<()> {
    if process.args.is_empty() {
        return Err(wrong(format_args!("{field}.args"), "args must not be empty"));
    }
    if process.args[0].is_empty() {
        return Err(wrong(format_args!("{field}.args[0]"), "the program has no name"));
    }
    if !process.cwd.starts_with('/') {
        return Err(wrong(
            format_args!("{field}.cwd"),
            format_args!("Cwd property must not be empty and must be absolute, and {:?} is not", process.cwd),
        ));
    }
    for (i, limit) in process.rlimits.iter().enumerate() {
        if process.rlimits[..i].iter().any(|l| l.kind == limit.kind) {
            return Err(wrong(
                format_args!("{field}.rlimits[{i}].type"),
                format_args!("{} is there twice", limit.kind),
            ));
        }
    }
    // getenv(3) would not find it, and what reads the environment otherwise would disagree about it.
    if let Some(i) = process.env.iter().position(|e| e.find('=').is_none_or(|at| at == 0)) {
        let why = format_args!("invalid environment variable: {:?} is not NAME=value", process.env[i]);
        return Err(wrong(format_args!("{field}.env[{i}]"), why));
    }
    let zero = |texts: &[String]| texts.iter().position(|t| t.contains('\0'));
    for (name, texts) in [("args", &process.args), ("env", &process.env)] {
        if let Some(i) = zero(texts) {
            return Err(wrong(format_args!("{field}.{name}[{i}]"), "it contains a zero byte"));
        }
    }
    if let Some(i) = process.env.iter().position(|v| v.find('=').is_none_or(|at| at == 0)) {
        return Err(wrong(
            format_args!("{field}.env[{i}]"),
            format_args!("invalid environment variable: {:?} is not NAME=VALUE", process.env[i]),
        ));
    }
    Ok(())
}

fn check_hooks(hooks: &Hooks) -> Result<()> {
    let kinds: [(&str, &[Hook]); 6] = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (kind, list) in kinds {
        for (i, hook) in list.iter().enumerate() {
            if !hook.path.starts_with('/') {
                return Err(wrong(
                    format_args!("hooks.{kind}[{i}].path"),
                    format_args!("{:?} is not absolute", hook.path),
                ));
            }
            if hook.timeout.is_some_and(|t| t <= 0) {
                return Err(wrong(format_args!("hooks.{kind}[{i}].timeout"), "it must be greater than zero"));
            }
        }
    }
    Ok(())
}

fn check_linux(linux: &Linux) -> Result<()> {
    for (name, paths) in [("maskedPaths", &linux.masked_paths), ("readonlyPaths", &linux.readonly_paths)] {
        if let Some(i) = paths.iter().position(|p| !p.starts_with('/')) {
            return Err(wrong(format_args!("linux.{name}[{i}]"), format_args!("{:?} is not absolute", paths[i])));
        }
    }
    for (i, device) in linux.devices.iter().enumerate() {
        if !device.path.starts_with('/') {
            return Err(wrong(
                format_args!("linux.devices[{i}].path"),
                format_args!("{:?} is not absolute", device.path),
            ));
        }
    }
    for (i, namespace) in linux.namespaces.iter().enumerate() {
        if namespace.path.as_ref().is_some_and(|p| !p.is_empty() && !p.starts_with('/')) {
            return Err(wrong(format_args!("linux.namespaces[{i}].path"), "it is not absolute"));
        }
    }
    Ok(())
}

/// The field that a reader of JSON was at, such as `process.args[1]`, by line and column (both from 1).
fn field_at(text: &[u8], line: usize, column: usize) -> String {
    let start = text.split_inclusive(|b| *b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum::<usize>();
    let end = (start + column).min(text.len());
    let mut path: Vec<Level> = Vec::new();
    let mut at = 0;
    while at < end {
        match text[at] {
            b'{' => path.push(Level::Object(String::new())),
            b'[' => path.push(Level::Array(0)),
            b'}' | b']' if at + 1 < end => drop(path.pop()),
            b',' => {
                if let Some(Level::Array(n)) = path.last_mut() {
                    *n += 1;
                }
            }
            b'"' => {
                let (word, next) = string(text, at);
                let colon = text[next..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b':');
                if let (Some(Level::Object(key)), true) = (path.last_mut(), colon) {
                    *key = word;
                }
                at = next;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    let mut out = String::new();
    for level in &path {
        match level {
            Level::Object(key) if out.is_empty() || key.is_empty() => out.push_str(key),
            Level::Object(key) => out.push_str(&format!(".{key}")),
            Level::Array(n) => out.push_str(&format!("[{n}]")),
        }
    }
    out
}

enum Level {
    Object(String),
    Array(usize),
}

/// The string that begins at `at`, and where it ends.
fn string(text: &[u8], at: usize) -> (String, usize) {
    let mut end = at + 1;
    while end < text.len() && text[end] != b'"' {
        end += if text[end] == b'\\' { 2 } else { 1 };
    }
    let end = end.min(text.len());
    (String::from_utf8_lossy(&text[at + 1..end]).into_owned(), (end + 1).min(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn good() -> Value {
        json!({"ociVersion": "1.0.2-dev", "root": {"path": "rootfs"}, "process": {"args": ["sh"], "cwd": "/"},
            "linux": {"namespaces": [{"type": "mount"}]}})
    }

    fn read(config: &str) -> Result<Bundle> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("rootfs")).unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        Bundle::read(dir.path())
    }

    #[test]
    fn the_root_is_relative_to_the_bundle() {
        let bundle = read(&good().to_string()).unwrap();
        assert_eq!(bundle.rootfs, bundle.directory.join("rootfs"));
        assert_eq!(bundle.spec.process.unwrap().args, ["sh"]);
    }

    #[test]
    fn versions_from_1_0_to_1_3_are_understood() {
        for version in ["1.0.0", "1.0.2-dev", "1.1.0-rc.2", "1.2.1", "1.3.0+x"] {
            assert!(check_version(version).is_ok(), "{version}");
        }
        for version in ["", "1", "1.2", "2.0.0", "0.9.0", "1.4.0", "1.0.0.0", "one.0.0"] {
            let e = check_version(version).unwrap_err();
            assert!(e.to_string().contains("ociVersion"), "{e}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases: [(&str, Value, &str); 13] = [
            ("/process/env", json!(["A=1", "B"]), "process.env[1]: invalid environment variable"),
            ("/ociVersion", json!("3.0.0"), "ociVersion"),
            ("/root/path", json!("nowhere"), "root.path"),
            ("/root/path", json!(""), "root.path"),
            ("/process/args", json!([]), "process.args"),
            ("/process/cwd", json!("tmp"), "process.cwd"),
            ("/process/args", json!(["a", "b\0c"]), "process.args[1]"),
            ("/process/args", json!(["a", 7]), "process.args[1]: invalid type"),
            ("/process/cwd", json!({}), "process.cwd: invalid type"),
            ("/mounts", json!([{"destination": "/a"}, {"destination": ""}]), "mounts[1].destination"),
            ("/hooks", json!({"poststop": [{"path": "x"}]}), "hooks.poststop[0].path"),
            ("/linux/maskedPaths", json!(["proc"]), "linux.maskedPaths[0]"),
            ("/linux/namespaces", json!([{"type": "nope"}]), "linux.namespaces[0].type"),
        ];
        for (pointer, value, expected) in cases {
            let mut config = good();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[key] = value;
            let e = read(&config.to_string()).unwrap_err();
            assert!(e.to_string().contains(expected), "{expected}: {e}");
            let e = read(&serde_json::to_string_pretty(&config).unwrap()).unwrap_err();
            assert!(e.to_string().contains(expected), "{expected}: {e}");
        }
        for missing in ["root", "process", "linux", "ociVersion"] {
            let mut config = good();
            config.as_object_mut().unwrap().remove(missing);
            let e = read(&config.to_string()).unwrap_err();
            assert!(e.to_string().contains(missing), "{e}");
        }
    }
}
