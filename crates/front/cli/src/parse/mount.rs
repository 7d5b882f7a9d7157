//! `--mount KEY=VALUE,…` and `--tmpfs TARGET[:OPTIONS]`.

use super::volume::{self, Places};
use super::{bad, boolean, not_yet};
use tare_engine::request::{MountKind, MountRequest, Propagation};
use tare_model::{Result, size};

const FLAG: &str = "--mount";

/// Every key of `--mount`, as typed; which ones fit is decided when the type is known.
#[derive(Debug, Default)]
struct Typed {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
    propagation: Option<Propagation>,
    non_recursive: bool,
    map_ids: bool,
    create: bool,
    no_copy: bool,
    subpath: Option<String>,
    size: Option<u64>,
    mode: Option<u32>,
    /// Keys that only one type knows, for the error.
    special: Vec<(&'static str, String)>,
}

/// Parses one `--mount`.
pub(crate) fn parse(text: &str, places: &Places) -> Result<MountRequest> {
    let mut typed = Typed::default();
    for field in csv(text).map_err(|why| bad(FLAG, text, why))? {
        typed.set(text, &field)?;
    }
    let target = typed.target.take().ok_or_else(|| bad(FLAG, text, "the target is missing; add dst=/PATH"))?;
    let target = volume::target_path(&target).map_err(|why| bad(FLAG, text, why))?;
    let read_only = typed.read_only;
    let kind = match typed.kind.as_deref().unwrap_or("volume") {
        "bind" => typed.bind(text, places)?,
        "volume" => typed.volume(text)?,
        "tmpfs" => typed.tmpfs(text)?,
        other @ ("image" | "npipe" | "cluster" | "glob" | "devpts" | "ramfs") => {
            return Err(not_yet(FLAG, text, format!("type {other:?} is not supported yet")));
        }
        other => return Err(bad(FLAG, text, format!("unknown type {other:?}; there are bind, volume and tmpfs"))),
    };
    Ok(MountRequest { kind, target, read_only })
}

impl Typed {
    fn set(&mut self, text: &str, field: &str) -> Result<()> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        let key = key.trim().to_ascii_lowercase();
        let flag = || match value {
            None => Ok(true),
            Some(v) => boolean(v).ok_or_else(|| bad(FLAG, text, format!("{key}={v:?} is neither true nor false"))),
        };
        let needed =
            || value.filter(|v| !v.is_empty()).ok_or_else(|| bad(FLAG, text, format!("{key} needs a value: {key}=…")));
        let mut special = |of: &'static str| self.special.push((of, key.clone()));
        match key.as_str() {
            "type" => self.kind = Some(needed()?.to_ascii_lowercase()),
            "source" | "src" => self.source = Some(needed()?.to_owned()),
            "target" | "destination" | "dst" => self.target = Some(needed()?.to_owned()),
            "readonly" | "ro" => self.read_only = flag()?,
            "consistency" => drop(needed()?),
            "bind-propagation" => {
                special("bind");
                self.propagation = Some(volume::propagation(needed()?).ok_or_else(|| {
                    bad(FLAG, text, "bind-propagation is one of private, rprivate, shared, rshared, slave, rslave")
                })?);
            }
            "bind-nonrecursive" => {
                special("bind");
                self.non_recursive = flag()?;
            }
            "bind-recursive" => {
                special("bind");
                self.non_recursive = match needed()? {
                    "enabled" => false,
                    "disabled" => true,
                    other => {
                        let why =
                            format!("bind-recursive={other} is not supported yet; there are enabled and disabled");
                        return Err(not_yet(FLAG, text, why));
                    }
                };
            }
            "idmap" => {
                special("bind");
                self.map_ids = flag()?;
            }
            "create" | "bind-create-src" => {
                special("bind");
                self.create = flag()?;
            }
            "volume-nocopy" => {
                special("volume");
                self.no_copy = flag()?;
            }
            "volume-subpath" => {
                special("volume");
                self.subpath = Some(needed()?.to_owned());
            }
            "tmpfs-size" => {
                special("tmpfs");
                self.size = Some(size::parse(needed()?)?);
            }
            "tmpfs-mode" => {
                special("tmpfs");
                self.mode = Some(mode(needed()?).map_err(|why| bad(FLAG, text, why))?);
            }
            "volume-label" | "volume-driver" | "volume-opt" | "image-subpath" => {
                return Err(not_yet(FLAG, text, format!("{key} is not supported yet")));
            }
            _ => return Err(bad(FLAG, text, format!("unknown key {key:?}"))),
        }
        Ok(())
    }

    /// Refuses keys of another type: docker does as well, and a key that does nothing hides a mistake.
    fn only(&self, text: &str, kind: &str) -> Result<()> {
        match self.special.iter().find(|(of, _)| *of != kind) {
            Some((of, key)) => Err(bad(FLAG, text, format!("{key} is for type={of}; this is type={kind}"))),
            None => Ok(()),
        }
    }

    fn bind(self, text: &str, places: &Places) -> Result<MountKind> {
        self.only(text, "bind")?;
        let source = self.source.ok_or_else(|| bad(FLAG, text, "a bind mount needs src=PATH"))?;
        Ok(MountKind::Bind {
            source: volume::absolute(&source, places),
            create: self.create,
            propagation: self.propagation,
            recursive: !self.non_recursive,
            map_ids: self.map_ids,
        })
    }

    fn volume(self, text: &str) -> Result<MountKind> {
        self.only(text, "volume")?;
        if let Some(name) = &self.source {
            let hint = "for a directory of the host add type=bind";
            volume::volume_name(name).map_err(|why| bad(FLAG, text, why).hint(hint))?;
        }
        if self.subpath.as_ref().is_some_and(|p| p.starts_with('/') || p.split('/').any(|c| c == "..")) {
            return Err(bad(FLAG, text, "volume-subpath must lie inside the volume: relative and without .."));
        }
        Ok(MountKind::Volume { name: self.source, copy_up: !self.no_copy, subpath: self.subpath })
    }

    fn tmpfs(self, text: &str) -> Result<MountKind> {
        self.only(text, "tmpfs")?;
        if self.source.is_some() {
            return Err(bad(FLAG, text, "a tmpfs has no source"));
        }
        Ok(MountKind::Tmpfs { size: self.size, mode: self.mode, options: Vec::new() })
    }
}

fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|m| *m <= 0o7777)
        .ok_or_else(|| format!("{text:?} is no mode in octal digits, as in 1777"))
}

/// One record of comma-separated values; a field may be quoted, `""` inside is one quote (RFC 4180).
pub(super) fn csv(text: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => match rest.find(',') {
                Some(i) => (rest[..i].to_owned(), &rest[i..]),
                None => (rest.to_owned(), ""),
            },
        };
        if field.is_empty() {
            return Err("a field between commas is empty");
        }
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err("text follows a closing quote"),
        }
    }
}

fn quoted_field(text: &str) -> Result<(String, &str), &'static str> {
    let mut out = String::new();
    let mut rest = text;
    loop {
        let i = rest.find('"').ok_or("a quote is not closed")?;
        out.push_str(&rest[..i]);
        rest = &rest[i + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                out.push('"');
                rest = next;
            }
            None => return Ok((out, rest)),
        }
    }
}

/// Parses one `--tmpfs`.
pub(crate) fn tmpfs(text: &str) -> Result<MountRequest> {
    const FLAG: &str = "--tmpfs";
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let target = volume::target_path(target).map_err(|why| bad(FLAG, text, why))?;
    let (mut bytes, mut bits, mut read_only, mut rest) = (None, None, false, Vec::new());
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("ro", "") => read_only = true,
            ("rw", "") => read_only = false,
            ("size", v) if v.ends_with('%') => rest.push(option.to_owned()),
            ("size", v) => bytes = Some(size::parse(v)?),
            ("mode", v) => bits = Some(mode(v).map_err(|why| bad(FLAG, text, why))?),
            (
                "exec" | "noexec" | "suid" | "nosuid" | "dev" | "nodev" | "sync" | "async" | "atime" | "noatime"
                | "diratime" | "nodiratime" | "relatime" | "norelatime" | "strictatime" | "nostrictatime" | "dirsync",
                "",
            )
            | ("nr_blocks" | "nr_inodes" | "uid" | "gid" | "mpol" | "huge", _) => rest.push(option.to_owned()),
            _ => return Err(bad(FLAG, text, format!("unknown option {option:?} of a tmpfs"))),
        }
    }
    Ok(MountRequest { kind: MountKind::Tmpfs { size: bytes, mode: bits, options: rest }, target, read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<MountRequest> {
        parse(text, &Places { cwd: "/w".into(), home: None })
    }

    #[test]
    fn each_type_has_its_keys() {
        let m = at("type=bind,src=./x,dst=/y,ro,bind-propagation=rshared,bind-nonrecursive,create,idmap").unwrap();
        assert!(m.read_only);
        assert_eq!(
            m.kind,
            MountKind::Bind {
                source: "/w/x".into(),
                create: true,
                propagation: Some(Propagation::Rshared),
                recursive: false,
                map_ids: true
            }
        );
        let m = at("source=db,target=/y,volume-nocopy=true,volume-subpath=a/b,readonly=false").unwrap();
        assert!(!m.read_only);
        let subpath = Some("a/b".into());
        assert_eq!(m.kind, MountKind::Volume { name: Some("db".into()), copy_up: false, subpath });
        let m = at("type=tmpfs,destination=/y,tmpfs-size=1m,tmpfs-mode=1770").unwrap();
        assert_eq!(m.kind, MountKind::Tmpfs { size: Some(1 << 20), mode: Some(0o1770), options: vec![] });
        let m = at("dst=/y").unwrap();
        assert_eq!(m.kind, MountKind::Volume { name: None, copy_up: true, subpath: None });
    }

    #[test]
    fn quotes_protect_commas() {
        let m = at(r#"type=bind,"src=/a,b","dst=/x""y""#).unwrap();
        assert_eq!(m.target, "/x\"y");
        assert!(matches!(m.kind, MountKind::Bind { source, .. } if source.as_os_str() == "/a,b"));
    }

    #[test]
    fn wrong_mounts_say_what_is_wrong() {
        for (text, why) in [
            ("type=bind,src=/a", "add dst="),
            ("type=bind,dst=/a", "needs src="),
            ("type=bnd,src=/a,dst=/b", "unknown type \"bnd\""),
            ("type=image,src=a,dst=/b", "not supported yet"),
            ("type=bind,src=/a,dst=/b,tmpfs-size=1m", "tmpfs-size is for type=tmpfs; this is type=bind"),
            ("src=/a,dst=/b", "no name of a volume"),
            ("type=tmpfs,src=x,dst=/b", "no source"),
            ("dst=/b,colour=red", "unknown key \"colour\""),
            ("dst=/b,,ro", "is empty"),
            ("dst=/b,ro=maybe", "neither true nor false"),
            ("dst=/b,volume-subpath=../x,src=db", "inside the volume"),
            ("type=tmpfs,dst=/b,tmpfs-mode=9", "octal"),
        ] {
            let e = at(text).unwrap_err().to_string();
            assert!(e.contains(why), "{text}: {e}");
        }
    }

    #[test]
    fn tmpfs_options_pass_through_when_the_kernel_knows_them() {
        let m = tmpfs("/run:size=64m,mode=755,noexec,uid=5,ro").unwrap();
        assert!(m.read_only);
        let options = vec!["noexec".into(), "uid=5".into()];
        assert_eq!(m.kind, MountKind::Tmpfs { size: Some(64 << 20), mode: Some(0o755), options });
        assert!(tmpfs("/run:colour=red").is_err());
        assert!(tmpfs("run").is_err());
    }
}
