//! `-v [SOURCE:]TARGET[:OPTIONS]`: bind mounts, named and anonymous volumes.

use super::bad;
use std::path::{Path, PathBuf};
use tare_engine::request::{MountKind, MountRequest, Propagation};
use tare_model::Result;

const FLAG: &str = "--volume";

/// Where a relative source and `~` begin.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The caller's working directory.
    pub(crate) cwd: PathBuf,
    /// The caller's home directory.
    pub(crate) home: Option<PathBuf>,
}

/// What `-v` asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) mount: MountRequest,
    /// `z` or `Z`: relabel for SELinux. Means nothing on a host without SELinux.
    pub(crate) relabel: bool,
}

/// Parses one `-v`.
pub(crate) fn parse(text: &str, places: &Places) -> Result<Volume> {
    let fields: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match fields[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(bad(FLAG, text, "expected [SOURCE:]TARGET[:OPTIONS]")),
    };
    let target = target_path(target).map_err(|why| bad(FLAG, text, why))?;
    let options = Options::parse(options).map_err(|why| bad(FLAG, text, why))?;
    let kind = match source {
        Some("") => return Err(bad(FLAG, text, "the source is empty")),
        Some(source) if is_path(source) => options.bind(absolute(source, places)),
        Some(name) => options.volume(Some(name)),
        None => options.volume(None),
    }
    .map_err(|why| bad(FLAG, text, why))?;
    Ok(Volume { mount: MountRequest { kind, target, read_only: options.read_only }, relabel: options.relabel })
}

#[derive(Debug, Default)]
struct Options {
    read_only: bool,
    relabel: bool,
    no_copy: bool,
    map_ids: bool,
    propagation: Option<Propagation>,
}

impl Options {
    fn parse(text: &str) -> Result<Self, String> {
        let mut o = Options::default();
        for word in text.split(',').filter(|w| !w.is_empty()) {
            match word {
                "ro" => o.read_only = true,
                "rw" => o.read_only = false,
                "z" | "Z" => o.relabel = true,
                "nocopy" => o.no_copy = true,
                "idmap" => o.map_ids = true,
                // Docker Desktop's words for its file sharing; docker on Linux accepts them without effect as well.
                "consistent" | "cached" | "delegated" => {}
                _ => {
                    o.propagation = Some(propagation(word).ok_or_else(|| {
                        format!(
                            "unknown option {word:?}; there are ro, rw, z, Z, nocopy, idmap and [r]private, [r]shared, [r]slave"
                        )
                    })?);
                }
            }
        }
        Ok(o)
    }

    fn bind(&self, source: PathBuf) -> Result<MountKind, String> {
        if self.no_copy {
            return Err("nocopy is for volumes; this is a bind mount".into());
        }
        Ok(MountKind::Bind {
            source,
            create: false,
            propagation: self.propagation,
            recursive: true,
            map_ids: self.map_ids,
        })
    }

    fn volume(&self, name: Option<&str>) -> Result<MountKind, String> {
        if self.propagation.is_some() {
            return Err("propagation is for bind mounts; this is a volume".into());
        }
        if let Some(name) = name {
            volume_name(name)?;
        }
        Ok(MountKind::Volume { name: name.map(Into::into), copy_up: !self.no_copy, subpath: None })
    }
}

/// Parses a propagation's name.
pub(crate) fn propagation(word: &str) -> Option<Propagation> {
    Some(match word {
        "private" => Propagation::Private,
        "rprivate" => Propagation::Rprivate,
        "shared" => Propagation::Shared,
        "rshared" => Propagation::Rshared,
        "slave" => Propagation::Slave,
        "rslave" => Propagation::Rslave,
        _ => return None,
    })
}

/// Checks a target and gives it its simplest form.
pub(crate) fn target_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("the target {text:?} is not an absolute path"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err("the target cannot be /".into());
    }
    Ok(format!("/{}", parts.join("/")))
}

/// Checks the name of a volume: docker's `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn volume_name(name: &str) -> Result<(), String> {
    let ok = name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if ok {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name of a volume (two or more letters, digits, _ . -, beginning with a letter or digit); a \
         directory of the host begins with / or ./"
    ))
}

fn is_path(source: &str) -> bool {
    source.starts_with(['/', '.', '~'])
}

/// The absolute form of a path as it was typed.
pub(crate) fn absolute(source: &str, places: &Places) -> PathBuf {
    let path = match (source.strip_prefix('~'), &places.home) {
        (Some(""), Some(home)) => home.clone(),
        (Some(rest), Some(home)) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => places.cwd.join(source),
    };
    normal(&path)
}

/// Without `.` and `..`, as Go's `filepath.Clean`: symbolic links are the engine's business.
fn normal(path: &Path) -> PathBuf {
    use std::path::Component as C;
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            C::ParentDir => {
                out.pop();
            }
            C::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places { cwd: "/w/d".into(), home: Some("/home/u".into()) }
    }

    fn bind(source: &str) -> MountKind {
        MountKind::Bind { source: source.into(), create: false, propagation: None, recursive: true, map_ids: false }
    }

    fn volume(name: Option<&str>) -> MountKind {
        MountKind::Volume { name: name.map(Into::into), copy_up: true, subpath: None }
    }

    #[test]
    fn sources_are_paths_names_or_absent() {
        for (text, kind, target) in [
            ("/data", volume(None), "/data"),
            ("db:/data/", volume(Some("db")), "/data"),
            ("/srv:/data", bind("/srv"), "/data"),
            ("./x:/data", bind("/w/d/x"), "/data"),
            (".:/data", bind("/w/d"), "/data"),
            ("../x:/a/../data", bind("/w/x"), "/data"),
            ("~/x:/data", bind("/home/u/x"), "/data"),
            ("~:/data", bind("/home/u"), "/data"),
        ] {
            let v = parse(text, &places()).unwrap();
            assert_eq!((v.mount.kind, v.mount.target.as_str()), (kind, target), "{text}");
        }
    }

    #[test]
    fn options_follow_the_second_colon() {
        let v = parse("/a:/b:ro,rslave,Z", &places()).unwrap();
        assert!(v.mount.read_only && v.relabel);
        assert!(matches!(v.mount.kind, MountKind::Bind { propagation: Some(Propagation::Rslave), .. }));
        let v = parse("db:/b:nocopy", &places()).unwrap();
        assert!(matches!(v.mount.kind, MountKind::Volume { copy_up: false, .. }));
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for (text, why) in [
            ("data", "not an absolute path"),
            ("a b:/x", "no name of a volume"),
            (":/x", "source is empty"),
            ("/a:/", "cannot be /"),
            ("/a:/b:maybe", "unknown option \"maybe\""),
            ("/a:/b:nocopy", "nocopy is for volumes"),
            ("db:/b:shared", "propagation is for bind mounts"),
            ("/a:/b:ro:x", "expected [SOURCE:]TARGET"),
            ("x:/b", "two or more"),
        ] {
            let e = parse(text, &places()).unwrap_err().to_string();
            assert!(e.contains(why) && e.starts_with("invalid --volume"), "{text}: {e}");
        }
    }
}
